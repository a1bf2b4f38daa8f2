//! Shapes: which matrices a model has, and what they take in each precision.
//!
//! The types are those of this project's converter. In GGUF files (`convert/src/quantise.rs`): F16, Q8_0 (34 bytes for
//! 32 numbers), Q4_K (144 bytes for 256), Q4_0 (18 bytes for 32) where rows do not divide into 256, F16 where they do
//! not divide into 32 either; the token table never below 8 bits; norms, biases and small tables in F32. In Core ML
//! packages (`convert/src/package/program.rs`): halves, 8 bits with a scale and a zero point per row, 4 bits with a
//! scale for 32 numbers; the token table never below 8 bits; all else in halves.
//!
//! What is not here: metadata and alignment of files, which are less than a percent of anything but the smallest model.

use embedbar_contract::Precision;
use serde::Deserialize;

/// What holds the weights.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Storage {
    /// A GGUF file; for F32 and F16 also a checkpoint.
    Gguf,
    /// A Core ML package.
    Package,
}

/// The shapes of a model.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// An encoder whose positions have a table that starts with position 0.
    Bert(Bert),
    /// The same, with two rows of the table of positions that belong to no token.
    XlmRoberta(XlmRoberta),
    /// An encoder with rotary positions and a gated feed-forward layer.
    NomicBert(NomicBert),
    /// A causal decoder that is used as an encoder.
    Qwen3(Qwen3),
}

/// The shapes of a BERT.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Bert {
    /// Encoder layers.
    pub layers: u64,
    /// Columns of a hidden state.
    pub hidden: u64,
    /// Attention heads; they divide `hidden`.
    pub heads: u64,
    /// Columns between the two matrices of the feed-forward layer.
    pub intermediate: u64,
    /// Rows of the table of tokens.
    pub vocabulary: u64,
    /// Rows of the table of positions in the checkpoint.
    pub positions: u64,
    /// Rows of the table of token types.
    pub token_types: u64,
}

/// The shapes of an XLM-R: those of a BERT.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct XlmRoberta(pub Bert);

/// The shapes of a NomicBERT.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NomicBert {
    /// Encoder layers.
    pub layers: u64,
    /// Columns of a hidden state.
    pub hidden: u64,
    /// Attention heads; they divide `hidden`.
    pub heads: u64,
    /// Columns between the matrices of the feed-forward layer.
    pub intermediate: u64,
    /// Rows of the table of tokens, of which the last ones may belong to no token.
    pub vocabulary: u64,
    /// Tokens of a text that are read with the positions of the training; no table belongs to them.
    pub positions: u64,
    /// Rows of the table of token types.
    pub token_types: u64,
}

/// The shapes of a Qwen3.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Qwen3 {
    /// Decoder layers.
    pub layers: u64,
    /// Columns of a hidden state.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; they divide `heads`.
    pub kv_heads: u64,
    /// Columns of one head; not `hidden` divided by `heads`.
    pub head_width: u64,
    /// Columns between the matrices of the feed-forward layer.
    pub intermediate: u64,
    /// Rows of the table of tokens.
    pub vocabulary: u64,
    /// Positions that the configuration allows; no table belongs to them.
    pub positions: u64,
}

/// Rows of an XLM-R's table of positions that belong to no token: up to the padding token's id, 1.
const XLM_ROBERTA_UNUSED: u64 = 2;

/// What a tensor is to the converter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// The table of tokens.
    Tokens,
    /// A matrix of a layer.
    Matrix,
    /// Norms, biases and small tables.
    Exact,
}

/// Equal tensors.
#[derive(Clone, Copy, Debug)]
struct Tensors {
    role: Role,
    count: u64,
    rows: u64,
    /// Numbers in a row.
    row: u64,
}

impl Tensors {
    fn numbers(self) -> u64 {
        self.count * self.rows * self.row
    }

    fn bytes(self, storage: Storage, precision: Precision) -> u64 {
        let Self { role, count, rows, row } = self;
        // The table of tokens never below 8 bits, because each text reads only a few of its rows.
        let precision = match (role, precision) {
            (Role::Tokens, Precision::FourBit) => Precision::Int8,
            _ => precision,
        };
        let one = match storage {
            Storage::Gguf if role == Role::Exact => rows * row * 4,
            Storage::Gguf => rows * gguf_row_bytes(precision, row),
            Storage::Package if role == Role::Exact && precision != Precision::Fp32 => rows * row * 2,
            Storage::Package => rows * package_row_bytes(precision, row),
        };
        count * one
    }
}

/// Bytes of a matrix's row in a GGUF file.
fn gguf_row_bytes(precision: Precision, row: u64) -> u64 {
    // Numbers in a block and the block's bytes, the wanted one first.
    let blocks: &[(u64, u64)] = match precision {
        // No file is in a precision that nobody knows; the widest is a safe guess.
        Precision::Fp32 | Precision::Unknown => &[(1, 4)],
        Precision::Fp16 => &[],
        Precision::Int8 => &[(32, 34)],
        Precision::FourBit => &[(256, 144), (32, 18)],
    };
    let found = blocks.iter().find(|(numbers, _)| row.is_multiple_of(*numbers));
    found.map_or(2 * row, |(numbers, bytes)| row / numbers * bytes)
}

/// Bytes of a matrix's row in a package.
fn package_row_bytes(precision: Precision, row: u64) -> u64 {
    let eight = row + 2 + 1;
    match precision {
        Precision::Fp32 | Precision::Unknown => 4 * row,
        Precision::Fp16 => 2 * row,
        Precision::FourBit if row.is_multiple_of(32) => row / 2 + row / 32 * 2,
        Precision::Int8 | Precision::FourBit => eight,
    }
}

impl Bert {
    fn tensors(&self, unused_positions: u64) -> Vec<Tensors> {
        let Self { layers, hidden, intermediate, vocabulary, positions, token_types, .. } = *self;
        let exact = |count, row| Tensors { role: Role::Exact, count, rows: 1, row };
        let matrix = |per_layer, rows, row| Tensors { role: Role::Matrix, count: layers * per_layer, rows, row };
        vec![
            Tensors { role: Role::Tokens, count: 1, rows: vocabulary, row: hidden },
            exact(positions.saturating_sub(unused_positions), hidden),
            exact(token_types, hidden),
            exact(2, hidden),                    // the norm of the embeddings
            matrix(4, hidden, hidden),           // queries, keys, values, output
            matrix(1, intermediate, hidden),     // up
            matrix(1, hidden, intermediate),     // down
            exact(layers * (4 + 1 + 4), hidden), // biases of five matrices, two norms of two rows
            exact(layers, intermediate),         // the bias of `up`
        ]
    }

    /// What a checkpoint has besides what a vector depends on: the pooler, and positions that belong to no token.
    fn left_out(&self, unused_positions: u64) -> u64 {
        self.hidden * self.hidden + self.hidden + unused_positions * self.hidden
    }
}

impl NomicBert {
    fn tensors(&self) -> Vec<Tensors> {
        let Self { layers, hidden, intermediate, vocabulary, token_types, .. } = *self;
        let exact = |count, row| Tensors { role: Role::Exact, count, rows: 1, row };
        let matrix = |per_layer, rows, row| Tensors { role: Role::Matrix, count: layers * per_layer, rows, row };
        vec![
            Tensors { role: Role::Tokens, count: 1, rows: vocabulary, row: hidden },
            exact(token_types, hidden),
            exact(2, hidden),                // the norm of the embeddings
            matrix(1, 3 * hidden, hidden),   // queries, keys, values
            matrix(1, hidden, hidden),       // output
            matrix(2, intermediate, hidden), // gate and up
            matrix(1, hidden, intermediate),
            exact(layers * 4, hidden), // two norms of two rows
        ]
    }
}

impl Qwen3 {
    fn tensors(&self) -> Vec<Tensors> {
        let Self { layers, hidden, heads, kv_heads, head_width, intermediate, vocabulary, .. } = *self;
        let (queries, keys) = (heads * head_width, kv_heads * head_width);
        let exact = |count, row| Tensors { role: Role::Exact, count, rows: 1, row };
        let matrix = |per_layer, rows, row| Tensors { role: Role::Matrix, count: layers * per_layer, rows, row };
        vec![
            Tensors { role: Role::Tokens, count: 1, rows: vocabulary, row: hidden },
            exact(1, hidden), // the last norm
            matrix(1, queries, hidden),
            matrix(2, keys, hidden),
            matrix(1, hidden, queries),
            matrix(2, intermediate, hidden), // gate and up
            matrix(1, hidden, intermediate),
            exact(layers * 2, hidden),     // the norms before attention and feed-forward
            exact(layers * 2, head_width), // the norms of queries and keys
        ]
    }
}

impl Architecture {
    fn tensors(&self) -> Vec<Tensors> {
        match self {
            Self::Bert(bert) => bert.tensors(0),
            Self::XlmRoberta(XlmRoberta(bert)) => bert.tensors(XLM_ROBERTA_UNUSED),
            Self::NomicBert(nomic) => nomic.tensors(),
            Self::Qwen3(qwen3) => qwen3.tensors(),
        }
    }

    /// Numbers that a vector depends on: what is loaded.
    pub fn loaded_parameters(&self) -> u64 {
        self.tensors().into_iter().map(Tensors::numbers).sum()
    }

    /// Parameters as they are published: with a BERT's pooler, without a language-model head.
    pub fn parameters(&self) -> u64 {
        let left_out = match self {
            Self::Bert(bert) => bert.left_out(0),
            Self::XlmRoberta(XlmRoberta(bert)) => bert.left_out(XLM_ROBERTA_UNUSED),
            Self::NomicBert(_) | Self::Qwen3(_) => 0,
        };
        self.loaded_parameters() + left_out
    }

    /// Whether the converter makes a model of this family in that form.
    pub fn makes(&self, storage: Storage, precision: Precision) -> bool {
        let is_step = matches!(precision, Precision::Fp16 | Precision::Int8 | Precision::FourBit);
        match (storage, self) {
            // Nobody has written down its program.
            (Storage::Package, Self::NomicBert(_)) => false,
            (Storage::Gguf | Storage::Package, _) => is_step,
        }
    }

    /// Bytes of the weights in one precision, without metadata and alignment.
    pub fn weights_bytes(&self, storage: Storage, precision: Precision) -> u64 {
        self.tensors().into_iter().map(|tensors| tensors.bytes(storage, precision)).sum()
    }

    /// Bytes of the table of tokens, of which a query reads only the rows of its own tokens.
    pub fn token_table_bytes(&self, storage: Storage, precision: Precision) -> u64 {
        let tables = self.tensors().into_iter().filter(|tensors| tensors.role == Role::Tokens);
        tables.map(|tensors| tensors.bytes(storage, precision)).sum()
    }

    /// Its family, as configurations name it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Bert(_) => "bert",
            Self::XlmRoberta(_) => "xlm-roberta",
            Self::NomicBert(_) => "nomic_bert",
            Self::Qwen3(_) => "qwen3",
        }
    }

    /// Columns of a hidden state.
    pub fn hidden(&self) -> u64 {
        match self {
            Self::Bert(bert) | Self::XlmRoberta(XlmRoberta(bert)) => bert.hidden,
            Self::NomicBert(nomic) => nomic.hidden,
            Self::Qwen3(qwen3) => qwen3.hidden,
        }
    }

    /// Columns between the matrices of the feed-forward layer.
    pub fn intermediate(&self) -> u64 {
        match self {
            Self::Bert(bert) | Self::XlmRoberta(XlmRoberta(bert)) => bert.intermediate,
            Self::NomicBert(nomic) => nomic.intermediate,
            Self::Qwen3(qwen3) => qwen3.intermediate,
        }
    }

    /// Query heads.
    pub fn heads(&self) -> u64 {
        match self {
            Self::Bert(bert) | Self::XlmRoberta(XlmRoberta(bert)) => bert.heads,
            Self::NomicBert(nomic) => nomic.heads,
            Self::Qwen3(qwen3) => qwen3.heads,
        }
    }

    /// Rows of the table of tokens.
    pub fn vocabulary(&self) -> u64 {
        match self {
            Self::Bert(bert) | Self::XlmRoberta(XlmRoberta(bert)) => bert.vocabulary,
            Self::NomicBert(nomic) => nomic.vocabulary,
            Self::Qwen3(qwen3) => qwen3.vocabulary,
        }
    }

    /// Tokens of a text that have a position.
    pub fn usable_positions(&self) -> u64 {
        match self {
            Self::Bert(bert) => bert.positions,
            Self::XlmRoberta(XlmRoberta(bert)) => bert.positions.saturating_sub(XLM_ROBERTA_UNUSED),
            Self::NomicBert(nomic) => nomic.positions,
            Self::Qwen3(qwen3) => qwen3.positions,
        }
    }

    /// What is impossible about the shapes, if anything is.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let (heads, divided, what) = match self {
            Self::Bert(bert) | Self::XlmRoberta(XlmRoberta(bert)) => (bert.heads, bert.hidden, "columns"),
            Self::NomicBert(nomic) => (nomic.heads, nomic.hidden, "columns"),
            Self::Qwen3(qwen3) => (qwen3.kv_heads, qwen3.heads, "heads"),
        };
        let counts =
            [self.hidden(), self.intermediate(), self.vocabulary(), self.usable_positions(), heads, self.heads()];
        if counts.contains(&0) {
            return Some("a count is 0".to_owned());
        }
        (!divided.is_multiple_of(heads)).then(|| format!("`{heads}` heads do not divide `{divided}` {what}"))
    }
}
