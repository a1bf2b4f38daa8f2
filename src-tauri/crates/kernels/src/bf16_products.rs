//! Which instructions this processor has for products of BF16 with BF16, found out when the program runs.
//!
//! Processors have them beside one level of [`Isa`] or another, and more than one kind, which is why they are no levels.

#![cfg_attr(
    all(target_arch = "x86_64", target_os = "linux"),
    expect(unsafe_code, reason = "asks the system for the use of registers")
)]

use crate::Isa;

/// How a [`PairedMatrix`](crate::PairedMatrix) is multiplied.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Bf16Products {
    /// Both sides are widened, and multiplied in F32: for every level, and for comparison.
    Widened,
    /// By dot products of pairs, or of 2 by 4 with 4 by 2: AVX512_BF16 beside [`Isa::Avx512Vnni`], and BF16 of ARM.
    Dots,
    /// By products of 16 by 32 with 32 by 16, in registers of their own: AMX-BF16 beside [`Isa::Avx512Vnni`], on Linux.
    Amx,
}

impl Bf16Products {
    /// Every kind, whether this processor has it or not.
    pub const ALL: [Self; 3] = [Self::Widened, Self::Dots, Self::Amx];

    /// Whether this processor has them, and what the level needs.
    pub fn is_available(self, isa: Isa) -> bool {
        isa.is_available()
            && match (self, isa) {
                (Self::Widened, _) => true,
                #[cfg(target_arch = "x86_64")]
                (Self::Dots, Isa::Avx512Vnni) => is_x86_feature_detected!("avx512bf16"),
                #[cfg(target_arch = "aarch64")]
                (Self::Dots, Isa::Dotprod | Isa::I8mm) => std::arch::is_aarch64_feature_detected!("bf16"),
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                (Self::Amx, Isa::Avx512Vnni) => amx::is_available(),
                _ => false,
            }
    }

    /// The kinds that this processor has beside a level that it has.
    pub fn available(isa: Isa) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |products| products.is_available(isa))
    }

    /// The fastest of [`Self::available`].
    pub fn best(isa: Isa) -> Self {
        Self::available(isa).last().unwrap_or(Self::Widened)
    }

    /// Whether products with a [`PairedMatrix`](crate::PairedMatrix) are faster with these functions than those with an
    /// [`ExactMatrix`](crate::ExactMatrix) of the same weights: where there is AMX, or dot products of another maker than
    /// Intel. Intel's take two cycles each, in which its multipliers do twice the work in F32;
    /// the others were not measured.
    pub fn pay(isa: Isa) -> bool {
        match Self::best(isa) {
            Self::Widened => false,
            Self::Dots => !is_intel(),
            Self::Amx => true,
        }
    }

    /// A name that stays the same from release to release.
    pub fn name(self) -> &'static str {
        match self {
            Self::Widened => "widened",
            Self::Dots => "dots",
            Self::Amx => "amx",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let maker = std::arch::x86_64::__cpuid(0);
    [maker.ebx, maker.edx, maker.ecx] == [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    /// Asks for the use of a part of the registers, see the documentation of Linux, "Using XSTATE features in user space
    /// applications".
    const REQUEST: libc::c_long = 0x1023;

    /// The contents of the registers of AMX.
    const TILES: libc::c_long = 18;

    /// Whether the processor has AMX with BF16 and the system lets this process use it, which has to be asked for once.
    pub(super) fn is_available() -> bool {
        static IS_AVAILABLE: OnceLock<bool> = OnceLock::new();
        *IS_AVAILABLE.get_or_init(|| {
            let last = __cpuid(0).eax;
            let (bf16, tiles) = (1 << 22, 1 << 24);
            let has_both = last >= 0x1d && __cpuid_count(7, 0).edx & (bf16 | tiles) == bf16 | tiles;
            // The first palette is eight registers of 16 rows of 64 bytes.
            has_both && __cpuid_count(0x1d, 0).eax >= 1 && request()
        })
    }

    /// Asks the system. Later threads have the use of them too, and so have those that are there.
    fn request() -> bool {
        // SAFETY: it changes nothing but what the process may use; with the permission frames of signals become larger, for
        // which the system makes sure that there is room.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILES) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_here_multiplies_bf16_somehow_and_no_other_does() {
        for isa in Isa::ALL {
            assert_eq!(Bf16Products::Widened.is_available(isa), isa.is_available());
            assert_eq!(Bf16Products::available(isa).count() > 0, isa.is_available());
            assert!(Bf16Products::best(isa) > Bf16Products::Widened || !Bf16Products::pay(isa));
        }
    }

    #[test]
    fn the_portable_level_has_no_instructions() {
        assert_eq!(Bf16Products::best(Isa::Portable), Bf16Products::Widened);
    }
}
