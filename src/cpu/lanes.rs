//! Vectors of f32, one type per instruction set, for the kernels that must not be left to the
//! compiler's vectoriser: [`run`] picks the widest set of this machine.

use super::isa::Isa;

/// Work written once for all widths. Mark `run` and everything hot that it calls
/// `#[inline(always)]`.
pub trait Kernel {
    type Output;
    fn run<V: Lanes>(self) -> Self::Output;
}

/// Some f32 side by side. `load` and `store` touch [`Lanes::N`] elements from the pointer on, which
/// must be inside one allocation.
pub trait Lanes: Copy {
    const N: usize;
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `N` elements can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` elements can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// The first `n` elements, up to [`Lanes::N`], and zeros.
    /// # Safety
    /// `n` elements can be read at `from`.
    unsafe fn load_first(n: usize, from: *const f32) -> Self;
    /// # Safety
    /// `n` elements, up to [`Lanes::N`], can be written at `to`.
    unsafe fn store_first(self, n: usize, to: *mut f32);
    /// As `store`, past the caches where `to` is aligned to the vector: for what is read much later.
    /// # Safety
    /// As `store`; [`Lanes::fence`] comes before another thread reads it.
    unsafe fn stream(self, to: *mut f32);
    /// Orders what was streamed before what follows.
    fn fence();
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    /// self·factor + term
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// To the nearest integer.
    fn round(self) -> Self;
    /// self·2ⁿ for integers n in ±127.
    fn scale(self, n: Self) -> Self;

    /// e⁻ˣ to 2 ulp (Cephes' polynomial), infinite at the lower clamp. Negated, as the sigmoid asks for it.
    #[inline(always)]
    fn exp_neg(self) -> Self {
        // In this order NaN stays NaN.
        let x = Self::splat(87.0).min(Self::splat(-88.72).max(self));
        let n = x.mul(Self::splat(-std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, so that the reduction is exact.
        let r = n.mul_add(Self::splat(0.693_359_4), x);
        let r = n.mul_add(Self::splat(-2.121_944_4e-4), r);
        let p = Self::splat(1.987_569_1e-4);
        let p = p.mul_add(r, Self::splat(-1.398_2e-3));
        let p = p.mul_add(r, Self::splat(8.333_452e-3));
        let p = p.mul_add(r, Self::splat(-4.166_579_6e-2));
        let p = p.mul_add(r, Self::splat(1.666_666_5e-1));
        let p = p.mul_add(r, Self::splat(-0.5));
        let one = Self::splat(1.0);
        one.sub(p.mul_add(r.mul(r), r)).scale(n)
    }
}

/// `width` elements in `W` vectors, zeros behind them.
///
/// # Safety
/// They can be read at `from`.
#[inline(always)]
pub unsafe fn load_row<V: Lanes, const W: usize>(width: usize, from: *const f32) -> [V; W] {
    let mut row = [V::splat(0.0); W];
    for (i, part) in row.iter_mut().enumerate() {
        let (first, from) = (i * V::N, from.wrapping_add(i * V::N));
        // SAFETY: the caller's.
        *part = match width >= first + V::N {
            true => unsafe { V::load(from) },
            false => unsafe { V::load_first(width.saturating_sub(first), from) },
        };
    }
    row
}

/// The first `width` elements of `W` vectors.
///
/// # Safety
/// They can be written at `to`.
#[inline(always)]
pub unsafe fn store_row<V: Lanes, const W: usize>(row: [V; W], width: usize, to: *mut f32) {
    for (i, part) in row.into_iter().enumerate() {
        let (first, to) = (i * V::N, to.wrapping_add(i * V::N));
        // SAFETY: the caller's.
        match width >= first + V::N {
            true => unsafe { part.store(to) },
            false => unsafe { part.store_first(width.saturating_sub(first), to) },
        }
    }
}

/// Asks for the line that holds `at`, which need not be readable, into the second level of cache.
#[inline(always)]
pub fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: it reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same pointer, of which the compiler knows nothing: from what it knows of a loop it would make one pointer for every row
/// of a tile, and run out of registers.
#[inline(always)]
pub fn opaque(at: *const f32) -> *const f32 {
    // SAFETY: no instruction, so nothing is read.
    #[cfg(target_arch = "x86_64")]
    #[allow(clippy::pointers_in_nomem_asm_block)]
    let at = unsafe {
        let mut at = at;
        std::arch::asm!("/* {0} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags));
        at
    };
    at
}

/// Runs a kernel with the widest vectors of this machine.
#[inline]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this machine has the instructions.
    match Isa::get() {
        Isa::Avx512 => return unsafe { x86::avx512(kernel) },
        Isa::Avx2 => return unsafe { x86::avx2(kernel) },
        Isa::Baseline => (),
    }
    kernel.run::<Four>()
}

/// Four lanes, which every compiler knows how to vectorise.
#[derive(Clone, Copy)]
pub struct Four([f32; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Four {
    const N: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(n: usize, from: *const f32) -> Self {
        let mut first = [0.0; 4];
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from, first.as_mut_ptr(), n.min(4)) };
        Self(first)
    }
    #[inline(always)]
    unsafe fn store_first(self, n: usize, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, n.min(4)) };
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.store(to) }
    }
    #[inline(always)]
    fn fence() {}
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    // As the instructions do: where one is NaN, `other`.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // Not `f32::mul_add`, a slow call where the machine has no such instruction.
        self.mul(factor).add(term)
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(|x| (x + 0.5).floor()))
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        self.zip(n, |x, n| {
            x * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Lanes};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<__m512>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<__m256>()
    }

    /// The first `n` of 16 lanes.
    #[inline(always)]
    fn first16(n: usize) -> __mmask16 {
        ((1_u32 << n.min(16)) - 1) as u16
    }

    /// The first `n` of 8 lanes, which have all bits set.
    #[inline(always)]
    fn first8(n: usize) -> __m256i {
        const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: 8 of the 16 are read; the machine has the instruction.
        unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - n.min(8)).cast()) }
    }

    macro_rules! lanes {
        ($type:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $stream:ident, $load_first:expr, $store_first:expr, $add:ident, $sub:ident, $mul:ident,
         $div:ident, $max:ident, $min:ident, $fma:ident, $round:expr, $scale:expr, {$($own:item)*}) => {
            // SAFETY of all: only `avx512` and `avx2` above make these types, on machines that have
            // the instructions; pointers are the caller's.
            impl Lanes for $type {
                const N: usize = $n;
                #[inline(always)]
                fn splat(x: f32) -> Self {
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn load_first(n: usize, from: *const f32) -> Self {
                    unsafe { $load_first(n, from) }
                }
                #[inline(always)]
                unsafe fn store_first(self, n: usize, to: *mut f32) {
                    unsafe { $store_first(self, n, to) }
                }
                #[inline(always)]
                unsafe fn stream(self, to: *mut f32) {
                    match to.addr().is_multiple_of(size_of::<Self>()) {
                        true => unsafe { $stream(to, self) },
                        false => unsafe { $store(to, self) },
                    }
                }
                #[inline(always)]
                fn fence() {
                    unsafe { _mm_sfence() }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    unsafe { $mul(self, other) }
                }
                #[inline(always)]
                fn div(self, other: Self) -> Self {
                    unsafe { $div(self, other) }
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    unsafe { $max(self, other) }
                }
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    unsafe { $min(self, other) }
                }
                #[inline(always)]
                fn mul_add(self, factor: Self, term: Self) -> Self {
                    unsafe { $fma(self, factor, term) }
                }
                #[inline(always)]
                fn round(self) -> Self {
                    unsafe { $round(self) }
                }
                #[inline(always)]
                fn scale(self, n: Self) -> Self {
                    unsafe { $scale(self, n) }
                }
                $($own)*
            }
        };
    }

    lanes!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_stream_ps,
        |n, from| _mm512_maskz_loadu_ps(first16(n), from),
        |x, n, to| _mm512_mask_storeu_ps(to, first16(n), x),
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        _mm512_fmadd_ps,
        |x| _mm512_roundscale_ps::<0>(x),
        |x, n| _mm512_scalef_ps(x, n),
        {
            /// With 2^(i/16) in a register the polynomial is short.
            #[inline(always)]
            fn exp_neg(self) -> Self {
                const ROOTS: [f32; 16] = [
                    1.0,
                    1.044_273_7,
                    1.090_507_7,
                    1.138_788_6,
                    1.189_207_1,
                    1.241_857_8,
                    1.296_839_6,
                    1.354_255_5,
                    std::f32::consts::SQRT_2,
                    1.476_826_2,
                    1.542_210_8,
                    1.610_490_3,
                    1.681_792_8,
                    1.756_252_2,
                    1.834_008_1,
                    1.915_206_6,
                ];
                // Added to sixteenths, it leaves their number in the last bits.
                const SIXTEENTHS: f32 = 786_432.0;
                let x = Self::splat(87.0).min(Self::splat(-88.8).max(self));
                let shifted = x.mul_add(
                    Self::splat(-std::f32::consts::LOG2_E),
                    Self::splat(SIXTEENTHS),
                );
                let n = shifted.sub(Self::splat(SIXTEENTHS));
                let r = n.mul_add(Self::splat(0.693_359_4), x);
                let r = n.mul_add(Self::splat(-2.121_944_4e-4), r);
                let p = r.mul_add(Self::splat(-1.666_666_5e-1), Self::splat(0.5));
                let p = p.mul_add(r, Self::splat(-1.0)).mul_add(r, Self::splat(1.0));
                // SAFETY: this machine has the instructions.
                unsafe {
                    let i = _mm512_castps_si512(shifted);
                    let root = _mm512_permutexvar_ps(i, Self::load(ROOTS.as_ptr()));
                    _mm512_scalef_ps(p.mul(root), n)
                }
            }
        }
    );
    lanes!(
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_stream_ps,
        |n, from| _mm256_maskload_ps(from, first8(n)),
        |x, n, to| _mm256_maskstore_ps(to, first8(n), x),
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        _mm256_fmadd_ps,
        |x| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x),
        |x, n| {
            let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_cvtps_epi32(n),
                _mm256_set1_epi32(127),
            ));
            _mm256_mul_ps(x, _mm256_castsi256_ps(power))
        },
        {
            /// As for 512 bits, with 2^(i/8).
            #[inline(always)]
            fn exp_neg(self) -> Self {
                const ROOTS: [f32; 8] = [
                    1.0,
                    1.090_507_7,
                    1.189_207_1,
                    1.296_839_6,
                    std::f32::consts::SQRT_2,
                    1.542_210_8,
                    1.681_792_8,
                    1.834_008_1,
                ];
                // Added to eighths, it leaves their number in the last bits.
                const EIGHTHS: f32 = 12_582_912.0;
                let x = Self::splat(87.0).min(Self::splat(-88.72).max(self));
                let shifted = x.mul_add(
                    Self::splat(-8.0 * std::f32::consts::LOG2_E),
                    Self::splat(EIGHTHS),
                );
                let n = shifted.sub(Self::splat(EIGHTHS));
                let r = n.mul_add(Self::splat(0.693_359_4 / 8.0), x);
                let r = n.mul_add(Self::splat(-2.121_944_4e-4 / 8.0), r);
                // Of the least error, 2.6e-8, where |r| ≤ ln 2 / 16.
                let p = r.mul_add(Self::splat(-0.166_668_6), Self::splat(0.500_064_5));
                let p = p.mul_add(r, Self::splat(-1.0)).mul_add(r, Self::splat(1.0));
                // SAFETY: this machine has the instructions.
                unsafe {
                    let i = _mm256_castps_si256(shifted);
                    let root = _mm256_permutevar8x32_ps(Self::load(ROOTS.as_ptr()), i);
                    let power =
                        _mm256_slli_epi32::<20>(_mm256_andnot_si256(_mm256_set1_epi32(7), i));
                    let root = _mm256_add_epi32(_mm256_castps_si256(root), power);
                    p.mul(_mm256_castsi256_ps(root))
                }
            }
        }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exponential(f32);

    impl Kernel for Exponential {
        type Output = f32;

        #[inline(always)]
        fn run<V: Lanes>(self) -> f32 {
            let mut out = [f32::NAN; 16];
            // SAFETY: no vector is longer.
            unsafe { V::splat(self.0).exp_neg().store(out.as_mut_ptr()) };
            out[V::N - 1]
        }
    }

    #[test]
    fn exp_neg_is_within_two_ulp() {
        for i in -87_999..=86_000 {
            let x = i as f32 * 1e-3;
            let (fast, exact) = (run(Exponential(x)), (-f64::from(x)).exp());
            let off = (f64::from(fast) - exact).abs();
            assert!(off <= 2.4e-7 * exact, "exp(-{x}) = {fast}, not {exact}");
        }
        assert!(run(Exponential(f32::NAN)).is_nan());
        assert!(run(Exponential(f32::INFINITY)) < 2e-38);
        assert_eq!(run(Exponential(f32::NEG_INFINITY)), f32::INFINITY);
    }
}
