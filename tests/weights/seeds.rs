//! Seeded numbers against the PyTorch reference's, permutations against numpy's.

use astray::models::permutation::permutation;
use astray::nn::random::{self, Random};
use astray::nn::weights::Weights;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::reference;

#[test]
fn hash_is_splitmix64() {
    // The first outputs of the published generator (Vigna) for the seeds 0 and 1234567.
    assert_eq!(random::hash(0, 0), 0xE220_A839_7B1D_CDAF);
    assert_eq!(random::hash(1_234_567, 0), 6_457_827_717_110_365_317);
    assert_eq!(random::hash(1_234_567, 1), 3_203_168_211_198_807_973);
    // FNV-1a's published test vectors.
    assert_eq!(random::named_seed("", 0), 0xcbf2_9ce4_8422_2325);
    assert_eq!(random::named_seed("foobar", 0), 0x8594_4171_f739_67e8);
}

#[test]
fn tensors_are_those_of_the_pytorch_reference() {
    let stored = Weights::read(reference("operators.safetensors")).unwrap();
    let made = random::named_tensor("generator.check", 8, 1.0, 0xA57A);
    assert_eq!(stored.tensors["generator.check"].data, made);
    let around = random::named_tensor_around("generator.check", 8, 2.0, 0.5, 0xA57A);
    for (around, made) in around.iter().zip(&made) {
        assert!((around - (2.0 + 0.5 * made)).abs() < 1e-6);
    }
}

#[test]
fn numbers_have_their_distributions() {
    let mut random = Random::named("distribution", 1);
    let count = 100_000;
    let normal: Vec<f64> = (0..count).map(|_| random.normal()).collect();
    let mean = normal.iter().sum::<f64>() / count as f64;
    let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
    // Five standard errors.
    assert!(mean.abs() < 0.016, "{mean}");
    assert!((variance - 1.0).abs() < 0.023, "{variance}");
    let mut hits = [0; 7];
    (0..70_000).for_each(|_| hits[random.below(7)] += 1);
    assert!(
        hits.iter().all(|hits| (9_500..10_500).contains(hits)),
        "{hits:?}"
    );
}

#[test]
fn shuffle_keeps_every_item_and_repeats_with_the_seed() {
    let shuffled = |seed| {
        let mut items: Vec<usize> = (0..100).collect();
        Random::new(seed).shuffle(&mut items);
        items
    };
    let mut sorted = shuffled(3);
    assert_ne!(sorted, shuffled(4));
    assert_eq!(sorted, shuffled(3));
    sorted.sort();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
}

#[test]
fn permutations_are_those_of_the_spec() {
    let heads: [(u32, usize, [usize; 8]); 6] = [
        (0, 368, [106, 260, 45, 26, 78, 348, 90, 245]),
        (1, 368, [301, 122, 228, 257, 102, 147, 234, 78]),
        (2, 368, [24, 151, 7, 317, 127, 285, 350, 274]),
        (3, 368, [102, 331, 240, 24, 134, 159, 151, 112]),
        (0, 304, [66, 156, 247, 267, 145, 135, 81, 137]),
        (0, 64, [45, 29, 43, 61, 34, 33, 31, 40]),
    ];
    for (seed, count, head) in heads {
        assert_eq!(
            permutation(seed, count)[..8],
            head,
            "seed {seed} of {count}"
        );
    }
    assert_eq!(permutation(5, 1), [0]);
    assert!(permutation(5, 0).is_empty());
}

#[test]
fn permutations_are_numpys() {
    let text = std::fs::read_to_string(reference("random_state.json")).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    let entries = stored["permutations"].as_array().unwrap();
    assert!(entries.len() >= 40);
    for entry in entries {
        let number = |key: &str| entry[key].as_u64().unwrap();
        let order = permutation(number("seed") as u32, number("count") as usize);
        let bytes: Vec<u8> = order
            .iter()
            .flat_map(|&i| (i as u32).to_le_bytes())
            .collect();
        let digest = Sha256::digest(&bytes);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry["sha256"], digest, "{entry}");
    }
}
