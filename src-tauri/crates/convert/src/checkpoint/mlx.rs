//! MLX's quantised checkpoints: integers packed into `U32` words, a scale and a bias for every group of a row.
//!
//! A module `p` that is quantised has `p.weight` (`[rows, row * bits / 32]`, words little-endian, the first number in the lowest
//! bits), `p.scales` and `p.biases` (`[rows, row / group]`); a number is `q * scale + bias`, and a scale may be negative
//! (mlx, `ops.cpp`; mlx-lm, `utils.py`). `config.json` gives bits and group for all modules and other ones for some.
//! [`fold`] makes one tensor of the three, of the shape that the model wants, so that what follows sees no difference.
//!
//! Only the affine mode with 4 or 8 bits is read. The floating-point modes (`mxfp4`, `nvfp4`) have other scales.

use std::collections::HashMap;

use safetensors::Dtype;
use serde_json::Value as Json;

use super::{Content, Shard, Tensor};
use crate::ConvertError;
use crate::configuration::Configuration;

/// How the numbers of a quantised tensor are packed, and where its scales and biases are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Affine {
    pub(crate) packing: Packing,
    pub(crate) scales: Companion,
    pub(crate) biases: Companion,
}

/// Bits of a number, and numbers of a row that share scale and bias.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Packing {
    pub(crate) bits: Bits,
    pub(crate) group: usize,
}

/// Bits of a packed number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bits {
    Four,
    Eight,
}

impl Bits {
    /// Numbers in a byte.
    pub(crate) fn per_byte(self) -> usize {
        match self {
            Self::Four => 2,
            Self::Eight => 1,
        }
    }
}

/// Where a tensor is that belongs to another one: F32, F16 or BF16 numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Companion {
    pub(crate) shard: usize,
    pub(crate) dtype: Dtype,
    pub(crate) offset: u64,
}

/// What `config.json` says of quantisation.
#[derive(Debug)]
struct Quantisation<'a> {
    configuration: &'a Configuration,
    settings: &'a Json,
}

impl Quantisation<'_> {
    /// The packing of `module`, or `None` where it is said not to be quantised.
    fn of(&self, module: &str) -> Result<Option<Packing>, ConvertError> {
        // The keys are MLX's own module paths, which have the prefix that some files lack.
        let named = [module.to_owned(), format!("model.{module}")];
        let own = named.iter().find_map(|name| self.settings.get(name));
        match own {
            Some(Json::Bool(false)) => Ok(None),
            Some(own @ Json::Object(_)) => self.packing(own).map(Some),
            _ => self.packing(self.settings).map(Some),
        }
    }

    fn packing(&self, settings: &Json) -> Result<Packing, ConvertError> {
        let unsupported =
            |what: String| ConvertError::unsupported(&self.configuration.path, format!("quantisation with {what}"));
        match settings.get("mode").or_else(|| self.settings.get("mode")) {
            None | Some(Json::Null) => {}
            Some(Json::String(mode)) if mode == "affine" => {}
            Some(other) => return Err(unsupported(format!("the mode `{other}`"))),
        }
        let number = |key: &str| settings.get(key).or_else(|| self.settings.get(key)).and_then(Json::as_u64);
        let bits = match number("bits") {
            Some(4) => Bits::Four,
            Some(8) => Bits::Eight,
            other => return Err(unsupported(format!("`{}` bits", shown(other)))),
        };
        let group = match number("group_size") {
            Some(group @ (32 | 64 | 128)) => group as usize,
            other => return Err(unsupported(format!("groups of `{}`", shown(other)))),
        };
        Ok(Packing { bits, group })
    }
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

/// Makes one tensor of each quantised module's three. A checkpoint that says nothing of quantisation stays as it is; one that was
/// quantised by something else is refused.
pub(crate) fn fold(shards: &mut [Shard], configuration: &Configuration) -> Result<(), ConvertError> {
    let settings = match (configuration.value("quantization"), configuration.value("quantization_config")) {
        (Some(settings), _) => settings,
        // Newer versions of mlx-lm write both; what other programs write has a method.
        (None, Some(settings)) if settings.get("quant_method").is_none() && settings.get("bits").is_some() => settings,
        (None, Some(other)) => {
            return Err(ConvertError::unsupported(&configuration.path, format!("`quantization_config` = `{other}`")));
        }
        (None, None) => return Ok(()),
    };
    let quantisation = Quantisation { configuration, settings };
    let places: HashMap<String, (usize, usize)> = shards
        .iter()
        .enumerate()
        .flat_map(|(shard, found)| {
            found.tensors.iter().enumerate().map(move |(tensor, it)| (it.name.clone(), (shard, tensor)))
        })
        .collect();
    for (name, &(shard, tensor)) in &places {
        let Some(module) = name.strip_suffix(".weight") else { continue };
        if shards[shard].tensors[tensor].content != Content::Numbers(Dtype::U32) {
            continue;
        }
        let Some(packing) = quantisation.of(module)? else { continue };
        fold_one(shards, &places, (shard, tensor), module, packing)?;
    }
    Ok(())
}

fn fold_one(
    shards: &mut [Shard],
    places: &HashMap<String, (usize, usize)>,
    (shard, tensor): (usize, usize),
    module: &str,
    packing: Packing,
) -> Result<(), ConvertError> {
    let packed = shards[shard].tensors[tensor].clone();
    let path = shards[shard].path.clone();
    let &[rows, words] = packed.shape.as_slice() else {
        return Err(ConvertError::corrupt(&path, format!("`{}` is packed and has no rows", packed.name)));
    };
    let row = words * 4 * packing.bits.per_byte();
    if rows == 0 || row == 0 || !row.is_multiple_of(packing.group) {
        let problem =
            format!("rows of `{row}` numbers in `{}` are no whole groups of `{}`", packed.name, packing.group);
        return Err(ConvertError::corrupt(&path, problem));
    }
    let wanted = [rows, row / packing.group];
    let mut companions = Vec::with_capacity(2);
    for part in ["scales", "biases"] {
        let name = format!("{module}.{part}");
        let &(shard, index) = places
            .get(&name)
            .ok_or_else(|| ConvertError::MissingTensor { path: path.clone(), tensor: name.clone() })?;
        let of = &shards[shard].tensors[index];
        if of.shape != wanted {
            return Err(ConvertError::TensorShape {
                path: shards[shard].path.clone(),
                tensor: name,
                found: of.shape.clone(),
                wanted: wanted.to_vec(),
            });
        }
        let Content::Numbers(dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16)) = of.content else {
            let found = format!("{:?}", of.content);
            return Err(ConvertError::TensorType { path: shards[shard].path.clone(), tensor: name, found });
        };
        companions.push(Companion { shard, dtype, offset: of.offset });
        shards[shard].tensors[index].content = Content::Companion;
    }
    let biases = companions.pop().expect("two were just added. This is a bug.");
    let scales = companions.pop().expect("two were just added. This is a bug.");
    let content = Content::Affine(Box::new(Affine { packing, scales, biases }));
    shards[shard].tensors[tensor] = Tensor { content, shape: vec![rows, row], ..packed };
    Ok(())
}
