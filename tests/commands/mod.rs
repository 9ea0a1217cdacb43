//! The built program, run as a user runs it, on tiny folders of drawn parts.

mod bad_files;
mod bad_models;
mod bad_usage;
mod cache;
mod data_check;
mod demo;
mod good;
mod isa;
mod kernels;
mod licenses;
mod memory;
mod precision;
mod profile;
mod real_files;
mod shipped;
mod subgroups;
mod threshold;
mod weights;
mod wheels;
mod white;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use astray::cli::draw::draw_dataset;
use astray::data::{DepthMap, Meaning};
use astray::nn::random::named_tensor;
use astray::nn::weights::write_safetensors;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_astray");

/// Makes a training a matter of a tenth of a second.
const SMALL: [&str; 10] = [
    "input.image_size=64",
    "depth.size=64",
    "backbone.name=efficientnet_b0",
    "backbone.tap=4",
    "teacher.hidden=8",
    "student.width=8",
    "student.blocks=1",
    "train.teacher_epochs=1",
    "train.student_epochs=1",
    "train.calibration=held-out",
];

/// Makes a training fail in its first epochs: whoever trains before looking where the result goes
/// tells of the loss, not of the place.
const DIVERGING: &str = "--set train.learning_rate=1e38 --set train.teacher_epochs=9";

/// A folder to work in, and what ran there.
struct Workplace(TempDir);

struct Run {
    status: i32,
    out: String,
    err: String,
}

impl Run {
    fn ok(self) -> String {
        assert_eq!(self.status, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }
}

impl Workplace {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env_remove("RUST_LOG");
        command
    }

    /// Runs `astray <line>`, split at blanks.
    fn run(&self, line: &str) -> Run {
        self.run_with(line, "")
    }

    /// As `run`, with text on standard input.
    fn run_with(&self, line: &str, input: &str) -> Run {
        let mut command = self.command(PROGRAM);
        command.args(line.split_whitespace());
        finish(&mut command, input)
    }

    /// Trains on the CPU with small settings.
    fn train(&self, line: &str) -> Run {
        self.run(&train_line(line))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Parts in the layout of MVTec 3D-AD: up to three to learn from, two held back, one good and
    /// six defective ones for the test. `seed` is 0 or 1.
    fn draw_3d(&self, name: &str, seed: usize, train: usize) {
        for (file, bytes) in drawn(seed) {
            let path = self.path(name).join(file);
            match bytes {
                None => std::fs::create_dir_all(path).unwrap(),
                Some(_) if file.starts_with("train/") && number(file) >= train => {}
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
            }
        }
    }

    /// The same parts in the layout of MVTec AD: pictures alone, nothing held back.
    fn draw_ad(&self, name: &str, seed: usize, train: usize) {
        let (drawn, root) = (Self::new(), self.path(name));
        drawn.draw_3d("parts", seed, train);
        let copy = |from: &Path, to: PathBuf| {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from, to).unwrap();
        };
        for (file, _) in tree(&drawn.path("parts")) {
            let from = drawn.path("parts").join(&file);
            let words: Vec<&str> = file.split('/').collect();
            match words[..] {
                [split @ ("train" | "test"), kind, "rgb", file] => {
                    copy(&from, root.join(split).join(kind).join(file));
                }
                ["test", kind, "gt", file] if kind != "good" => {
                    let mask = file.replace(".png", "_mask.png");
                    copy(&from, root.join("ground_truth").join(kind).join(mask));
                }
                _ => {}
            }
        }
    }

    /// The same parts with `depth/`, 16-bit PNG in tenths of a millimetre, instead of `xyz/`.
    fn draw_rgbd(&self, name: &str, seed: usize, train: usize) {
        self.draw_3d(name, seed, train);
        for (file, bytes) in tree(&self.path(name)) {
            let xyz = self.path(name).join(&file);
            if bytes.is_none() && file.ends_with("/xyz") {
                std::fs::create_dir(xyz.with_file_name("depth")).unwrap();
            }
            let Some(stem) = file.strip_suffix(".tiff") else {
                continue;
            };
            let map = DepthMap::load(&xyz, &Meaning::default()).unwrap();
            let counts = map.z.iter().map(|z| (z * 10_000.0).round() as u16);
            let (width, height) = (map.width as u32, map.height as u32);
            let png = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(
                width,
                height,
                counts.collect::<Vec<_>>(),
            );
            let to = stem.replace("/xyz/", "/depth/") + ".png";
            png.unwrap().save(self.path(name).join(to)).unwrap();
        }
        for (folder, bytes) in tree(&self.path(name)) {
            if bytes.is_none() && folder.ends_with("/xyz") {
                std::fs::remove_dir_all(self.path(name).join(folder)).unwrap();
            }
        }
    }

    /// Seeded weights of EfficientNet-B0 as timm names them, in `file`; `edit` may change them.
    fn weights(&self, file: &str, seed: u64, edit: impl FnOnce(&mut Tensors)) {
        let mut tensors = seeded_tensors("timm b0", seed);
        edit(&mut tensors);
        let list: Vec<_> = tensors.into_iter().map(|(n, (s, d))| (n, s, d)).collect();
        write_safetensors(&self.path(file), &list, Default::default()).unwrap();
    }
}

/// Path → bytes of a file; none for a folder.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// Name → shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Seeded weights of a state dict in the reference, such as `timm b0`.
fn seeded_tensors(dict: &str, seed: u64) -> Tensors {
    let text = include_str!("../reference/state_dicts.json");
    let dicts: Value = serde_json::from_str(text).unwrap();
    let mut tensors = Tensors::new();
    for (name, shape) in dicts[dict].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let count = shape.iter().product();
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        let data = match shape.len() {
            4 => named_tensor(name, count, (6.0 / fan_in).sqrt(), seed),
            _ if name.ends_with("bias") || name.ends_with("mean") => vec![0.0; count],
            _ => vec![1.0; count],
        };
        tensors.insert(name.clone(), (shape, data));
    }
    tensors
}

fn train_line(line: &str) -> String {
    let settings = SMALL.map(|s| format!(" --set {s}")).concat();
    // What a test sets comes later and wins.
    let (data, options) = line.split_once(' ').unwrap_or((line, ""));
    let weights = match options.contains("--weights") {
        true => "",
        false => default_weights(),
    };
    format!("train {data} --device cpu{settings} {options}{weights}")
}

/// For tests to which the weights do not matter: of the network of [`SMALL`].
fn default_weights() -> &'static str {
    match shipped::are_there() {
        true => " --weights astray-b0",
        false => " --weights seeded",
    }
}

fn finish(command: &mut Command, input: &str) -> Run {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that refuses its arguments does not wait for its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Run {
        status: output.status.code().expect("ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A drawn data set. Drawing is the slowest step of all, so each seed is drawn once for all tests.
fn drawn(seed: usize) -> &'static Tree {
    static DRAWN: [OnceLock<Tree>; 2] = [OnceLock::new(), OnceLock::new()];
    DRAWN[seed].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        draw_dataset(folder.path(), seed as u64, 3, 1, 1, || {}).unwrap();
        tree(folder.path())
    })
}

/// `train/good/rgb/002.png` → 2
fn number(file: &str) -> usize {
    let stem = Path::new(file).file_stem().unwrap();
    stem.to_str().unwrap().parse().unwrap()
}

/// Everything below a folder by its path relative to it: files with their bytes, folders with none.
fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = name.replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
                found.insert(name, None);
            } else {
                found.insert(name, Some(std::fs::read(path).unwrap()));
            }
        }
    }
    found
}
