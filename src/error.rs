//! The one error type. Wrong user input is an error that names the file or option, what was
//! found, what was expected and what to do; it is never a panic.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator was given tensors that do not fit each other.
    #[error("{op}: expected {expected}, found {found}")]
    Shape {
        op: &'static str,
        expected: String,
        found: String,
    },
    /// Wrong usage: an option, a configuration key or a value. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// A file or folder that cannot be used.
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    /// Work that failed without a file to blame.
    #[error("{0}")]
    Failed(String),
    /// NaN, an infinity, or what f16 would make one, where only finite numbers may be.
    #[error("{what}: expected finite numbers, found {found} at element {index}; {advice}")]
    NotFinite {
        what: String,
        found: f32,
        index: usize,
        advice: &'static str,
    },
    /// The device ran out of memory.
    #[error(
        "out of memory on {device}: {bytes} bytes beside the {in_use} in use could not be allocated{limit}; use a smaller train.batch or input.image_size, or `--device cpu`"
    )]
    OutOfMemory {
        device: String,
        bytes: u64,
        in_use: u64,
        /// The limit that was set, in words.
        limit: String,
    },
    /// The device was lost, or refused a command.
    #[error("device {device}: {message}")]
    Device { device: String, message: String },
}

impl Error {
    pub fn shape(op: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Shape {
            op,
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub fn file(path: impl AsRef<Path>, message: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.as_ref().to_path_buf(),
            message: message.to_string(),
        }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Looks whether every value is a number, and in size below `limit`; `told` gives what they are and what to do.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for the first that is not.
    pub fn check_finite(
        values: &[f32],
        limit: f32,
        told: impl FnOnce() -> (String, &'static str),
    ) -> Result<()> {
        // NaN is below nothing.
        let holds = |value: &f32| value.abs() < limit;
        // Not `all`, which stops at the first: such a loop is not vectorised.
        if values.iter().fold(true, |all, value| all & holds(value)) {
            return Ok(());
        }
        let index = values.iter().take_while(|value| holds(value)).count();
        let (what, advice) = told();
        Err(Self::NotFinite {
            what,
            found: values[index],
            index,
            advice,
        })
    }

    /// 2 for wrong usage, 1 for failed work.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
