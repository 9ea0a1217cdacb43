//! Training without `--weights`: the backbone that comes with the program, and what is said of it.

use super::bad_files::unchanged;
use super::{Run, Workplace, train_line};
use astray::nn::weights::{Weights, write_safetensors};
use astray::weights::shipped::{self, DEFAULT};

/// The backbone is the program's choice; all else makes a training short.
const QUICK: &str = "--device cpu --set depth.size=32 --set teacher.hidden=8 --set student.width=8 \
                     --set student.blocks=1 --set train.teacher_epochs=1 --set train.student_epochs=1";

const LINE: &str = "backbone: efficientnet-lite0 (shipped, ImageNet-1k photographs); larger networks: astray weights list";

pub const DRAWN: &str = "backbone: astray-b0 (shipped, drawn images only); ImageNet weights often find more \
                     (V2-B0: image AUROC 93 instead of 89 % over three data sets): leave --weights out, or astray \
                     weights fetch efficientnet-b5, then --weights efficientnet-b5";

/// Does the program hold its own weights? Where it does not, a test must say what it left out.
pub fn are_there() -> bool {
    if DEFAULT.bytes.is_none() {
        crate::say!(
            "built without the feature shipped-weights: what it does with them is NOT CHECKED"
        );
    }
    DEFAULT.bytes.is_some()
}

fn metadata(place: &Workplace, model: &str) -> Weights {
    Weights::read(&place.path(&format!("{model}/model.safetensors"))).unwrap()
}

fn told_once(run: &Run, words: &str) {
    assert_eq!(run.err.matches(words).count(), 1, "{words}\n{}", run.err);
}

#[test]
fn a_training_without_weights_takes_those_of_the_program() {
    if !are_there() {
        return;
    }
    let place = Workplace::new();
    place.draw_3d("parts", 0, 3);
    let run = place.run(&format!(
        "train parts --out model --modality rgb+depth {QUICK}"
    ));
    told_once(&run, LINE);
    let sha256 = DEFAULT.sha256;
    let out = run.ok();
    assert!(
        out.contains(&format!("backbone efficientnet-lite0, sha256 {sha256}")),
        "{out}"
    );
    // The model says what it is made of, whatever `auto` means tomorrow.
    let model = metadata(&place, "model");
    assert_eq!(model.metadata["backbone"], sha256);
    let config = &model.metadata["config"];
    for line in [
        "name = \"efficientnet_lite0\"",
        "tap = [10, 14]",
        "image_size = 64",
        "size = 32",
    ] {
        assert!(config.lines().any(|l| l == line), "{line}\n{config}");
    }

    let run =
        place.run("evaluate model parts --device cpu --report report --weights efficientnet-lite0");
    told_once(&run, LINE);
    run.ok();
    let page = std::fs::read_to_string(place.path("report/report.html")).unwrap();
    let words = "The backbone is efficientnet-lite0, which comes with astray and has seen ImageNet-1k photographs.";
    assert!(page.contains(words), "{page}");
    let predict = "predict model parts/test/dent/rgb --depth parts/test/dent/xyz --device cpu";
    place
        .run(&format!("{predict} --weights EfficientNet_Lite0"))
        .ok();
    for (weights, words) in [
        ("seeded", "seeded: random, but the model was trained with"),
        ("astray-b0", "astray-b0: sha256 "),
        ("w.safetensors", "w.safetensors: sha256 "),
    ] {
        place.weights("w.safetensors", 1, |_| ());
        let line = format!("{predict} --weights {weights}");
        let words = [
            words,
            &*format!("trained with efficientnet-lite0, sha256 {sha256}"),
        ];
        unchanged(&place, &line, 1, &words, || place.run(&line));
    }
    // The same by name.
    let named = |name: &str, options: &str| {
        let line = "train parts --modality rgb+depth --out";
        place.run(&format!("{line} {name} --weights {options} {QUICK}"))
    };
    named("named", "efficientnet-lite0").ok();
    let read = |model: &str| std::fs::read(place.path(model).join("model.safetensors")).unwrap();
    assert!(read("model") == read("named"));
    // Our own is there by its name.
    let run = named("drawn", "astray-b0");
    told_once(&run, DRAWN);
    run.ok();
    let model = metadata(&place, "drawn");
    let own = shipped::named("astray-b0").unwrap();
    assert_eq!(model.metadata["backbone"], own.sha256);
    let config = &model.metadata["config"];
    assert!(
        config.contains("name = \"efficientnet_b0\"\ntap = 10\n"),
        "{config}"
    );
}

#[test]
fn a_random_backbone_is_had_for_the_asking_and_says_so() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    let run = place.run(&format!("train parts --out model --weights seeded {QUICK}"));
    let note = "note: --weights seeded: the backbone is random (seeded 0)";
    told_once(&run, note);
    assert!(!run.err.contains("shipped"), "{}", run.err);
    assert!(run.ok().contains("backbone seeded 0"));
    assert_eq!(metadata(&place, "model").metadata["backbone"], "seeded 0");
    let run = place.run("evaluate model parts --device cpu --report report --weights seeded");
    told_once(&run, note);
    run.ok();
    let page = std::fs::read_to_string(place.path("report/report.html")).unwrap();
    assert!(page.contains("The backbone is random"), "{page}");
    // Somebody's file: nothing to add to its name. Depth alone: no backbone at all.
    place.weights("w.safetensors", 1, |_| ());
    let run = place.train("parts --out other --weights w.safetensors");
    told_once(
        &run,
        "backbone: efficientnet_b0 to block 4, weights of sha256 ",
    );
    run.ok();
    place.draw_3d("solid", 0, 2);
    let run = place.run(&format!(
        "train solid --out solid-model --modality depth {QUICK}"
    ));
    assert!(!run.err.contains("backbone"), "{}", run.err);
    run.ok();
    place
        .run("predict solid-model --depth solid/test/dent/xyz --device cpu")
        .ok();
}

#[test]
fn the_papers_presets_need_weights_and_leave_nothing_without() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    // Small, lest it take a machine's memory on the day that it is not refused.
    let line = format!("train parts --preset mvtec2d --out model {QUICK}");
    let words = [
        "backbone.name = efficientnet_b5: without --weights",
        "`astray weights fetch efficientnet-b5`",
        "`--weights seeded`",
    ];
    unchanged(&place, &line, 2, &words, || place.run(&line));
    for command in ["demo", "train parts --out model"] {
        let line = format!("{command} --set backbone.name=efficientnet_b5 {QUICK}");
        unchanged(&place, &line, 2, &words, || place.run(&line));
    }
    let line = format!("train parts --out model --set backbone.tap=15 {QUICK}");
    let words = ["backbone.tap = 15: without --weights", "ends with block 14"];
    unchanged(&place, &line, 2, &words, || place.run(&line));
}

#[test]
fn the_list_begins_with_them_and_the_other_jobs_know_them() {
    if !are_there() {
        return;
    }
    let place = Workplace::new();
    let table = place.run("weights list").ok();
    let json = place.run("weights list --json").json();
    for (i, own) in shipped::ALL.iter().enumerate() {
        let row = table.lines().nth(1 + i).unwrap();
        let start = format!("{} ", own.name);
        assert!(row.trim_start().starts_with(&start), "{table}");
        for word in [own.licence, "same", own.training, "in the program"] {
            assert!(row.contains(word), "{word}: {row}");
        }
        assert_eq!(json[i]["name"], own.name);
        assert_eq!(json[i]["sha256"], own.sha256);
        assert_eq!(json[i]["licence"], own.licence);
        assert_eq!(json[i]["shipped"], true);
        assert_eq!(json[i]["network"], own.network);
        let told = place.run(&format!("weights inspect {}", own.name)).ok();
        for word in [&*format!("cut after block {}", own.last), own.sha256] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let told = place.run(&format!("weights fetch {} --offline", own.name));
        let told = told.ok();
        assert!(told.contains("is in the program"), "{told}");
    }
    // A file of that name goes first, but is not what is in the program.
    place.write("astray-b0", "no weights at all");
    assert_eq!(place.run("weights list").ok(), table);
    let run = place.run("weights inspect astray-b0");
    assert!(run.err.contains("not a weight file"), "{}", run.err);
    std::fs::remove_file(place.path("astray-b0")).unwrap();
    place
        .run("weights convert astray-b0 own.safetensors --dtype f16")
        .ok();
    let own = Weights::read(&place.path("own.safetensors")).unwrap();
    let shipped = shipped::named("astray-b0").unwrap().read().unwrap();
    assert_eq!(own.tensors.len(), shipped.tensors.len());
    for (name, array) in &shipped.tensors {
        assert_eq!(own.tensors[name].data, array.data, "{name}");
    }
    for (spelt, meant) in [
        ("astray-b1", "astray-b0"),
        ("efficientnet-lite", "efficientnet-lite0"),
    ] {
        let run = place.run(&format!("weights inspect {spelt}"));
        assert_eq!(run.status, 2);
        let words = format!("did you mean `{meant}`");
        assert!(run.err.contains(&words), "{}", run.err);
    }
}

/// Models of format 3 were written before there was an `auto` for picture and network, and with one
/// for the tap.
#[test]
fn an_older_model_is_still_read() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 2);
    place.weights("w.safetensors", 1, |_| ());
    let line = "parts --out model --weights w.safetensors --set backbone.tap=auto";
    place.run(&train_line(line)).ok();
    let predict = || {
        let line = "predict model parts/test/dent --device cpu --json";
        place.run(line).ok()
    };
    let before = predict();
    let model = metadata(&place, "model");
    let mut entries = model.metadata.clone();
    let config = entries["config"].clone();
    assert!(config.contains("\ntap = 14\n") && config.contains("image_size = 64\n"));
    let older = config.replace("\ntap = 14\n", "\ntap = \"auto\"\n");
    entries.insert("config".into(), older);
    let write = |entries| {
        let tensors = model.tensors.iter();
        let tensors: Vec<_> = tensors
            .map(|(name, a)| (name.clone(), a.shape.clone(), a.data.clone()))
            .collect();
        write_safetensors(&place.path("model/model.safetensors"), &tensors, entries).unwrap();
    };
    write(entries.clone());
    assert_eq!(predict(), before);
    // A model that leaves its network open is none.
    let open = config.replace("\nname = \"efficientnet_b0\"\n", "\nname = \"auto\"\n");
    entries.insert("config".into(), open);
    write(entries);
    let line = "predict model parts/test/dent --device cpu --json";
    let words = ["the model is damaged", "no backbone `auto`"];
    unchanged(&place, line, 1, &words, || place.run(line));
}
