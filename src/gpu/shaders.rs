//! The kernels' texts: built in, or from a folder in which an engineer edits them (`--shaders`).

use super::lock;
use crate::{Error, Result};
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub const PRELUDE: &str = include_str!("../../shaders/prelude.wgsl");

/// What several kernels have in common; a line `//#include "<name>.wgsl"` asks for it. It comes behind the kernel, whose
/// lines keep their numbers, so it declares no `override`: naga must know them before what depends on them.
const PARTS: [(&str, &str); 1] = [("conv2d/product", PRODUCT)];
pub const PRODUCT: &str = include_str!("../../shaders/conv2d/product.wgsl");
const INCLUDE: &str = "//#include ";

/// How the kernels for matrix units begin.
const MATRICES: &str = "enable wgpu_cooperative_matrix;";

/// One WGSL file.
struct File {
    path: PathBuf,
    text: Cow<'static, str>,
}

/// A kernel's file, what it includes, and the prelude.
pub(super) struct Kernel {
    files: Vec<Arc<File>>,
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
///
/// # Panics
/// Where it includes what is not there.
pub fn source(text: &str, scalars: Scalars) -> String {
    let parts = parts(text).map(|part| part.expect("a part").1);
    let texts: Vec<&str> = [text].into_iter().chain(parts).chain([PRELUDE]).collect();
    join(&texts, scalars)
}

/// Name and text of what a kernel includes, or the name of what is not there.
fn parts(
    text: &str,
) -> impl Iterator<Item = std::result::Result<&(&'static str, &'static str), &str>> {
    text.lines().filter_map(|line| {
        let name = line.strip_prefix(INCLUDE)?.trim().trim_matches('"');
        let name = name.strip_suffix(".wgsl").unwrap_or(name);
        Some(PARTS.iter().find(|part| part.0 == name).ok_or(name))
    })
}

/// The file whose lines are to be counted comes first.
fn join(texts: &[&str], scalars: Scalars) -> String {
    let params = match scalars.immediates {
        true => "var<immediate> params: Params;",
        false => "@group(1) @binding(0) var<uniform> params: Params;",
    };
    // `enable` must stand before everything: on the first line, so that lines stay what they are.
    let (f16, real) = match scalars.half {
        true => (
            "enable f16; ",
            "alias real = f16;\nconst REAL_MAX = 65504.0;",
        ),
        false => ("", "alias real = f32;\nconst REAL_MAX = 3.4e38;"),
    };
    let (enable, matrices) = match texts.iter().any(|text| text.starts_with(MATRICES)) {
        true => (MATRICES, matrix_types(scalars)),
        false => ("", String::new()),
    };
    let result = if scalars.half_result { "f16" } else { "f32" };
    let bare = |text: &&'_ str| text.strip_prefix(MATRICES).unwrap_or(text).to_string();
    let (first, rest): (_, Vec<String>) = (bare(&texts[0]), texts[1..].iter().map(bare).collect());
    let rest = rest.join("\n");
    format!("{f16}{enable}{first}\n{params}\n{real}\nalias result = {result};\n{matrices}{rest}")
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
        let file = self.file(name, text)?;
        let mut files = vec![file.clone()];
        for part in parts(&file.text) {
            let (name, text) = part.map_err(|name| {
                let known = PARTS.map(|(name, _)| format!("{name}.wgsl")).join(", ");
                let message =
                    format!("it includes {name}.wgsl, which is not there; expected {known}");
                Error::file(&file.path, message)
            })?;
            files.push(self.file(name, text)?);
        }
        files.push(self.file("prelude", PRELUDE)?);
        Ok(Kernel {
            files,
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
        self.from(0)
    }

    /// With file `first` in front.
    fn from(&self, first: usize) -> String {
        let mut files = self.files.clone();
        files.swap(0, first);
        let texts: Vec<&str> = files.iter().map(|file| &*file.text).collect();
        join(&texts, self.scalars)
    }

    /// Does it know of f16?
    pub fn is_generic(&self) -> bool {
        let (_prelude, own) = self.files.split_last().expect("a prelude");
        own.iter().any(|file| file.text.contains("real"))
    }

    /// Why the driver refused it: naga's words with the file's own line numbers, or else the driver's.
    pub fn explain(&self, refusal: &str) -> Error {
        for (i, file) in self.files.iter().enumerate() {
            let path = file.path.display().to_string();
            if let Some((line, message)) = complaint(&self.from(i), &path)
                && line <= file.text.lines().count()
            {
                return Error::file(&file.path, message.trim_start_matches("error: "));
            }
        }
        Error::file(&self.files[0].path, refusal)
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
            files: vec![
                file("mine/foo.wgsl", text),
                file("mine/prelude.wgsl", prelude),
            ],
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
        // An included file.
        let mut three = kernel(GOOD, PRELUDE);
        let part = File {
            path: "mine/part.wgsl".into(),
            text: "\nfn two() -> f32 { return wto; }\n".into(),
        };
        three.files.insert(1, Arc::new(part));
        let error = three.explain("refused").to_string();
        assert!(
            error.contains("mine/part.wgsl:2:") && error.contains("wto"),
            "{error}"
        );
        let error = kernel(GOOD, PRELUDE).explain("binding 7 is missing");
        assert_eq!(error.to_string(), "mine/foo.wgsl: binding 7 is missing");
    }

    #[test]
    fn of_the_files_of_a_kernel_the_wrong_one_is_named() {
        const PLACES: [&str; 3] = ["mine/kernel", "mine/product", "mine/prelude"];
        for text in [
            include_str!("../../shaders/conv2d/direct.wgsl"),
            include_str!("../../shaders/conv2d/matrix.wgsl"),
        ] {
            for (wrong, place) in PLACES.iter().enumerate() {
                let mut texts = [text, PRODUCT, PRELUDE].map(String::from);
                let line = texts[wrong].lines().count() + 1;
                texts[wrong].push_str("fn broken() -> f33 {}\n");
                let mut kernel = kernel("", "");
                let files = PLACES.into_iter().zip(texts);
                kernel.files = files
                    .map(|(place, text)| {
                        let (path, text) = (place.into(), text.into());
                        Arc::new(File { path, text })
                    })
                    .collect();
                let error = kernel.explain("refused").to_string();
                assert!(error.contains(&format!("{place}:{line}:16")), "{error}");
                for other in PLACES.iter().filter(|other| other != &place) {
                    assert!(!error.contains(other), "{error}");
                }
            }
        }
    }
}
