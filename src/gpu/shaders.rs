//! The kernels' texts: built in, or from a folder in which an engineer edits them (`--shaders`).

use super::lock;
use crate::{Error, Result};
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const PRELUDE: &str = include_str!("../../shaders/prelude.wgsl");

/// How the kernels for matrix units begin.
const MATRICES: &str = "enable wgpu_cooperative_matrix;";

/// One WGSL file.
struct File {
    path: PathBuf,
    text: Cow<'static, str>,
}

/// A kernel's file and the prelude that goes with it.
pub(super) struct Kernel {
    file: Arc<File>,
    prelude: Arc<File>,
    scalars: Scalars,
}

/// What the program declares for every kernel.
#[derive(Clone, Copy, Debug)]
pub struct Scalars {
    /// Parameters come as immediates, otherwise as a uniform.
    pub immediates: bool,
    /// `real` is f16, otherwise f32.
    pub half: bool,
    /// So is `result`.
    pub half_result: bool,
    /// Rows of a matrix, for matrix units.
    pub matrix_side: u32,
}

pub(super) struct Shaders {
    folder: Option<PathBuf>,
    immediates: bool,
    matrix_side: u32,
    /// Every file is read once, so that a run uses one version of it.
    files: Mutex<HashMap<&'static str, Arc<File>>>,
}

/// The whole WGSL text of a built-in kernel, as compiled and as validated by the tests.
pub fn source(text: &str, scalars: Scalars) -> String {
    join(text, PRELUDE, scalars)
}

/// The file whose lines are to be counted comes first.
fn join(first: &str, second: &str, scalars: Scalars) -> String {
    let params = match scalars.immediates {
        true => "var<immediate> params: Params;",
        false => "@group(1) @binding(0) var<uniform> params: Params;",
    };
    let matrices = match first.starts_with(MATRICES) || second.starts_with(MATRICES) {
        true => matrix_types(scalars),
        false => String::new(),
    };
    // `enable` must stand before everything: on the first line, so that lines stay what they are.
    let (enable, real) = match scalars.half {
        true => (
            "enable f16; ",
            "alias real = f16;\nconst REAL_MAX = 65504.0;",
        ),
        false => ("", "alias real = f32;\nconst REAL_MAX = 3.4e38;"),
    };
    let result = if scalars.half_result { "f16" } else { "f32" };
    format!("{enable}{first}\n{params}\n{real}\nalias result = {result};\n{matrices}{second}")
}

fn matrix_types(scalars: Scalars) -> String {
    let side = scalars.matrix_side;
    let real = if scalars.half { "f16" } else { "f32" };
    format!(
        "const SIDE = {side}u;\nalias Left = coop_mat{side}x{side}<{real}, A>;\n\
         alias Right = coop_mat{side}x{side}<{real}, B>;\nalias Sum = coop_mat{side}x{side}<f32, C>;\n"
    )
}

impl Shaders {
    pub fn new(folder: Option<PathBuf>, immediates: bool, matrix_side: Option<u32>) -> Self {
        Self {
            folder,
            immediates,
            // Without matrix units no kernel asks.
            matrix_side: matrix_side.unwrap_or(8),
            files: Mutex::default(),
        }
    }

    /// `shaders/<name>.wgsl`, of which `text` is built in; `half` where it is bound to numbers in f16,
    /// `half_result` where it writes such.
    pub fn kernel(
        &self,
        name: &'static str,
        text: &'static str,
        [half, half_result]: [bool; 2],
    ) -> Result<Kernel> {
        Ok(Kernel {
            file: self.file(name, text)?,
            prelude: self.file("prelude", PRELUDE)?,
            scalars: Scalars {
                immediates: self.immediates,
                half,
                half_result,
                matrix_side: self.matrix_side,
            },
        })
    }

    fn file(&self, name: &'static str, built_in: &'static str) -> Result<Arc<File>> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.read(name, built_in)?);
        files.insert(name, file.clone());
        Ok(file)
    }

    fn read(&self, name: &str, built_in: &'static str) -> Result<File> {
        let name = format!("{name}.wgsl");
        if let Some(folder) = &self.folder {
            let path = folder.join(&name);
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let text = text.into();
                    return Ok(File { path, text });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    tracing::warn!("{} is not there: the built-in one runs", path.display());
                }
                Err(error) => return Err(Error::file(path, error)),
            }
        }
        Ok(File {
            path: PathBuf::from("shaders").join(name),
            text: built_in.into(),
        })
    }
}

impl Kernel {
    pub fn source(&self) -> String {
        join(&self.file.text, &self.prelude.text, self.scalars)
    }

    /// Does it know of f16?
    pub fn is_generic(&self) -> bool {
        self.file.text.contains("real")
    }

    /// Why the driver refused it: naga's words with the file's own line numbers, or else the driver's.
    pub fn explain(&self, refusal: &str) -> Error {
        for (first, second) in [(&self.file, &self.prelude), (&self.prelude, &self.file)] {
            let source = join(&first.text, &second.text, self.scalars);
            let path = first.path.display().to_string();
            if let Some((line, message)) = complaint(&source, &path)
                && line <= first.text.lines().count()
            {
                return Error::file(&first.path, message.trim_start_matches("error: "));
            }
        }
        Error::file(&self.file.path, refusal)
    }
}

/// What naga says of a text, and of which line.
fn complaint(source: &str, path: &str) -> Option<(usize, String)> {
    let (location, message) = match wgsl::parse_str(source) {
        Err(error) => (
            error.location(source),
            error.emit_to_string_with_path(source, path),
        ),
        Ok(module) => {
            let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
            let error = validator.validate(&module).err()?;
            let message = error.emit_to_string_with_path(source, path);
            (error.location(source), message)
        }
    };
    Some((location.map_or(1, |at| at.line_number as usize), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(text: &'static str, prelude: &'static str) -> Kernel {
        let file = |name: &str, text: &'static str| {
            Arc::new(File {
                path: name.into(),
                text: text.into(),
            })
        };
        Kernel {
            file: file("mine/foo.wgsl", text),
            prelude: file("mine/prelude.wgsl", prelude),
            scalars: Scalars {
                immediates: true,
                half: false,
                half_result: false,
                matrix_side: 8,
            },
        }
    }

    #[test]
    fn lines_are_those_of_the_file_that_is_wrong() {
        const GOOD: &str = "struct Params { count: u32 }\n@compute @workgroup_size(1)\nfn main() { let a = one(); }\n";
        const PRELUDE: &str = "\n\nfn one() -> f32 { return 1.0; }\n";
        for (text, prelude, place, words) in [
            (
                "struct Params { count: u32 }\n\nfn main() -> f33 { }\n",
                PRELUDE,
                "mine/foo.wgsl:3:14",
                "f33",
            ),
            // It parses; the validator refuses it.
            (
                "struct Params { count: u32 }\nfn two() -> f32 { return 1u; }\n",
                PRELUDE,
                "mine/foo.wgsl:2:",
                "return",
            ),
            (
                GOOD,
                "\n\n\nfn one() -> f32 { retrun 1.0; }\n",
                "mine/prelude.wgsl:4:26",
                "retrun",
            ),
        ] {
            let error = kernel(text, prelude).explain("refused").to_string();
            assert!(error.contains(place) && error.contains(words), "{error}");
            assert_eq!(error.matches("error: ").count(), 0, "{error}");
        }
        let error = kernel(GOOD, PRELUDE).explain("binding 7 is missing");
        assert_eq!(error.to_string(), "mine/foo.wgsl: binding 7 is missing");
    }
}
