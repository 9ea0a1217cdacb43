//! numpy's legacy `RandomState(seed).permutation(n)`: the teacher's channel permutations, so that
//! the authors' checkpoints load.

const N: usize = 624;
const M: usize = 397;

/// The Mersenne twister MT19937 (Matsumoto & Nishimura, 1998).
struct MersenneTwister {
    state: [u32; N],
    next: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    fn draw(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in 0..=max by masked rejection.
    fn up_to(&mut self, max: u32) -> u32 {
        let mask = u32::MAX.checked_shr(max.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.draw() & mask;
            if value <= max {
                return value;
            }
        }
    }
}

/// A permutation of 0..n, by Fisher-Yates from the top.
pub fn permutation(seed: u32, n: usize) -> Vec<usize> {
    let mut random = MersenneTwister::new(seed);
    let mut items: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        items.swap(i, random.up_to(i as u32) as usize);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::permutation;

    #[test]
    fn agrees_with_numpy() {
        for (seed, n, first) in [
            (0, 368, [106, 260, 45, 26, 78, 348, 90, 245]),
            (1, 368, [301, 122, 228, 257, 102, 147, 234, 78]),
            (2, 368, [24, 151, 7, 317, 127, 285, 350, 274]),
            (3, 368, [102, 331, 240, 24, 134, 159, 151, 112]),
            (0, 304, [66, 156, 247, 267, 145, 135, 81, 137]),
            (0, 64, [45, 29, 43, 61, 34, 33, 31, 40]),
        ] {
            let permutation = permutation(seed, n);
            assert_eq!(permutation[..8], first, "seed {seed}, {n} channels");
            let mut sorted = permutation;
            sorted.sort();
            assert!(sorted.into_iter().eq(0..n));
        }
    }
}
