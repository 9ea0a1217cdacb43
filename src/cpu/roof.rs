//! What the machine can do at best: see `shaders/roof.wgsl`.

use super::lanes::{Kernel, Lanes, run};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
    pub rounds: u32,
}

/// Independent chains, as many as hide the latency of two multiply-adds a cycle, and as there are registers for.
const CHAINS: usize = 10;
/// Elements of a chain, whatever the width of a vector.
const ELEMENTS: usize = 16;

/// to = from, on all cores.
pub fn copy(from: &[f32], to: &mut [f32]) {
    let chunk = from.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let pairs = to.par_chunks_mut(chunk).zip(from.par_chunks(chunk));
    pairs.for_each(|(to, from)| to.copy_from_slice(from));
}

/// Multiply-adds in registers on all cores; their number is [`flops`].
pub fn arithmetic(params: &Params) -> f32 {
    let tasks = (0..params.count).into_par_iter().with_max_len(1);
    let sums = tasks.map(|i| {
        run(Chains {
            start: i as f32 * 1e-3,
            rounds: params.rounds,
        })
    });
    sums.sum()
}

/// Operations of [`arithmetic`].
pub fn flops(params: &Params) -> u64 {
    2 * (CHAINS * ELEMENTS) as u64 * u64::from(params.count) * u64::from(params.rounds)
}

struct Chains {
    start: f32,
    rounds: u32,
}

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<V: Lanes>(self) -> f32 {
        let (a, b) = (
            V::splat(std::hint::black_box(0.999)),
            V::splat(std::hint::black_box(1e-3)),
        );
        let mut x = [V::splat(self.start); CHAINS];
        for _ in 0..self.rounds as usize * (ELEMENTS / V::N) {
            for x in &mut x {
                *x = x.mul_add(a, b);
            }
        }
        let mut out = [0.0; ELEMENTS];
        let mut sum = 0.0;
        for x in x {
            // SAFETY: no vector is longer.
            unsafe { x.store(out.as_mut_ptr()) };
            sum += out.iter().sum::<f32>();
        }
        sum
    }
}
