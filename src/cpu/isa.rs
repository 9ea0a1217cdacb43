//! The instruction sets that kernels are compiled for. The widest that this machine has is used;
//! `ASTRAY_ISA` names a narrower one, to compare them or to test what another machine will run.

use crate::{Error, Result};
use std::sync::OnceLock;

/// From narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every machine of this architecture has: SSE2, NEON.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, DQ and BW.
    Avx512,
}

const VARIABLE: &str = "ASTRAY_ISA";

impl Isa {
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Baseline => "baseline",
        }
    }

    /// The set that kernels run with, chosen at the first call.
    ///
    /// # Panics
    /// Where `ASTRAY_ISA` is wrong: [`Isa::check`] it first.
    pub fn get() -> Self {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        *CHOSEN.get_or_init(|| Self::check().unwrap_or_else(|error| panic!("{error}")))
    }

    /// The set that `ASTRAY_ISA` asks for, or the widest.
    ///
    /// # Errors
    /// [`Error::Usage`] for a set that is unknown, or that this machine has not.
    pub fn check() -> Result<Self> {
        let widest = Self::widest();
        let Ok(wanted) = std::env::var(VARIABLE) else {
            return Ok(widest);
        };
        let here = Self::ALL.into_iter().filter(|isa| *isa <= widest);
        here.clone()
            .find(|isa| isa.name() == wanted)
            .ok_or_else(|| {
                let here: Vec<_> = here.map(Self::name).collect();
                Error::usage(format!(
                    "{VARIABLE}=\"{wanted}\": this machine can run {}",
                    here.join(", ")
                ))
            })
    }

    fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }
}
