//! `astray weights`, and `--weights` with a name. Where the real addresses would be asked, a proxy
//! that refuses stands in their way.

use super::bad_files::unchanged;
use super::{PROGRAM, Run, Workplace, finish, train_line, tree};
use crate::fetch::server::{Server, file, raw, status};
use astray::nn::weights::Weights;
use serde_json::Value;
use std::process::Command;

/// `astray <line>` with a cache of its own, this mirror and a proxy for everything else.
fn command(place: &Workplace, mirror: &Server, proxy: &Server, line: &str) -> Command {
    let mut command = place.command(PROGRAM);
    command.args(line.split_whitespace());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        command
            .env(name, proxy.url(""))
            .env_remove(name.to_lowercase());
    }
    command.env("NO_PROXY", "127.0.0.1").env_remove("no_proxy");
    command.env("ASTRAY_WEIGHTS_MIRROR", mirror.url("copies"));
    command.env("ASTRAY_CACHE", place.path("cache"));
    command
        .env_remove("ASTRAY_OFFLINE")
        .env_remove("SSL_CERT_FILE");
    command
}

fn run(place: &Workplace, mirror: &Server, proxy: &Server, line: &str) -> Run {
    finish(&mut command(place, mirror, proxy, line), "")
}

/// Nothing but the files that hold no weights: the lock.
fn assert_no_weights(place: &Workplace) {
    for (name, bytes) in tree(&place.path("cache")) {
        let empty = bytes.is_none_or(|bytes| bytes.is_empty());
        assert!(empty, "{name} was kept");
    }
}

#[test]
fn the_list_names_every_public_file_and_says_which_are_there() {
    let place = Workplace::new();
    let nobody = Server::start(vec![status("404 Not Found")]);
    let list = |options: &str| run(&place, &nobody, &nobody, &format!("weights list {options}"));
    let table = list("").ok();
    for word in [
        "efficientnet-b7",
        "timm:efficientnet-b0",
        "255",
        "Apache-2.0",
        "symmetric",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(
        table.contains(place.path("cache/weights").to_str().unwrap()),
        "{table}"
    );
    let name = "efficientnet_b0_rwightman-7f5810bc.pth";
    assert!(!table.contains(name), "{table}");
    place.write(&format!("cache/weights/{name}"), "x");
    assert!(list("").ok().contains(name));
    let all = list("--json").json();
    let all = all.as_array().unwrap();
    // What comes with the program goes first: see `shipped.rs`.
    let public: Vec<&Value> = all.iter().filter(|e| e["shipped"] == false).collect();
    assert_eq!(public.len(), 24);
    assert_eq!(
        public[0]["file"],
        place
            .path(&format!("cache/weights/{name}"))
            .to_str()
            .unwrap()
    );
    assert_eq!(
        (&public[1]["file"], &public[1]["padding"]),
        (&Value::Null, &"symmetric".into())
    );
    assert_eq!(nobody.requests().len(), 0);
}

#[test]
fn what_is_no_public_name_is_wrong_usage() {
    let place = Workplace::new();
    let nobody = Server::start(vec![status("404 Not Found")]);
    for (line, words) in [
        (
            "efficientnet-b8",
            &["no public weights `efficientnet-b8`", "weights list"][..],
        ),
        (
            "timm:efficientnet-b5 --source timm",
            &["--source timm", "leave one of them out"],
        ),
    ] {
        let line = format!("weights fetch {line}");
        unchanged(&place, &line, 2, words, || {
            run(&place, &nobody, &nobody, &line)
        });
    }
    assert_eq!(nobody.requests().len(), 0);
}

#[test]
fn a_secure_mirror_is_trusted_by_the_certificate_that_is_named() {
    let place = Workplace::new();
    let (mirror, certificate) = Server::secure(vec![file(b"no weights", "\"tag\"")]);
    let proxy = Server::start(vec![status("502 Bad Gateway")]);
    place.write("company.pem", certificate);
    let mut fetch = command(
        &place,
        &mirror,
        &proxy,
        "weights fetch efficientnet-b0 --retries 0",
    );
    let told = finish(&mut fetch, "").err;
    assert!(told.contains("not who it says it is"), "{told}");
    fetch.env("SSL_CERT_FILE", place.path("company.pem"));
    let told = finish(&mut fetch, "").err;
    assert!(told.contains("sent something else"), "{told}");
    assert_no_weights(&place);
}

#[test]
fn wrong_bytes_from_a_mirror_are_not_kept_and_the_address_itself_is_asked() {
    const PAGE: &[u8] = b"not found, but politely";
    let place = Workplace::new();
    let proxy = Server::start(vec![status("403 Forbidden")]);
    let length = format!("200 OK\r\nContent-Length: {}", PAGE.len());
    for (answer, words) in [
        (
            file(&[7; 1000], "\"a\""),
            &["1000 bytes of sha256 ", "expected 1a07897c0d357db7"][..],
        ),
        (
            raw(length, PAGE, PAGE.len()),
            &["23 bytes of sha256 ", "not a weight file"],
        ),
        (status("404 Not Found"), &["answered 404 Not Found"]),
        (status("503 Service Unavailable"), &["answered 503"]),
    ] {
        let mirror = Server::start(vec![answer]);
        let line = "weights fetch efficientnet-b5 --retries 0";
        let run = run(&place, &mirror, &proxy, line);
        assert_eq!((run.status, &*run.out), (1, ""), "{}", run.err);
        let last = run.err.lines().last().unwrap();
        assert!(
            last.starts_with("error: efficientnet-b5 could not be fetched: "),
            "{last}"
        );
        let address =
            "https://download.pytorch.org/models/efficientnet_b5_lukemelas-1a07897c.pth: ";
        let copy = mirror.url("copies/efficientnet_b5_lukemelas-1a07897c.pth: ");
        for word in [&[&*copy, address], words].concat() {
            assert!(last.contains(word), "{word:?} is not in: {last}");
        }
        assert_eq!(mirror.requests().len(), 1);
        assert_no_weights(&place);
    }
    // The public address was asked for by the proxy, and by it alone.
    let asked = proxy.requests();
    assert_eq!(asked.len(), 4);
    let connect = "CONNECT download.pytorch.org:443";
    assert!(
        asked.iter().all(|lines| lines[0].starts_with(connect)),
        "{asked:?}"
    );
}

#[test]
fn offline_nobody_is_asked() {
    let place = Workplace::new();
    let nobody = Server::start(vec![file(&[7; 1000], "\"a\"")]);
    let words = [
        "timm:efficientnet-b5 is not in the cache",
        "tf_efficientnet_b5_ns-6f26d0cf.pth",
        "https://github.com/",
        "run `astray weights fetch timm:efficientnet-b5`",
    ];
    let line = "weights fetch efficientnet-b5 --source timm --offline";
    unchanged(&place, line, 1, &words, || {
        run(&place, &nobody, &nobody, line)
    });
    let line = "weights fetch timm:efficientnet-b5";
    let offline = || {
        let mut command = place.command(PROGRAM);
        command.args(line.split_whitespace());
        command.env("ASTRAY_OFFLINE", "1");
        command.env("ASTRAY_WEIGHTS_MIRROR", nobody.url(""));
        command.env("ASTRAY_CACHE", place.path("cache"));
        finish(&mut command, "")
    };
    unchanged(&place, line, 1, &words, offline);
    assert_eq!(nobody.requests().len(), 0);
}

/// A limit on the size of files stands for a full disk.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_is_told_and_no_file_is_kept() {
    static BYTES: [u8; 1 << 20] = [7; 1 << 20];
    let place = Workplace::new();
    let server = Server::start(vec![file(&BYTES, "\"a\"")]);
    let mut command = place.command("bash");
    let limited = r#"trap "" XFSZ; ulimit -f 64; exec "$0" weights fetch efficientnet-b0"#;
    command.args(["-c", limited, PROGRAM]);
    command.env("ASTRAY_WEIGHTS_MIRROR", server.url(""));
    command
        .env("ASTRAY_CACHE", place.path("cache"))
        .env("NO_PROXY", "127.0.0.1");
    let run = finish(&mut command, "");
    assert_eq!(run.status, 1, "{}", run.err);
    for word in [
        "rwightman-7f5810bc.pth.part: cannot be written",
        "free some space",
        "ASTRAY_CACHE",
    ] {
        assert!(run.err.contains(word), "{word:?} is not in: {}", run.err);
    }
    let whole = "cache/weights/efficientnet_b0_rwightman-7f5810bc.pth";
    assert!(!place.path(whole).exists());
    assert_eq!(
        server.requests().len(),
        1,
        "no other address helps a full disk"
    );
}

#[test]
fn a_name_that_was_not_fetched_says_how() {
    let place = Workplace::new();
    let nobody = Server::start(vec![status("404 Not Found")]);
    place.draw_ad("parts", 0, 2);
    let refused = |weights: &str, status: i32, words: &[&str]| {
        let line = train_line(&format!("parts --out model --weights {weights}"));
        unchanged(&place, &line, status, words, || {
            run(&place, &nobody, &nobody, &line)
        });
    };
    let fetch = "`astray weights fetch efficientnet-b0`";
    refused(
        "efficientnet_b0",
        1,
        &["efficientnet-b0: there is no file", fetch, "(20 MiB)"],
    );
    let words = ["no file `resnet18`", "no public weights", "weights list"];
    refused("resnet18", 2, &words);
    refused("none/efficientnet_b0", 1, &["cannot read the weight file"]);
    // What lies there is not taken for what it is called.
    let name = "cache/weights/efficientnet_b0_rwightman-7f5810bc.pth";
    place.write(name, "");
    place.weights(name, 1, |_| ());
    refused(
        "efficientnet-b0",
        1,
        &["is not what was fetched", "7f5810bc96de", fetch],
    );
    // A file of the name goes first.
    place.weights("efficientnet-b0", 1, |_| ());
    let line = train_line("parts --out model --weights efficientnet-b0");
    run(&place, &nobody, &nobody, &line).ok();
    assert_eq!(nobody.requests().len(), 0);
}

/// Parameters of EfficientNet-B0, as torchvision tells them.
const B0_PARAMETERS: u64 = 5_288_548;

#[test]
fn a_file_is_looked_into() {
    let place = Workplace::new();
    place.weights("b0.safetensors", 1, |_| ());
    let text = place.run("weights inspect b0.safetensors").ok();
    let sha256 = Weights::read(&place.path("b0.safetensors")).unwrap().sha256;
    for word in [
        "efficientnet_b0 (batch norm's epsilon 0.001), whole",
        "timm",
        "same",
        "5288548",
        "blocks 0 to 15",
        "10: 112 channels, stride 16",
        "F32, all finite",
        &sha256,
    ] {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    assert!(!text.contains("blocks.0.0.conv_dw.weight"));
    let text = place.run("weights inspect b0.safetensors --tensors").ok();
    assert!(
        text.contains("F32 [32, 1, 3, 3] blocks.0.0.conv_dw.weight"),
        "{text}"
    );
    let found = place.run("weights inspect b0.safetensors --json").json();
    assert_eq!(found["parameters"], B0_PARAMETERS);
    assert_eq!(found["naming"], "timm");
    assert_eq!(found["padding"], "same");
    assert_eq!(found["networks"][0]["name"], "efficientnet_b0");
    assert_eq!(found["blocks"][10]["stride"], 16);
    let tensors = found["tensors"].as_array().unwrap();
    let stem = tensors
        .iter()
        .find(|t| t["name"] == "conv_stem.weight")
        .unwrap();
    assert_eq!(stem["shape"], serde_json::json!([32, 3, 3, 3]));

    place.weights("nan.safetensors", 1, |tensors| {
        tensors.get_mut("bn1.weight").unwrap().1[3] = f32::NAN;
    });
    let line = "weights inspect nan.safetensors";
    unchanged(&place, line, 1, &["tensor `bn1.weight` holds NaN"], || {
        place.run(line)
    });
    place.weights("odd.safetensors", 1, |tensors| {
        tensors.retain(|name, _| name == "classifier.bias")
    });
    let line = "weights inspect odd.safetensors";
    unchanged(
        &place,
        line,
        1,
        &["no EfficientNet that is known", "classifier.bias"],
        || place.run(line),
    );
}

#[test]
fn a_converted_file_is_smaller_and_trains_the_same() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.weights("b0.safetensors", 1, |_| ());
    let size = |name: &str| place.path(name).metadata().unwrap().len();
    let text = place
        .run("weights convert b0.safetensors cut.safetensors --tap 4")
        .ok();
    assert!(
        text.contains("efficientnet_b0 ") && text.contains("cut after block 4"),
        "{text}"
    );
    let text = place
        .run("weights convert b0.safetensors half.safetensors --dtype f16 --tap 4")
        .ok();
    assert!(text.contains("F16, all finite"), "{text}");
    place
        .run("weights convert b0.safetensors whole.safetensors")
        .ok();
    assert!(size("half.safetensors") < size("cut.safetensors") * 6 / 10);
    assert!(size("cut.safetensors") < size("b0.safetensors") / 50);

    // The same numbers under the same names; rounded in half precision.
    let read = |name: &str| Weights::read(&place.path(name)).unwrap();
    let (b0, cut, half) = (
        read("b0.safetensors"),
        read("cut.safetensors"),
        read("half.safetensors"),
    );
    assert_eq!(read("whole.safetensors").tensors.len(), b0.tensors.len());
    assert_eq!(cut.metadata["source_sha256"], b0.sha256);
    assert!(cut.tensors.contains_key("blocks.2.1.conv_pwl.weight"));
    assert!(!cut.tensors.contains_key("blocks.3.0.conv_pwl.weight"));
    assert!(!cut.tensors.contains_key("classifier.bias"));
    assert_eq!(half.tensors.len(), cut.tensors.len());
    for (name, array) in &cut.tensors {
        assert_eq!(b0.tensors[name].data, array.data, "{name}");
        for (h, f) in half.tensors[name].data.iter().zip(&array.data) {
            assert!(
                (h - f).abs() <= f.abs() / 1024.0 + 1e-7,
                "{name}: {h} is not {f}"
            );
        }
    }
    let model = |weights: &str| {
        let line = format!("parts --out model --weights {weights}");
        place.train(&line).ok();
        let model = Weights::read(&place.path("model/model.safetensors")).unwrap();
        model
            .tensors
            .into_iter()
            .map(|(name, a)| (name, a.data))
            .collect::<Vec<_>>()
    };
    assert!(
        model("b0.safetensors") == model("cut.safetensors"),
        "the cut changed the model"
    );
    model("half.safetensors");
    // One cut may be cut again, and not where it no longer reaches.
    place
        .run("weights convert cut.safetensors less.safetensors --tap 2")
        .ok();
    let line = "weights convert cut.safetensors more.safetensors --tap 5";
    unchanged(&place, line, 2, &["--tap 5", "holds blocks 0 to 4"], || {
        place.run(line)
    });
}

#[test]
fn a_conversion_that_cannot_be_is_refused_and_leaves_nothing() {
    let place = Workplace::new();
    place.weights("b0.safetensors", 1, |_| ());
    place.weights("large.safetensors", 1, |tensors| {
        tensors.get_mut("bn1.running_var").unwrap().1[3] = 7e4;
    });
    place.weights("nan.safetensors", 1, |tensors| {
        tensors.get_mut("bn1.weight").unwrap().1[3] = f32::INFINITY;
    });
    place.weights("lacking.safetensors", 1, |tensors| {
        tensors.remove("blocks.1.0.bn1.bias").unwrap();
    });
    place.write("there.safetensors", "x");
    for (line, status, words) in [
        (
            "b0.safetensors there.safetensors",
            1,
            &["there.safetensors: is there already", "--force"][..],
        ),
        (
            "b0.safetensors out.pth",
            1,
            &["out.pth: expected a name that ends in .safetensors"],
        ),
        (
            "b0.safetensors none/out.safetensors",
            1,
            &["none/out.safetensors: cannot write"],
        ),
        (
            "b0.safetensors out.safetensors --tap 16",
            2,
            &["--tap 16", "blocks 0 to 15"],
        ),
        (
            "large.safetensors out.safetensors --dtype f16",
            1,
            &["`bn1.running_var` holds 70000", "f32"],
        ),
        (
            "nan.safetensors out.safetensors",
            1,
            &["`bn1.weight` holds inf"],
        ),
        (
            "lacking.safetensors out.safetensors",
            1,
            &["`blocks.1.0.bn1.bias`", "is missing"],
        ),
    ] {
        let line = format!("weights convert {line}");
        unchanged(&place, &line, status, words, || place.run(&line));
    }
    place
        .run("weights convert large.safetensors there.safetensors --force")
        .ok();
    Weights::read(&place.path("there.safetensors")).unwrap();
    // Onto itself.
    place
        .run("weights convert b0.safetensors b0.safetensors --dtype f16 --force")
        .ok();
}
