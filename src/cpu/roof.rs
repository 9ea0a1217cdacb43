//! What the machine can do at best: see `shaders/roof.wgsl`.

use super::isa::Isa;
use super::vectorised;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub count: u32,
    pub rounds: u32,
}

/// Independent chains, as many as hide the latency of two multiply-adds a cycle.
const CHAINS: usize = 10;
/// Elements of a chain.
const LANES: usize = 16;

/// to = from, on all cores.
pub fn copy(from: &[f32], to: &mut [f32]) {
    let chunk = from.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let pairs = to.par_chunks_mut(chunk).zip(from.par_chunks(chunk));
    pairs.for_each(|(to, from)| to.copy_from_slice(from));
}

/// Multiply-adds in registers on all cores; their number is [`flops`].
pub fn arithmetic(params: &Params) -> f32 {
    let fused = cfg!(target_feature = "fma") || fused_multiply_add();
    let chains = (0..params.count).into_par_iter().with_max_len(1);
    let sums = chains.map(|i| {
        let start = i as f32 * 1e-3;
        vectorised(
            #[inline(always)]
            || match (fused, Isa::get()) {
                // Of its sixteen registers one vector for each chain, half as long.
                (true, Isa::Avx2) => chain::<8>(start, 2 * params.rounds, f32::mul_add),
                (true, _) => chain::<LANES>(start, params.rounds, f32::mul_add),
                (false, _) => chain::<LANES>(start, params.rounds, |x, a, b| x * a + b),
            },
        )
    });
    sums.sum()
}

/// Operations of [`arithmetic`].
pub fn flops(params: &Params) -> u64 {
    2 * (CHAINS * LANES) as u64 * u64::from(params.count) * u64::from(params.rounds)
}

fn fused_multiply_add() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::get() >= Isa::Avx2;
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

#[inline(always)]
fn chain<const N: usize>(start: f32, rounds: u32, step: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut x = [[start; N]; CHAINS];
    let (a, b) = (std::hint::black_box(0.999), std::hint::black_box(1e-3));
    for _ in 0..rounds {
        for row in &mut x {
            for x in row.iter_mut() {
                *x = step(*x, a, b);
            }
        }
    }
    x.iter().flatten().sum()
}
