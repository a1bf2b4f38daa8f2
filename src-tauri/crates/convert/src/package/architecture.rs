//! The sizes of a model and the tensors that a package needs of it, by the canonical names of its family's plan.

/// The sizes of a model, believed to fit each other.
#[derive(Clone, Debug)]
pub enum Architecture {
    /// An encoder that sees the whole text.
    Bert(Bert),
    /// An encoder with rotary positions. There is no program of it yet, so that it becomes no package.
    NomicBert(NomicBert),
    /// A decoder, used as an encoder.
    Qwen3(Qwen3),
}

/// BERT, and XLM-R, which differs in where its positions start.
#[derive(Clone, Debug)]
pub struct Bert {
    /// Layers.
    pub layers: usize,
    /// Numbers in a hidden state, and in a vector.
    pub width: usize,
    /// Numbers inside a feed-forward layer.
    pub inner: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// The row of a text's first token: 0, or for XLM-R the padding token's id plus 1.
    pub first_position: usize,
    /// Rows of the table of token types, of which the first one is used.
    pub token_types: usize,
    /// What keeps a norm from dividing by zero.
    pub epsilon: f32,
    /// Inside a feed-forward layer.
    pub activation: Activation,
}

/// The nonlinearity of BERT's feed-forward layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activation {
    /// With the error function.
    Gelu,
    /// With the approximation by a hyperbolic tangent.
    GeluTanh,
    /// Nothing below zero.
    Relu,
}

/// NomicBERT: a BERT with rotary positions, a gated feed-forward layer and no biases.
#[derive(Clone, Debug)]
pub struct NomicBert {
    /// Layers.
    pub layers: usize,
    /// Numbers in a hidden state, and in a vector.
    pub width: usize,
    /// Numbers inside a feed-forward layer.
    pub inner: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
    /// The longest text.
    pub positions: usize,
    /// What keeps a norm from dividing by zero.
    pub epsilon: f32,
    /// The base of the rotary positions.
    pub theta: f32,
}

/// Qwen3: causal, grouped queries, normed heads, rotary positions.
#[derive(Clone, Debug)]
pub struct Qwen3 {
    /// Layers.
    pub layers: usize,
    /// Numbers in a hidden state, and in a vector.
    pub width: usize,
    /// Numbers inside a feed-forward layer.
    pub inner: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Heads of keys and values; they divide `heads`.
    pub groups: usize,
    /// Width of a head.
    pub head: usize,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
    /// The longest text.
    pub positions: usize,
    /// What keeps a norm from dividing by zero.
    pub epsilon: f32,
    /// The base of the rotary positions.
    pub theta: f32,
}

/// What a tensor is to the model, which decides how exact it has to stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The table of tokens: never below 8 bits, because each text reads only a few of its rows.
    Tokens,
    /// The matrix of a linear layer.
    Matrix,
    /// Norms, biases, and tables of positions and types: always half precision.
    Exact,
}

/// A tensor of the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Weight {
    /// Its canonical name.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
}

impl Weight {
    /// Numbers in a row; a vector is one row.
    pub(crate) fn row(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows; a vector has one.
    pub(crate) fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

impl Architecture {
    /// Numbers in a vector.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.width,
            Self::NomicBert(nomic) => nomic.width,
            Self::Qwen3(qwen3) => qwen3.width,
        }
    }

    pub(crate) fn layers(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.layers,
            Self::NomicBert(nomic) => nomic.layers,
            Self::Qwen3(qwen3) => qwen3.layers,
        }
    }

    /// The longest text that the model has positions for.
    pub(crate) fn longest(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.positions.saturating_sub(bert.first_position),
            Self::NomicBert(nomic) => nomic.positions,
            Self::Qwen3(qwen3) => qwen3.positions,
        }
    }

    /// What it is called where there is no program of it.
    pub(crate) fn without_program(&self) -> Option<&'static str> {
        match self {
            Self::Bert(_) | Self::Qwen3(_) => None,
            Self::NomicBert(_) => Some("NomicBERT"),
        }
    }

    /// Every tensor that a package takes from the source, in the order in which the program uses them; none where there is no
    /// program.
    pub(crate) fn weights(&self) -> Vec<Weight> {
        match self {
            Self::Bert(bert) => bert.weights(),
            Self::NomicBert(_) => Vec::new(),
            Self::Qwen3(qwen3) => qwen3.weights(),
        }
    }
}

impl Bert {
    fn weights(&self) -> Vec<Weight> {
        let (width, inner) = (self.width, self.inner);
        let weight = |name: &str, shape: &[usize], role| Weight { name: name.to_owned(), shape: shape.to_vec(), role };
        let mut weights = vec![
            weight("embeddings.word_embeddings.weight", &[self.vocabulary, width], Role::Tokens),
            weight("embeddings.position_embeddings.weight", &[self.positions, width], Role::Exact),
            weight("embeddings.token_type_embeddings.weight", &[self.token_types, width], Role::Exact),
        ];
        let mut pair = |name: &str, shape: &[usize]| {
            let role = if shape.len() == 2 { Role::Matrix } else { Role::Exact };
            weights.push(weight(&format!("{name}.weight"), shape, role));
            weights.push(weight(&format!("{name}.bias"), &shape[..1], Role::Exact));
        };
        pair("embeddings.LayerNorm", &[width]);
        for layer in 0..self.layers {
            let mut pair = |name: &str, shape: &[usize]| pair(&format!("encoder.layer.{layer}.{name}"), shape);
            pair("attention.self.query", &[width, width]);
            pair("attention.self.key", &[width, width]);
            pair("attention.self.value", &[width, width]);
            pair("attention.output.dense", &[width, width]);
            pair("attention.output.LayerNorm", &[width]);
            pair("intermediate.dense", &[inner, width]);
            pair("output.dense", &[width, inner]);
            pair("output.LayerNorm", &[width]);
        }
        weights
    }
}

impl Qwen3 {
    fn weights(&self) -> Vec<Weight> {
        let (width, inner, head) = (self.width, self.inner, self.head);
        let (queries, keys) = (self.heads * head, self.groups * head);
        let weight = |name: String, shape: &[usize], role| Weight { name, shape: shape.to_vec(), role };
        let mut weights = vec![weight("embed_tokens.weight".to_owned(), &[self.vocabulary, width], Role::Tokens)];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                let role = if shape.len() == 2 { Role::Matrix } else { Role::Exact };
                weights.push(weight(format!("layers.{layer}.{name}.weight"), shape, role));
            };
            add("input_layernorm", &[width]);
            add("self_attn.q_proj", &[queries, width]);
            add("self_attn.q_norm", &[head]);
            add("self_attn.k_proj", &[keys, width]);
            add("self_attn.k_norm", &[head]);
            add("self_attn.v_proj", &[keys, width]);
            add("self_attn.o_proj", &[width, queries]);
            add("post_attention_layernorm", &[width]);
            add("mlp.gate_proj", &[inner, width]);
            add("mlp.up_proj", &[inner, width]);
            add("mlp.down_proj", &[width, inner]);
        }
        weights.push(weight("norm.weight".to_owned(), &[width], Role::Exact));
        weights
    }
}
