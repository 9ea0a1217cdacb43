//! Wide vectors without building for one machine: a closure is compiled once per instruction set
//! and the best one is picked at run time.

use super::isa::Isa;

/// Runs `f` compiled for the widest vectors of this machine. Mark the closure and everything hot
/// that it calls `#[inline(always)]`: only what is inlined here is vectorised.
#[inline]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this machine has the instructions.
    match Isa::get() {
        Isa::Avx512 => return unsafe { avx512(f) },
        Isa::Avx2 => return unsafe { avx2(f) },
        Isa::Baseline => (),
    }
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// eˣ to 2 ulp, without a call, so that loops around it vectorise (Cephes' polynomial); 0 from −87.7 down, infinite
/// from 88.4 up.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // At the ends n is −127 and 128, of which the last line makes 0 and infinity.
    let x = x.clamp(-88.0, 88.72);
    let n = (x * std::f32::consts::LOG2_E + 0.5).floor();
    // ln 2 in two parts, so that the reduction is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    y * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// The arc tangent to 2 ulp, without a call or a branch (Cephes' polynomial).
#[inline(always)]
pub fn atan(x: f32) -> f32 {
    let t = x.abs();
    let (above, far) = (t > 0.414_213_57, t > 2.414_213_7);
    let (mut base, mut top, mut bottom) = (0.0, t, 1.0);
    if above {
        (base, top, bottom) = (std::f32::consts::FRAC_PI_4, t - 1.0, t + 1.0);
    }
    if far {
        (base, top, bottom) = (std::f32::consts::FRAC_PI_2, -1.0, t);
    }
    let r = top / bottom;
    let z = r * r;
    let p = 8.053_744_6e-2;
    let p = p * z - 1.387_768_5e-1;
    let p = p * z + 1.997_771_1e-1;
    let p = p * z - 3.333_295e-1;
    (base + (p * z * r + r)).copysign(x)
}

#[cfg(test)]
mod tests {
    #[test]
    fn atan_is_within_two_ulp() {
        for i in -40_000..40_000 {
            let x = i as f32 * 0.001;
            let (fast, exact) = (super::atan(x) as f64, (x as f64).atan());
            assert!(
                (fast - exact).abs() <= 2.4e-7 * exact.abs(),
                "atan({x}) = {fast}, not {exact}"
            );
        }
        assert_eq!(super::atan(f32::INFINITY), std::f32::consts::FRAC_PI_2);
        assert!(super::atan(f32::NAN).is_nan());
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for i in -8600..8800 {
            let x = i as f32 * 0.01;
            let (fast, exact) = (super::exp(x) as f64, (x as f64).exp());
            assert!(
                (fast - exact).abs() <= 2.4e-7 * exact,
                "exp({x}) = {fast}, not {exact}"
            );
        }
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(f32::INFINITY), f32::INFINITY);
        assert!(super::exp(f32::NAN).is_nan());
    }
}
