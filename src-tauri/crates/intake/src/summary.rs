//! What the headers of a model say about it, without running it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What headers and settings say; what they leave open is `None`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// `model_type` of `config.json`, or `general.architecture`.
    pub architecture: Option<String>,
    /// Blocks of the encoder.
    pub layers: Option<u64>,
    /// The width of its vectors.
    pub hidden: Option<u64>,
    /// Tokens that it knows.
    pub vocabulary: Option<u64>,
    /// Tokens that it can read at once, as far as positions go.
    pub max_positions: Option<u64>,
    /// Numbers of all tensors; of quantised ones, the numbers that they stand for.
    pub parameters: Option<u64>,
    /// How many numbers are stored in each type: `F16`, `Q4_K`, `MLX 4-bit`.
    pub precisions: BTreeMap<String, u64>,
    /// The quantised type that most numbers have, with its groups where it has some: `Q8_0`, `MLX 4-bit, groups of 64`. `None`
    /// where most are floating-point numbers.
    pub quantisation: Option<String>,
}

impl Summary {
    /// Counts `numbers` of the type `precision`.
    pub(crate) fn count(&mut self, precision: &str, numbers: u64) {
        let counted = self.precisions.entry(precision.to_owned()).or_default();
        *counted = counted.saturating_add(numbers);
        self.parameters = Some(self.parameters.unwrap_or(0).saturating_add(numbers));
    }

    /// The type of most numbers, if it is a quantised one.
    pub(crate) fn prevailing(&self) -> Option<String> {
        let (name, _) = self.precisions.iter().max_by_key(|(_, numbers)| **numbers)?;
        (!["F16", "BF16", "F32", "F64"].contains(&name.as_str())).then(|| name.clone())
    }
}
