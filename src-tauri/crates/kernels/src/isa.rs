//! Which vector instructions this processor has, found out when the program runs.
//!
//! A level is one way through this crate, not one bit of the processor: it stands for every feature that its functions
//! need. What is not listed runs [`Isa::Portable`].

/// A set of vector instructions that this crate has functions for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on every processor.
    Portable,
    /// x86 with AVX2, FMA and F16C.
    Avx2,
    /// [`Self::Avx2`] and the 256-bit dot products of bytes.
    AvxVnni,
    /// x86 with AVX-512 F, BW, VL, DQ and the dot products of bytes.
    Avx512Vnni,
    /// ARM with the dot products of bytes.
    Dotprod,
    /// [`Self::Dotprod`] and the products of 2 by 8 with 8 by 2 bytes.
    I8mm,
}

impl Isa {
    /// Every level, whether this processor has it or not.
    pub const ALL: [Self; 6] = [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni, Self::Dotprod, Self::I8mm];

    /// Whether this processor has what the level needs.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => Self::Dotprod.is_available() && std::arch::is_aarch64_feature_detected!("i8mm"),
            #[allow(unreachable_patterns, reason = "each architecture lists its own levels")]
            _ => false,
        }
    }

    /// The last of [`Self::ALL`] that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// The levels that this processor has, the portable one first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// A name that stays the same from release to release, for files made for this level.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Dotprod => "neon-dotprod",
            Self::I8mm => "neon-i8mm",
        }
    }
}
