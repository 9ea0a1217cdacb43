//! `--shaders`: kernels edited without compiling.

use super::Workplace;
use serde_json::Value;

/// Runs one operator's cases on software Vulkan with the kernels of `mine`.
const SELFTEST: &str = "selftest --device 0 --shaders mine --operator";

fn shader(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("shaders")
        .join(name);
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn an_edited_kernel_runs_and_the_others_are_built_in() {
    let place = Workplace::new();
    let text = shader("add.wgsl");
    place.write("mine/add.wgsl", &text);
    let run = place.run(&format!("{SELFTEST} add"));
    assert!(
        run.err.contains("mine/prelude.wgsl is not there") && !run.err.contains("add.wgsl"),
        "{}",
        run.err
    );
    run.ok();
    let edited = text.replace("f32(a[i]) + f32(b[i])", "f32(a[i]) - f32(b[i])");
    assert_ne!(edited, text);
    place.write("mine/add.wgsl", edited);
    let run = place.run(&format!("{SELFTEST} add"));
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(run.out.contains("FAILED add"), "{}", run.out);
    let run = place.run(&format!("{SELFTEST} scale"));
    assert!(
        run.err.contains("mine/scale.wgsl is not there"),
        "{}",
        run.err
    );
    run.ok();
}

#[test]
fn a_broken_kernel_is_an_error_with_its_file_and_line() {
    let place = Workplace::new();
    for name in ["add.wgsl", "prelude.wgsl"] {
        let text = shader(name);
        place.write(&format!("mine/{name}"), &text);
        let line = text.lines().count() + 1;
        let broken = format!("{text}fn broken() -> f33 {{}}\n");
        place.write(&format!("mine/{name}"), broken);
        let run = place.run(&format!("{SELFTEST} add --json"));
        assert_eq!(run.status, 1, "{}", run.err);
        for words in [format!("mine/{name}:{line}:16"), "`f33`".into()] {
            assert!(run.out.contains(&words), "{words}: {}", run.out);
        }
        place.write(&format!("mine/{name}"), &text);
    }
    // What only the driver's side sees: an entry point that is gone.
    let text = shader("add.wgsl").replace("fn main(", "fn other(");
    place.write("mine/add.wgsl", text);
    let run = place.run(&format!("{SELFTEST} add --json"));
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(run.out.contains("mine/add.wgsl: "), "{}", run.out);
    let text = shader("conv2d/direct.wgsl").replace("conv2d/product", "conv2d/prod");
    place.write("mine/conv2d/direct.wgsl", text);
    let run = place.run(&format!("{SELFTEST} conv2d --json"));
    assert_eq!(run.status, 1, "{}", run.err);
    let words = "mine/conv2d/direct.wgsl: it includes conv2d/prod.wgsl";
    assert!(run.out.contains(words), "{}", run.out);
}

/// A kernel's file with one more line, and the number of that line.
fn with_line(name: &str, line: &str) -> (String, usize) {
    let text = shader(name);
    (format!("{text}{line}\n"), text.lines().count() + 1)
}

#[test]
fn a_broken_file_that_others_include_is_named_with_its_own_line() {
    let place = Workplace::new();
    let (text, line) = with_line("conv2d/product.wgsl", "fn broken() -> f33 {}");
    place.write("mine/conv2d/product.wgsl", text);
    let run = place.run(&format!("{SELFTEST} conv2d --json"));
    assert_eq!(run.status, 1, "{}", run.err);
    for words in [
        format!("mine/conv2d/product.wgsl:{line}:16"),
        "`f33`".into(),
    ] {
        assert!(run.out.contains(&words), "{words}: {}", run.out);
    }
    assert!(!run.out.contains("direct.wgsl"), "{}", run.out);
}

/// Every kernel has the prelude, and those that pack operands run before the ones that include product.wgsl. So this
/// line is wrong only where a kernel reads f16 and writes f32: sums in slices.
#[test]
fn a_broken_prelude_is_named_where_a_kernel_includes_another_file() {
    let place = Workplace::new();
    if place.run("devices --json").json()["adapters"][0]["f16"] != true {
        crate::say!(
            "the first adapter has no f16: a broken prelude beside product.wgsl is NOT CHECKED"
        );
        return;
    }
    let (text, line) = with_line("prelude.wgsl", "fn broken(x: result) -> real { return x; }");
    place.write("mine/prelude.wgsl", text);
    let options = "--precision f16 --variant split --json";
    let run = place.run(&format!("{SELFTEST} conv2d {options}"));
    assert_eq!(run.status, 1, "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    // Of 67 channels, so in slices; without a gradient, whose kernels include nothing.
    let mut cases = report["cases"].as_array().unwrap().iter();
    let wide = cases.find(|case| case["case"].as_str().unwrap().starts_with("wide"));
    let error = wide.unwrap()["error"].as_str().unwrap();
    assert!(
        error.contains(&format!("mine/prelude.wgsl:{line}:")),
        "{error}"
    );
    assert!(!run.out.contains("product.wgsl"), "{}", run.out);
}

#[test]
fn kernels_need_a_folder_and_a_gpu() {
    let place = Workplace::new();
    for (line, words) in [
        (
            "selftest --device 0 --shaders nowhere",
            "--shaders nowhere: expected a folder",
        ),
        (
            "selftest --device cpu --shaders .",
            "--shaders: this is for a GPU",
        ),
    ] {
        let run = place.run(line);
        assert_eq!(run.status, 2, "{line}: {}", run.err);
        assert!(run.err.contains(words), "{line}: {}", run.err);
    }
}
