//! Recognises an embedding model by its interface: token ids (and a mask) in, vectors out. How texts become tokens, and which
//! recipe made the vectors, a package does not say.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::element::{Class, ElementType};
use crate::literal::{self, TensorType};
use crate::package::{Package, block};
use crate::tensor::Tensor;
use crate::{MilError, proto};

/// How to call a package that embeds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct EmbeddingInterface {
    /// The function.
    pub function: String,
    /// The input that takes token ids.
    pub ids: String,
    /// The input that is 1 for a token and 0 for padding.
    pub mask: Option<String>,
    /// The input that takes the number of the segment; all 0 for one text.
    pub segments: Option<String>,
    /// How many tokens may be given.
    pub lengths: Lengths,
    /// The output with the vector or vectors.
    pub output: String,
    /// The dimensions of a vector.
    pub dimensions: usize,
    /// Is there a vector for every token, which the caller has to pool?
    pub per_token: bool,
    #[serde(skip)]
    types: BTreeMap<String, (ElementType, usize)>,
}

/// How many tokens, padding included, a package takes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// Exactly so many.
    Fixed(usize),
    /// One of these, ascending.
    Enumerated(Vec<usize>),
    /// From and to; `None`: as many as one likes.
    Range(usize, Option<usize>),
}

impl Lengths {
    /// The smallest length that `tokens` fit in, or the largest that there is.
    pub fn fitting(&self, tokens: usize) -> usize {
        match self {
            Self::Fixed(length) => *length,
            Self::Enumerated(lengths) => {
                lengths.iter().find(|length| **length >= tokens).or(lengths.last()).copied().unwrap_or(0)
            }
            Self::Range(least, most) => tokens.max(*least).min(most.unwrap_or(usize::MAX)),
        }
    }
}

struct Candidate<'a> {
    name: &'a str,
    tensor_type: TensorType,
    described: Option<&'a proto::FeatureDescription>,
}

impl Package {
    /// How to embed with the function of this name, or the default one.
    pub fn embedding_interface(&self, function: Option<&str>) -> Result<EmbeddingInterface, MilError> {
        let (name, function) = self.function(function)?;
        let refuse = |problem: String| MilError::NotEmbedding { path: self.path().to_path_buf(), problem };
        self.find_interface(name, function).map_err(refuse)
    }

    fn find_interface(&self, name: &str, function: &proto::Function) -> Result<EmbeddingInterface, String> {
        // The first chunk of a model takes tokens and gives states for each of them, and would be taken for a whole one.
        if let Some(chunk) = self.user_defined("embedbar.chunk") {
            return Err(format!("it is the part `{chunk}` of a model that is in several packages"));
        }
        let described = self.interface(name);
        let inputs = function.inputs.iter().map(|input| {
            let tensor_type = literal::tensor_type(input.kind.as_ref());
            let tensor_type = tensor_type.map_err(|problem| format!("the input `{}`: {problem}", input.name))?;
            let described = described.0.iter().find(|described| described.name == input.name);
            Ok(Candidate { name: &input.name, tensor_type, described })
        });
        let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
        let has = |input: &&Candidate, words: &[&str]| {
            let name = input.name.to_lowercase();
            words.iter().any(|word| name.contains(word))
        };
        let mask = inputs.iter().find(|input| has(input, &["mask"]));
        let segments = inputs.iter().find(|input| has(input, &["token_type", "segment"]));
        let taken = |input: &&Candidate| [mask, segments].into_iter().flatten().any(|other| other.name == input.name);
        let rest: Vec<&Candidate> = inputs.iter().filter(|input| !taken(input)).collect();
        let [ids] = rest.as_slice() else {
            let names: Vec<&str> = rest.iter().map(|input| input.name).collect();
            return Err(format!("besides a mask it takes `{names:?}`, where token ids alone are right"));
        };
        let lengths = lengths(ids)?;
        let mut types = BTreeMap::new();
        for input in &inputs {
            if !matches!(input.tensor_type.dtype.class(), Class::Int | Class::Float) {
                return Err(format!("its input `{}` is `{}`", input.name, input.tensor_type));
            }
            if input.tensor_type.shape.len() != ids.tensor_type.shape.len() || self::lengths(input)? != lengths {
                return Err(format!("its inputs `{}` and `{}` are of different shapes", ids.name, input.name));
            }
            types.insert(input.name.to_owned(), (input.tensor_type.dtype, input.tensor_type.shape.len()));
        }
        if has(ids, &["embed", "hidden"]) || ids.tensor_type.dtype.class() != Class::Int && !has(ids, &["id", "token"])
        {
            return Err(format!("its input `{}` is `{}`, which are no token ids", ids.name, ids.tensor_type));
        }
        let (output, dimensions, per_token) = output(function, &lengths)?;
        Ok(EmbeddingInterface {
            function: name.to_owned(),
            ids: ids.name.to_owned(),
            mask: mask.map(|input| input.name.to_owned()),
            segments: segments.map(|input| input.name.to_owned()),
            lengths,
            output,
            dimensions,
            per_token,
            types,
        })
    }
}

/// The lengths that an input of the shape `[S]` or `[1, S]` takes.
fn lengths(input: &Candidate) -> Result<Lengths, String> {
    let wrong =
        || format!("its input `{}` is `{}`, where one text of token ids is right", input.name, input.tensor_type);
    let length = match input.tensor_type.shape.as_slice() {
        [length] | [Some(1) | None, length] => *length,
        _ => return Err(wrong()),
    };
    if let Some(length) = length {
        return Ok(Lengths::Fixed(length));
    }
    let array = input.described.and_then(|described| described.kind.as_ref()?.multi_array.as_ref());
    let Some(array) = array else { return Ok(Lengths::Range(1, None)) };
    if let Some(shapes) = &array.enumerated_shapes {
        let lengths = shapes.shapes.iter().filter_map(|shape| usize::try_from(*shape.shape.last()?).ok());
        let mut lengths: Vec<usize> = lengths.collect();
        lengths.sort_unstable();
        lengths.dedup();
        return if lengths.is_empty() { Err(wrong()) } else { Ok(Lengths::Enumerated(lengths)) };
    }
    let range = array.shape_range.as_ref().and_then(|range| range.size_ranges.last());
    Ok(range.map_or(Lengths::Range(1, None), |range| {
        let least = usize::try_from(range.lower_bound).unwrap_or(usize::MAX);
        Lengths::Range(least, usize::try_from(range.upper_bound).ok())
    }))
}

/// The output with the vectors, their dimensions, and whether there is one for each token. Names are often made up by a
/// converter (`var_6614`), so shapes decide; where several suit, one vector a text is preferred.
fn output(function: &proto::Function, lengths: &Lengths) -> Result<(String, usize, bool), String> {
    let block = block(function)?;
    let mut found: Vec<(u8, String, usize, bool)> = Vec::new();
    for name in &block.outputs {
        let outputs = block.operations.iter().flat_map(|operation| &operation.outputs);
        let Some(declared) = outputs.into_iter().find(|output| output.name == *name) else { continue };
        let Ok(tensor_type) = literal::tensor_type(declared.kind.as_ref()) else { continue };
        if tensor_type.dtype.class() != Class::Float {
            continue;
        }
        let named = u8::from(!name.to_lowercase().contains("embed"));
        match tensor_type.shape.as_slice() {
            [Some(1) | None, Some(width)] | [Some(width)] if *width > 1 => {
                found.push((named, name.clone(), *width, false));
            }
            [Some(1) | None, length, Some(width)] if *width > 1 => {
                let one = *length == Some(1) && *lengths != Lengths::Fixed(1);
                found.push((if one { named } else { 2 + named }, name.clone(), *width, !one));
            }
            _ => {}
        }
    }
    found.sort();
    let (_, name, dimensions, per_token) =
        found.into_iter().next().ok_or_else(|| format!("its outputs `{:?}` are no vectors", block.outputs))?;
    Ok((name, dimensions, per_token))
}

impl EmbeddingInterface {
    /// The inputs for one text: its token ids padded to a length that the package takes, and 1 for each that counts. `None`
    /// if the two are not of the same length.
    pub fn inputs(&self, ids: &[i32], mask: &[i32]) -> Option<BTreeMap<String, Tensor>> {
        if ids.len() != mask.len() {
            return None;
        }
        let segments = vec![0; ids.len()];
        let all = [(Some(&self.ids), ids), (self.mask.as_ref(), mask), (self.segments.as_ref(), &segments)];
        let mut inputs = BTreeMap::new();
        for (name, values) in all {
            let Some(name) = name else { continue };
            let (dtype, rank) = self.types.get(name)?;
            let shape = if *rank == 1 { vec![values.len()] } else { vec![1, values.len()] };
            let data = if dtype.class() == Class::Float {
                values.iter().map(|value| *value as f32).collect::<Vec<_>>().into()
            } else {
                values.iter().map(|value| i64::from(*value)).collect::<Vec<_>>().into()
            };
            inputs.insert(name.clone(), Tensor::new(*dtype, shape, data).ok()?);
        }
        Some(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_length_that_fits_is_chosen() {
        let lengths = Lengths::Enumerated(vec![16, 32, 64]);
        assert_eq!([1, 16, 17, 65].map(|tokens| lengths.fitting(tokens)), [16, 16, 32, 64]);
        assert_eq!([1, 20, 99].map(|tokens| Lengths::Range(4, Some(32)).fitting(tokens)), [4, 20, 32]);
        assert_eq!(Lengths::Fixed(32).fitting(5), 32);
    }
}
