//! Seeded numbers: a counter through splitmix64. The same seed gives the same bits on every machine,
//! and the PyTorch reference program makes the same ones (`tools/ast_torch/generator.py`).

/// Random word `i` of a seed (splitmix64 at its `i + 1`-th state).
pub fn hash(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform number `i` of a seed, in [0, 1): a multiple of 2^-24.
pub fn uniform(seed: u64, i: u64) -> f64 {
    (hash(seed, i) >> 40) as f64 / (1u64 << 24) as f64
}

/// The seed that belongs to a name: FNV-1a (64 bits) of its bytes, XOR `base`.
pub fn named_seed(name: &str, base: u64) -> u64 {
    let fnv = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    fnv ^ base
}

/// `len` numbers, uniform in ±`bound`: the seeded tensor of that name, row-major.
pub fn named_tensor(name: &str, len: usize, bound: f64, base: u64) -> Vec<f32> {
    named_tensor_around(name, len, 0.0, bound, base)
}

/// `len` numbers, uniform in `centre` ± `bound`, computed in f64.
pub fn named_tensor_around(name: &str, len: usize, centre: f64, bound: f64, base: u64) -> Vec<f32> {
    let seed = named_seed(name, base);
    (0..len as u64)
        .map(|i| (centre + (2.0 * uniform(seed, i) - 1.0) * bound) as f32)
        .collect()
}

/// A stream of numbers: `hash(seed, 0)`, `hash(seed, 1)`, ...
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// The stream of a name, independent of the streams of other names.
    pub fn named(name: &str, base: u64) -> Self {
        Self::new(named_seed(name, base))
    }

    pub fn next_u64(&mut self) -> u64 {
        let word = hash(self.seed, self.count);
        self.count += 1;
        word
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 40) as f64 / (1u64 << 24) as f64
    }

    /// Standard normal (Box-Muller; takes two uniform numbers, returns one).
    pub fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform integer in 0..`n`; 0 where `n` is 0. (Multiply and shift: a bias below n / 2^64.)
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts the items into a uniformly random order (Fisher-Yates from the top).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
