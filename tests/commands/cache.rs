//! The feature cache as `train` uses it: what lies there is used where it is whole and was made
//! from the same things, and nowhere else.

use super::{Workplace, tree};
use sha2::{Digest, Sha256};

/// Where an entry's payload starts (src/data/cache.rs): magic, key, hash of the payload, rank and
/// three dimensions.
const HASH: usize = 8 + 32;
const PAYLOAD: usize = HASH + 32 + 8 * 4;

/// Weights to the tap are enough.
fn weights(place: &Workplace, name: &str, seed: u64) {
    place.weights(name, seed, |tensors| {
        tensors.retain(|name, _| {
            let first = name.split('.').take(2).collect::<Vec<_>>();
            ["conv_stem", "bn1"].contains(&first[0])
                || first[0] == "blocks" && ["0", "1", "2"].contains(&first[1])
        });
    });
}

#[test]
fn entries_are_used_rebuilt_and_kept_apart() {
    let place = Workplace::new();
    place.draw_ad("parts", 0, 3);
    weights(&place, "a.safetensors", 1);
    weights(&place, "b.safetensors", 2);
    let train = |options: &str| {
        let line = format!("parts --cache cache --out model {options}");
        let run = place.train(&line);
        let told = run.err.clone();
        run.ok();
        (
            std::fs::read(place.path("model/model.safetensors")).unwrap(),
            told,
        )
    };
    let entries = || tree(&place.path("cache"));

    let (model, _) = train("--weights a.safetensors");
    let first = entries();
    assert_eq!(first.len(), 3);
    let made = |name: &String| {
        let meta = std::fs::metadata(place.path("cache").join(name)).unwrap();
        meta.modified().unwrap()
    };
    let times: Vec<_> = first.keys().map(made).collect();
    let (again, told) = train("--weights a.safetensors");
    assert!(again == model && !told.contains("damaged"), "{told}");
    assert!(first == entries() && first.keys().map(made).collect::<Vec<_>>() == times);

    // A damaged and a shortened entry, and one that is not there.
    let names: Vec<&String> = first.keys().collect();
    let bytes = |name: &str| first[name].clone().unwrap();
    let put = |name: &str, bytes: &[u8]| place.write(&format!("cache/{name}"), bytes);
    let mut damaged = bytes(names[0]);
    damaged[PAYLOAD + 100] ^= 1;
    put(names[0], &damaged);
    put(names[1], &bytes(names[1])[..PAYLOAD + 100]);
    std::fs::remove_file(place.path("cache").join(names[2])).unwrap();
    let (rebuilt, told) = train("--weights a.safetensors");
    assert!(rebuilt == model, "damaged entries changed the model");
    assert_eq!(
        told.matches("damaged and will be rebuilt").count(),
        2,
        "{told}"
    );
    assert!(first == entries(), "the entries were not rebuilt");

    // An entry that is whole is believed: other features in it make another model.
    let mut planted = bytes(names[0]);
    for value in planted[PAYLOAD..].as_chunks_mut::<4>().0 {
        *value = (2.0 * f32::from_le_bytes(*value)).to_le_bytes();
    }
    let hash = Sha256::digest(&planted[PAYLOAD..]);
    planted[HASH..HASH + 32].copy_from_slice(&hash);
    put(names[0], &planted);
    assert!(
        train("--weights a.safetensors").0 != model,
        "the cache was not read"
    );
    put(names[0], &bytes(names[0]));

    // Whatever the features depend on makes other entries.
    let mut count = 3;
    for options in [
        "--weights b.safetensors",
        "--weights a.safetensors --set input.image_size=96",
        "--weights a.safetensors --set backbone.padding=symmetric",
        "--weights a.safetensors --set input.resize=letterbox",
        "--weights a.safetensors --set backbone.tap=3",
    ] {
        train(options);
        count += 3;
        assert_eq!(entries().len(), count, "{options}");
    }
    let before = entries();
    assert!(train("--weights a.safetensors").0 == model);
    // A random backbone is another one for every set of pictures.
    train("--weights seeded");
    assert!(before == entries());
    // One that comes with the program is always the same.
    if super::shipped::are_there() {
        train("");
        count += 3;
        assert_eq!(entries().len(), count);
    }

    // The test set is cached too, and gives the same figures from there.
    train("--weights a.safetensors");
    let evaluate = || {
        let line = "evaluate model parts --cache cache --json --device cpu";
        place.run(line).ok()
    };
    let figures = evaluate();
    assert_eq!(entries().len(), count + 7);
    assert_eq!(evaluate(), figures);
    assert_eq!(
        place.run("evaluate model parts --json --device cpu").ok(),
        figures
    );
}
