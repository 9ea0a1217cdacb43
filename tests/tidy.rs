//! The house rules that a compiler does not check. Each check takes the texts of the repository and
//! lists what is wrong; beside it stands a proof that it can find something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Lowest first. A module imports only from those before it.
const LAYERS: [&str; 17] = [
    "error", "files", "kernel", "gpu", "cpu", "tensor", "tape", "ops", "nn", "models", "weights",
    "data", "evaluate", "detector", "profile", "selftest", "cli",
];
/// Files in the operators' folders that are no operators.
const HELPERS: [&str; 17] = [
    "shaders/prelude.wgsl",
    "shaders/roof.wgsl",
    "src/cpu/mod.rs",
    "src/cpu/isa.rs",
    "src/cpu/aligned.rs",
    "src/cpu/simd.rs",
    "src/cpu/matmul.rs",
    "src/cpu/roof.rs",
    "src/cpu/lanes.rs",
    "src/cpu/pool.rs",
    "src/cpu/bottleneck.rs",
    "src/ops/bands.rs",
    "src/ops/bottleneck.rs",
    "src/selftest/bottleneck.rs",
    "src/ops/mod.rs",
    "src/selftest/mod.rs",
    "src/selftest/check.rs",
];
const MAX_LINES: usize = 500;

/// Path from the repository's root → text.
type Tree = BTreeMap<String, String>;

fn repository() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::new();
    let mut folders = vec![root.join("src"), root.join("shaders")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            tree.insert(name.replace('\\', "/"), text);
        }
    }
    tree
}

/// The repository with one file written, or removed where `text` is `None`.
fn doctored(path: &str, text: Option<&str>) -> Tree {
    let mut tree = repository();
    match text {
        Some(text) => tree.insert(path.into(), text.into()),
        None => Some(tree.remove(path).expect("the file to remove")),
    };
    tree
}

fn edited(path: &str, from: &str, to: &str) -> Tree {
    let text = repository()[path].clone();
    assert!(text.contains(from), "{path} does not contain {from}");
    doctored(path, Some(&text.replacen(from, to, 1)))
}

fn clean(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Code without `//` comments, doc comments included.
fn code(text: &str) -> String {
    let lines = text.lines().map(|l| l.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every operator is a file of the same name in all four folders.
fn missing_namesakes(tree: &Tree) -> Vec<String> {
    const FOLDERS: [(&str, &str); 4] = [
        ("shaders/", ".wgsl"),
        ("src/cpu/", ".rs"),
        ("src/ops/", ".rs"),
        ("src/selftest/", ".rs"),
    ];
    let operators: BTreeSet<&str> = tree
        .keys()
        .filter(|path| !HELPERS.contains(&path.as_str()))
        .flat_map(|path| FOLDERS.map(|(start, end)| path.strip_prefix(start)?.strip_suffix(end)))
        .flatten()
        .filter(|name| !name.contains('/'))
        .collect();
    operators
        .iter()
        .flat_map(|name| FOLDERS.map(|(start, end)| format!("{start}{name}{end}")))
        .filter(|path| !tree.contains_key(path))
        .map(|path| format!("{path} is missing: its namesakes are there"))
        .collect()
}

#[test]
fn every_operator_has_its_four_files() {
    clean(&missing_namesakes(&repository()));
    for path in [
        "shaders/resize.wgsl",
        "src/cpu/resize.rs",
        "src/ops/resize.rs",
        "src/selftest/resize.rs",
    ] {
        let found = missing_namesakes(&doctored(path, None));
        assert_eq!(
            found,
            [format!("{path} is missing: its namesakes are there")]
        );
    }
    let alone = missing_namesakes(&doctored("shaders/softmax.wgsl", Some("")));
    assert_eq!(alone.len(), 3, "{alone:?}");
}

fn wgpu_outside_gpu(tree: &Tree) -> Vec<String> {
    tree.iter()
        .filter(|(path, text)| path.ends_with(".rs") && text.contains("wgpu"))
        .filter(|(path, _)| !path.starts_with("src/gpu/"))
        .map(|(path, _)| format!("{path} says wgpu: only src/gpu may"))
        .collect()
}

#[test]
fn wgpu_stays_in_its_room() {
    clean(&wgpu_outside_gpu(&repository()));
    let bad = doctored("src/tape.rs", Some("use wgpu::Device;"));
    assert_eq!(wgpu_outside_gpu(&bad).len(), 1);
}

/// The modules at the crate's root that a file names: after `crate::`, `crate::{…}` and as many
/// `super::` as lead to the root.
fn imports(path: &str, text: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = inside.trim_end_matches("/mod").split('/').count();
    let text = code(text);
    let to_root = "super::".repeat(depth);
    // `r#`-free code has no other way to say the root; a longer run of `super` is caught inside it.
    let starts = text.match_indices("crate::").map(|(i, m)| i + m.len());
    let supers = text
        .match_indices(&to_root)
        .map(|(i, m)| i + m.len())
        .filter(|&end| !text[end..].starts_with("super::"));
    starts
        .chain(supers)
        .flat_map(|start| first_names(&text[start..]))
        .collect()
}

/// `a::b` → a; `{a, b::{c, d}}` → a, b.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let word = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(word).collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut depth, mut names) = (0, vec![word(group)]);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[i + 1..])),
            _ => {}
        }
    }
    names
}

fn upward_imports(tree: &Tree) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|&layer| layer == name);
    let mut found = Vec::new();
    for (path, text) in tree {
        let Some(inside) = path.strip_prefix("src/").filter(|p| p.ends_with(".rs")) else {
            continue;
        };
        let own = inside.trim_end_matches(".rs").split('/').next().unwrap();
        if own == "lib" || own == "main" {
            continue;
        }
        let Some(at) = layer(own) else {
            found.push(format!(
                "{path}: {own} is no layer; give it a place in LAYERS"
            ));
            continue;
        };
        let names = imports(path, text);
        let upward = names.iter().filter(|n| layer(n).is_some_and(|l| l > at));
        found.extend(upward.map(|name| format!("{path} imports {name}, a layer above {own}")));
    }
    found
}

#[test]
fn layers_import_downward_only() {
    clean(&upward_imports(&repository()));
    for (path, text) in [
        ("src/cpu/add.rs", "use crate::tensor::Tensor;"),
        ("src/tape.rs", "use crate::{Error, nn::{layers, random}};"),
        ("src/tape.rs", "use crate::{\n    Error,\n    ops,\n};"),
        ("src/ops/add.rs", "fn f() { crate::selftest::cases(); }"),
        ("src/ops/add.rs", "use super::super::models;"),
        ("src/models/mod.rs", "use super::cli;"),
        ("src/cli2/mod.rs", ""),
    ] {
        let found = upward_imports(&doctored(path, Some(text)));
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
    }
    for (path, text) in [
        ("src/ops/add.rs", "use crate::tensor::Tensor; // crate::cli"),
        ("src/ops/add.rs", "use super::selftest;"),
    ] {
        clean(&upward_imports(&doctored(path, Some(text))));
    }
}

fn long_files(tree: &Tree) -> Vec<String> {
    tree.iter()
        .filter(|(path, _)| path.starts_with("src/"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path} has {lines} lines, more than {MAX_LINES}"))
        .collect()
}

#[test]
fn files_are_short() {
    clean(&long_files(&repository()));
    let text = |lines: usize| "\n".repeat(lines);
    clean(&long_files(&doctored("src/tape.rs", Some(&text(500)))));
    let found = long_files(&doctored("src/tape.rs", Some(&text(501))));
    assert_eq!(found, ["src/tape.rs has 501 lines, more than 500"]);
}

/// (name, type) of each field of `struct Params`, the same in WGSL and Rust but for `pub`.
fn params(text: &str) -> Option<Vec<(String, String)>> {
    let text = code(text);
    let (_, body) = text.split_once("struct Params {")?;
    let (body, _) = body.split_once('}')?;
    let fields = body.split(',').filter(|field| !field.trim().is_empty());
    fields
        .map(|field| {
            let (name, kind) = field.split_once(':')?;
            let name = name.trim().trim_start_matches("pub ").trim();
            Some((name.to_string(), kind.trim().to_string()))
        })
        .collect()
}

/// Where the parameters of a shader stand in Rust: `src/cpu/<operator>.rs`; those of a variant,
/// `shaders/<operator>/<variant>.wgsl`, in the file of `src/ops/<operator>/` that embeds it, or with those of
/// the operator where it has no such folder.
fn twin(tree: &Tree, name: &str) -> String {
    let Some((operator, _)) = name.split_once('/') else {
        return format!("src/cpu/{name}.rs");
    };
    let folder = format!("src/ops/{operator}/");
    if !tree.keys().any(|path| path.starts_with(&folder)) {
        return format!("src/cpu/{operator}.rs");
    }
    let embeds = |text: &str| text.contains(&format!("shaders/{name}.wgsl\""));
    let found = (tree.iter()).find(|(path, text)| path.starts_with(&folder) && embeds(text));
    found.map_or(format!("{folder}…"), |(path, _)| path.clone())
}

fn params_that_differ(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, shader) in tree {
        let name = path
            .strip_prefix("shaders/")
            .filter(|n| !["prelude.wgsl", "conv2d/product.wgsl"].contains(n));
        let Some(name) = name.and_then(|n| n.strip_suffix(".wgsl")) else {
            continue;
        };
        let twin = twin(tree, name);
        let Some(rust) = tree.get(&twin) else {
            found.push(format!("{path}: there is no {twin}"));
            continue;
        };
        let included = shader
            .split_once("//#include \"")
            .and_then(|(_, rest)| tree.get(&format!("shaders/{}", rest.split('"').next()?)));
        match (params(included.unwrap_or(shader)), params(rust)) {
            (Some(a), Some(b)) if a == b && !a.is_empty() => {}
            (a, b) => found.push(format!("{path} has {a:?}\n{twin} has {b:?}")),
        }
        let before = rust.split("struct Params").next().unwrap_or("");
        let attributes = before.rsplit("\n\n").next().unwrap_or("");
        if !attributes.contains("#[repr(C)]") {
            found.push(format!("{twin}: Params is not #[repr(C)]"));
        }
    }
    found
}

#[test]
fn shaders_and_their_twins_have_the_same_parameters() {
    clean(&params_that_differ(&repository()));
    for (path, from, to) in [
        ("shaders/adam.wgsl", "rate: f32", "rate: u32"),
        ("shaders/adam.wgsl", "beta1: f32", "beta_1: f32"),
        ("shaders/adam.wgsl", "    decay: f32,\n", ""),
        ("shaders/adam.wgsl", "struct Params", "struct Uniforms"),
        (
            "src/cpu/conv2d.rs",
            "pub n: u32,\n    pub h: u32",
            "pub h: u32,\n    pub n: u32",
        ),
        ("src/cpu/conv2d.rs", "#[repr(C)]\n", ""),
        ("shaders/roof/matrix.wgsl", "rounds: u32", "round: u32"),
    ] {
        let found = params_that_differ(&edited(path, from, to));
        assert_eq!(found.len(), 1, "{path}: {from}: {found:?}");
    }
    let included = edited("shaders/conv2d/product.wgsl", "rows: u32", "row: u32");
    assert_eq!(params_that_differ(&included).len(), 3);
}

/// Vector instructions that a program has as functions of their own. A wide kernel that they were not
/// inlined into runs at a third of its speed.
fn vectors_that_are_called(program: &[u8]) -> Vec<String> {
    let has = |name: &str| {
        program
            .windows(name.len())
            .any(|text| text == name.as_bytes())
    };
    assert!(has("3cpu5lanes3x866avx512"), "the program has no names");
    let found = ["_mm256_", "_mm512_"].into_iter().filter(|name| has(name));
    found.map(|name| format!("{name}* is called")).collect()
}

/// Where a program's names are in its file, and it is optimised.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64", not(debug_assertions))),
    ignore = "needs an optimised program for x86-64 Linux"
)]
fn vector_instructions_are_inlined() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_astray")).unwrap();
    clean(&vectors_that_are_called(&program));
    let called = b"_ZN4core9core_arch3x867avx512f13_mm512_add_ps17h";
    let doctored = [program, called.to_vec()].concat();
    assert_eq!(vectors_that_are_called(&doctored).len(), 1);
}
