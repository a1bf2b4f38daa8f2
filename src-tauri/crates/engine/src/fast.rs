//! Encoders on `embedbar-kernels`: matrices that were packed once, texts end to end without padding, fused layers.
//!
//! Weights of four and eight bits stay codes: each row of activations is rounded to eight bits with a scale for every group of
//! inputs, and products are those of integers. Floating-point weights are widened exactly and multiplied in F32; on request, rows
//! are rounded to BF16 beside weights of that type, where the processor multiplies those faster. candle's
//! encoders (`bert`, `nomic_bert`, `qwen3`) remain the reference that tests compare with, and what runs where these do not: processors without
//! the instructions, and widths that do not divide.

use std::sync::OnceLock;

use embedbar_kernels::{
    Isa,
    cores::compute_threads,
    team::{Options, Team},
};

use crate::facts::{Activation, BertFacts, Family, NomicBertFacts, Qwen3Facts};

pub(crate) mod bert;
mod encoder;
mod layer_norm;
mod matrix;
pub(crate) mod nomic_bert;
mod packing;
pub(crate) mod qwen3;
mod room;
mod shelf;
mod table;
mod turns;

pub(crate) use packing::Packing;
pub(crate) use shelf::load;

/// The threads that compute, started by the first who asks: they keep the priority of whoever that is.
pub(crate) fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team::new(compute_threads(), Options::default()))
}

/// Whether this processor has instructions that make these encoders faster than candle's, and the model's widths suit them.
pub(crate) fn suits(family: &Family) -> bool {
    let heads = |width: usize| width.is_multiple_of(16);
    let inputs = |width: usize| width.is_multiple_of(32);
    Isa::best() != Isa::Portable
        && match family {
            Family::Bert(BertFacts { hidden, heads: count, intermediate, .. }) => {
                inputs(*hidden) && inputs(*intermediate) && hidden.is_multiple_of(*count) && heads(hidden / count)
            }
            Family::NomicBert(NomicBertFacts { hidden, heads: count, intermediate, .. }) => {
                inputs(*hidden) && inputs(*intermediate) && heads(hidden / count)
            }
            Family::Qwen3(Qwen3Facts { hidden, heads: count, head_width, intermediate, .. }) => {
                inputs(*hidden) && inputs(*intermediate) && inputs(count * head_width) && heads(*head_width)
            }
            Family::Package => false,
        }
}

impl From<Activation> for embedbar_kernels::elementwise::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::Relu => Self::Relu,
        }
    }
}
