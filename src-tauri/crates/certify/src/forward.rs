//! The streamed evaluator: hidden states of many texts at once, weights a few rows at a time, everything in single precision.
//!
//! Texts lie end to end without padding. A matrix is read in blocks of rows, each multiplied with all tokens and then
//! forgotten. Where all texts together would take too much, they go through in several groups and the weights are read again.

mod bert;
mod layers;
mod nomic_bert;
mod qwen3;

use std::ops::Range;

use embedbar_convert::{Architecture, Pooling};

use crate::CertifyError;
use crate::product::product;
use crate::weights::Weights;

/// Bytes of a block of weights, as single-precision numbers.
const BLOCK_BYTES: usize = 8 << 20;

/// Bytes that the states of one group of texts may take.
const STATES_BYTES: usize = 64 << 20;

/// How hidden states become vectors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Recipe {
    /// How the tokens' states become one.
    pub(crate) pooling: Pooling,
    /// How many of the last layers are averaged; the last one is after the final norm.
    pub(crate) layers: usize,
}

/// Looks on while matrices are multiplied.
pub(crate) trait Watch {
    /// After each block: `x` was multiplied with rows of `part` from `first` on and gave `[tokens, rows]` numbers.
    fn multiplied(&mut self, block: Block<'_>) -> Result<(), CertifyError>;
}

/// A block of a matrix and what it gave.
pub(crate) struct Block<'a> {
    pub(crate) part: &'a str,
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// Numbers in a row.
    pub(crate) width: usize,
    pub(crate) x: &'a [f32],
    pub(crate) product: &'a [f32],
}

/// Numbers in all matrices that a forward pass multiplies with, once for each group of texts.
pub(crate) fn work(architecture: &Architecture, texts: &[Vec<u32>]) -> u64 {
    let numbers = match architecture {
        Architecture::Bert(bert) => bert.layers * bert.width * (4 * bert.width + 2 * bert.inner),
        Architecture::NomicBert(nomic) => nomic.layers * nomic.width * (4 * nomic.width + 3 * nomic.inner),
        Architecture::Qwen3(qwen3) => {
            let heads = (2 * qwen3.heads + 2 * qwen3.groups) * qwen3.head;
            qwen3.layers * qwen3.width * (heads + 3 * qwen3.inner)
        }
    };
    (numbers * groups(architecture, texts).len()) as u64
}

/// Vectors of `texts`, each a list of token ids, not yet scaled to length 1.
pub(crate) fn vectors(
    weights: &dyn Weights,
    architecture: &Architecture,
    recipe: Recipe,
    texts: &[Vec<u32>],
    watch: &mut dyn Watch,
) -> Result<Vec<Vec<f32>>, CertifyError> {
    let mut vectors = Vec::with_capacity(texts.len());
    for group in groups(architecture, texts) {
        let texts = &texts[group];
        let mut pooled = Pooled::new(recipe, texts, architecture);
        let mut pass = Pass { weights, watch, block: Vec::new(), product: Vec::new() };
        match architecture {
            Architecture::Bert(model) => bert::run(&mut pass, model, texts, &mut pooled)?,
            Architecture::NomicBert(model) => nomic_bert::run(&mut pass, model, texts, &mut pooled)?,
            Architecture::Qwen3(model) => qwen3::run(&mut pass, model, texts, &mut pooled)?,
        }
        vectors.append(&mut pooled.vectors);
    }
    Ok(vectors)
}

/// Neighbouring texts that go through together.
fn groups(architecture: &Architecture, texts: &[Vec<u32>]) -> Vec<Range<usize>> {
    // Numbers per token that are alive at once: state, normed state, and the widest layer.
    let numbers = match architecture {
        Architecture::Bert(bert) => 3 * bert.width + bert.inner.max(4 * bert.width),
        Architecture::NomicBert(nomic) => 2 * nomic.width + nomic.inner.max(4 * nomic.width),
        Architecture::Qwen3(qwen3) => {
            2 * qwen3.width + qwen3.inner.max((2 * qwen3.heads + 2 * qwen3.groups) * qwen3.head)
        }
    };
    let most = (STATES_BYTES / (4 * numbers)).max(1);
    let mut groups = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        if index > start && tokens + text.len() > most {
            groups.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += text.len();
    }
    groups.push(start..texts.len());
    groups
}

/// One pass of one group through the layers.
struct Pass<'a> {
    weights: &'a dyn Weights,
    watch: &'a mut dyn Watch,
    block: Vec<f32>,
    product: Vec<f32>,
}

impl Pass<'_> {
    /// A vector, or some rows of a table.
    fn rows(&self, part: &str, first: usize, numbers: usize) -> Result<Vec<f32>, CertifyError> {
        let mut out = vec![0.0; numbers];
        self.weights.read(part, first, &mut out)?;
        Ok(out)
    }

    /// `x`, rows of `width` numbers, times the transpose of `part`, which has `outputs` rows: `take` gets `[tokens, rows]` numbers
    /// for each block of rows, and the first of them.
    fn multiply(
        &mut self,
        part: &str,
        x: &[f32],
        width: usize,
        outputs: usize,
        mut take: impl FnMut(Range<usize>, &[f32]),
    ) -> Result<(), CertifyError> {
        let rows_per_block = (BLOCK_BYTES / (4 * width)).max(1);
        for first in (0..outputs).step_by(rows_per_block) {
            let rows = first..(first + rows_per_block).min(outputs);
            self.block.resize(rows.len() * width, 0.0);
            self.weights.read(part, first, &mut self.block)?;
            product(x, &self.block, width, &mut self.product);
            take(rows.clone(), &self.product);
            self.watch.multiplied(Block { part, rows, width, x, product: &self.product })?;
        }
        Ok(())
    }

    /// As [`Self::multiply`], the whole `[tokens, outputs]`.
    fn linear(&mut self, part: &str, x: &[f32], width: usize, outputs: usize) -> Result<Vec<f32>, CertifyError> {
        let mut out = vec![0.0; x.len() / width * outputs];
        self.multiply(part, x, width, outputs, |rows, product| {
            for (out, product) in out.chunks_exact_mut(outputs).zip(product.chunks_exact(rows.len())) {
                out[rows.clone()].copy_from_slice(product);
            }
        })?;
        Ok(out)
    }

    /// The states that the table of tokens has for `texts`.
    fn tokens(&self, part: &str, texts: &[Vec<u32>], width: usize) -> Result<Vec<f32>, CertifyError> {
        let ids: Vec<u32> = texts.iter().flatten().copied().collect();
        let mut states = vec![0.0; ids.len() * width];
        for (state, id) in states.chunks_exact_mut(width).zip(ids) {
            self.weights.read(part, id as usize, state)?;
        }
        Ok(states)
    }
}

/// Vectors in the making: the mean over layers of each text's pooled states.
struct Pooled {
    vectors: Vec<Vec<f32>>,
    spans: Vec<Range<usize>>,
    recipe: Recipe,
    layers: usize,
}

impl Pooled {
    fn new(recipe: Recipe, texts: &[Vec<u32>], architecture: &Architecture) -> Self {
        let (layers, width) = match architecture {
            Architecture::Bert(bert) => (bert.layers, bert.width),
            Architecture::NomicBert(nomic) => (nomic.layers, nomic.width),
            Architecture::Qwen3(qwen3) => (qwen3.layers, qwen3.width),
        };
        Self { vectors: vec![vec![0.0; width]; texts.len()], spans: spans(texts), recipe, layers }
    }

    /// Takes the states after `layer`.
    fn layer(&mut self, layer: usize, states: &[f32]) {
        let wanted = self.recipe.layers.min(self.layers);
        if layer + wanted < self.layers {
            return;
        }
        for (vector, span) in self.vectors.iter_mut().zip(&self.spans) {
            let width = vector.len();
            let tokens = match self.recipe.pooling {
                Pooling::Mean => span.clone(),
                Pooling::Cls => span.start..span.start + 1,
                Pooling::Last => span.end - 1..span.end,
            };
            let share = 1.0 / (tokens.len() * wanted) as f32;
            for token in tokens {
                let state = &states[token * width..(token + 1) * width];
                vector.iter_mut().zip(state).for_each(|(sum, number)| *sum += number * share);
            }
        }
    }
}

/// Where each text's tokens are.
fn spans(texts: &[Vec<u32>]) -> Vec<Range<usize>> {
    let mut end = 0;
    texts
        .iter()
        .map(|text| {
            let start = end;
            end += text.len();
            start..end
        })
        .collect()
}
