//! MLX's quantised checkpoints (see `embedbar_mlx`): [`fold`] makes one tensor of a module's packed integers, scales and biases,
//! of the shape that the model wants, so that what follows sees no difference.

use std::collections::HashMap;

use embedbar_mlx::{Packing, Quantisation};
use safetensors::Dtype;

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

/// Where a tensor is that belongs to another one: F32, F16 or BF16 numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Companion {
    pub(crate) shard: usize,
    pub(crate) dtype: Dtype,
    pub(crate) offset: u64,
}

/// Makes one tensor of each quantised module's three. A checkpoint that says nothing of quantisation stays as it is; one that was
/// quantised by something else is refused.
pub(crate) fn fold(shards: &mut [Shard], configuration: &Configuration) -> Result<(), ConvertError> {
    let unsupported =
        |refused: embedbar_mlx::Refused| ConvertError::unsupported(&configuration.path, refused.to_string());
    let read = Quantisation::read(configuration.value("quantization"), configuration.value("quantization_config"));
    let Some(quantisation) = read.map_err(unsupported)? else { return Ok(()) };
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
        let Some(packing) = quantisation.of(module).map_err(unsupported)? else { continue };
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
    let Some(row) = packing.columns(words).filter(|_| rows > 0) else {
        let problem =
            format!("rows of `{words}` words in `{}` are no whole groups of `{}` numbers", packed.name, packing.group);
        return Err(ConvertError::corrupt(&path, problem));
    };
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
