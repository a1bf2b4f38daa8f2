//! Compiles a closure once for each level of vector instructions, so that plain loops in it become vectors as wide as the
//! processor has. No intrinsics: those are in the kernels.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls functions that need features of the processor, after asking for them")
)]

use crate::Isa;

/// Runs `work` compiled for `isa`, or as it is where the processor lacks that.
#[inline]
pub(crate) fn vectorised<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the features of this level.
        Isa::Avx512Vnni if isa.is_available() => unsafe { with_avx512(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 | Isa::AvxVnni if isa.is_available() => unsafe { with_avx2(work) },
        // Every 64-bit ARM has the vectors that these loops can use.
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
