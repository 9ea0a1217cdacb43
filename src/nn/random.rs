//! Random numbers from a counter: the same seed gives the same numbers in Rust and in
//! `tools/reference.py`.

/// A splitmix64 stream.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    drawn: u64,
}

/// Number `i` of the stream `seed`.
pub fn hash(seed: u64, i: u64) -> u64 {
    let z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// In [0, 1), with the 24 bits that an f32 can hold.
fn unit(hash: u64) -> f64 {
    (hash >> 40) as f64 / (1u64 << 24) as f64
}

/// The stream of a named tensor: FNV-1a of the name, xor `base`.
pub fn named_seed(name: &str, base: u64) -> u64 {
    let step = |h: u64, byte: &u8| (h ^ *byte as u64).wrapping_mul(0x100_0000_01b3);
    name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step) ^ base
}

/// `len` numbers uniform in [-bound, bound), the same for the same name.
pub fn named_tensor(name: &str, len: usize, bound: f64, base: u64) -> Vec<f32> {
    let seed = named_seed(name, base);
    (0..len as u64)
        .map(|i| ((2.0 * unit(hash(seed, i)) - 1.0) * bound) as f32)
        .collect()
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.drawn += 1;
        hash(self.seed, self.drawn - 1)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..n; `n` is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next_u64() as u128 * n as u128) >> 64) as usize
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
