//! One loaded model: opens its files, applies recipes and keeps order, counts and times.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use candle_core::quantized::GgmlDType;
use embedbar_contract::{BackendName, Generation, Precision, PromptKind, RecipeName, Truncation};
use embedbar_mlx::Bits;

#[cfg(target_os = "macos")]
use crate::coreml::Package;
#[cfg(not(target_os = "macos"))]
use crate::interpreted::Interpreted as Package;
use crate::{
    EngineError,
    backend::{Backend, BatchShape, Output, PaddedBatch, failed},
    batches,
    bert::{self, Bert},
    checkpoint,
    facts::{Family, ModelFacts},
    fast, gguf, gguf_tokenizer, kept,
    nomic_bert::NomicBert,
    package::ComputeUnit,
    pool::{self, Unusable},
    qwen3::Qwen3,
    recipe::{Pooling, Prompts, Recipe},
    revision::revision,
    sidecar::Sidecar,
    tokens::{self, Demands, TextEnd, TextTokenizer, Tokens, compiled_name},
    weights::{Content, Weights, weight},
};

/// Qwen3-Embedding's own instruction for queries, for files that carry no prompts (GGUF).
const QWEN3_QUERY: &str =
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";

/// nomic-embed-text's own, likewise; its authors ask for one of them in front of every text.
const NOMIC_PROMPTS: [&str; 2] = ["search_query: ", "search_document: "];

/// One loaded model: tokenizer, backend and what recipes need to know.
pub struct Engine {
    id: String,
    path: PathBuf,
    facts: ModelFacts,
    tokenizer: TextTokenizer,
    backend: Box<dyn Backend>,
    precision: Precision,
    revision: String,
    /// Padded tokens in one batch at most.
    tokens_per_batch: usize,
}

/// The vectors of some texts, in the order of the texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// One for each text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of each text that were read, prompt and special tokens included.
    pub tokens: Vec<usize>,
    /// Set for each text that was longer than the recipe reads.
    pub truncated: Vec<Option<Truncation>>,
    /// Milliseconds from text to tokens, for all texts.
    pub tokenize_ms: f64,
    /// Milliseconds from tokens to vectors, for all texts.
    pub forward_ms: f64,
}

/// What computes with a checkpoint on the processor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Arithmetic {
    /// Embedbar's kernels; candle where the processor or the model does not suit them.
    #[default]
    Kernels,
    /// The same, and beside weights of BF16 the inputs of products are rounded to BF16, where the processor multiplies those
    /// faster: by 2^-8 of themselves at most, as PyTorch does with such models.
    KernelsInBf16,
    /// candle: the reference.
    Candle,
}

/// How a checkpoint is opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct How {
    /// What computes.
    pub arithmetic: Arithmetic,
    /// The folder for packed matrices and compiled tokenizers, which are written at the first load and mapped from then on;
    /// `None` keeps them in memory.
    pub packed: Option<PathBuf>,
}

/// Starts the threads that compute, which otherwise begin with the first product and inherit the priority of whoever needs it.
pub fn start_threads() {
    fast::team();
    candle_core::utils::barrier_pool();
    candle_core::utils::with_threadpool(|| ());
    // The pool of the products in F32 has no other beginning than one that is large enough to be shared out.
    let square = candle_core::Tensor::zeros((256, 256), candle_core::DType::F32, &candle_core::Device::Cpu);
    if let Err(error) = square.and_then(|square| square.matmul(&square)) {
        tracing::debug!(%error, "the threads that compute could not be started beforehand");
    }
}

impl Engine {
    /// Loads the model at `path` under the name `id`.
    ///
    /// `path` is a `.gguf` file with `tokenizer.json` beside it or with a tokenizer of its own (see
    /// [`crate::tokenizer_json`]), or a folder with `model.safetensors` (or the shards that
    /// `model.safetensors.index.json` names), `config.json` and `tokenizer.json`. What sentence-transformers puts beside a
    /// model (`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`, `config_sentence_transformers.json`)
    /// is read where it is there. A `.mlpackage` of a fixed length can be opened too: by Core ML on macOS, interpreted and slow elsewhere.
    pub fn open(id: &str, path: &Path) -> Result<Self, EngineError> {
        Self::open_as(id, path, &How::default())
    }

    /// Like [`Self::open`], in the way that `how` says.
    pub fn open_as(id: &str, path: &Path, how: &How) -> Result<Self, EngineError> {
        if is_package(path) {
            return Self::open_on(id, path, ComputeUnit::all()[0]);
        }
        let is_folder = match path.metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => return Err(EngineError::reading(path, error)),
        };
        let (folder, opened) = if is_folder {
            (path, checkpoint::open(path)?)
        } else {
            (path.parent().unwrap_or(Path::new("")), gguf::open(path)?)
        };
        let facts = gather(&opened, Sidecar::read(folder)?);
        let beside = folder.join("tokenizer.json");
        let (tokenizer_path, bytes) = if is_folder {
            let bytes = tokens::read_bytes(&beside)?;
            (beside, bytes)
        } else {
            gguf_tokenizer::beside_or_within(path, beside)?
        };
        let weights = opened.weights;
        let demands = Demands {
            rows: Some(bert::vocabulary(&weights)?),
            max_tokens: facts.max_tokens,
            end: match &facts.family {
                Family::Qwen3(facts) => TextEnd::qwen3(facts.end),
                _ => TextEnd::Tokenizer,
            },
        };
        let revision = revision(weights.files().iter().map(AsRef::as_ref), &bytes, &facts);
        let compiled = how.packed.as_deref().map(|folder| kept::place(folder, id, &compiled_name(&revision)));
        let tokenizer = TextTokenizer::new(&tokenizer_path, &bytes, &demands, compiled.as_deref())?;
        let precision = precision(&weights);
        let backend: Box<dyn Backend> = match &facts.family {
            family if how.arithmetic != Arithmetic::Candle && fast::suits(family) => {
                fast::load(how.packed.as_deref(), (id, &revision), fast::Packing::new(how.arithmetic), |shelf| {
                    match family {
                        Family::Bert(facts) => fast::bert::load(&weights, facts, shelf),
                        Family::NomicBert(facts) => fast::nomic_bert::load(&weights, facts, shelf),
                        Family::Qwen3(facts) => fast::qwen3::load(&weights, facts, shelf),
                        Family::Package => unreachable!("a package has no tensors. This is a bug."),
                    }
                })?
            }
            Family::Bert(facts) => Box::new(Bert::load(&weights, facts)?),
            Family::NomicBert(facts) => Box::new(NomicBert::load(&weights, facts)?),
            Family::Qwen3(facts) => Box::new(Qwen3::load(&weights, facts)?),
            Family::Package => unreachable!("a package has no tensors. This is a bug."),
        };
        tracing::info!(model = id, path = %path.display(), %revision, %precision, dims = facts.dims, "model opened");
        let tokens_per_batch = batches::TOKENS_PER_BATCH;
        let (id, path) = (id.to_owned(), path.to_path_buf());
        Ok(Self { id, path, facts, tokenizer, backend, precision, revision, tokens_per_batch })
    }

    /// Loads the Core ML package at `path`, which has `tokenizer.json` beside it, for `unit`.
    pub fn open_on(id: &str, path: &Path, unit: ComputeUnit) -> Result<Self, EngineError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let package = Package::open(path, unit)?;
        let facts = ModelFacts {
            family: Family::Package,
            layers: 1,
            dims: package.dims(),
            max_tokens: package.length(),
            pooling: Pooling::Mean,
            prompts: Prompts::default(),
        };
        let tokenizer_path = folder.join("tokenizer.json");
        let bytes = tokens::read_bytes(&tokenizer_path)?;
        let demands = Demands { rows: None, max_tokens: facts.max_tokens, end: TextEnd::Tokenizer };
        let tokenizer = TextTokenizer::new(&tokenizer_path, &bytes, &demands, None)?;
        let revision = revision(&package.files()?, &bytes, &facts);
        let precision = package.precision();
        let (id, path) = (id.to_owned(), path.to_path_buf());
        let (backend, tokens_per_batch) = (Box::new(package), batches::TOKENS_PER_BATCH);
        Ok(Self { id, path, facts, tokenizer, backend, precision, revision, tokens_per_batch })
    }

    /// What the vectors of `recipe` carry.
    pub fn generation(&self, recipe: RecipeName) -> Generation {
        Generation { model: self.id.clone(), revision: self.revision.clone(), precision: self.precision, recipe }
    }

    /// Numbers in a vector.
    pub fn dims(&self) -> usize {
        self.facts.dims
    }

    /// The most tokens that the native recipe reads of a text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.facts.max_tokens
    }

    /// What runs the model.
    pub fn backend(&self) -> BackendName {
        self.backend.name()
    }

    /// The recipe that this model applies where nobody asks for another one: the one built into a package, else its own.
    pub fn own_recipe(&self) -> RecipeName {
        self.backend.built_in_recipe().unwrap_or(RecipeName::Native)
    }

    /// The recipe of that name for this model.
    pub fn recipe(&self, name: RecipeName) -> Recipe {
        Recipe::of(name, &self.facts)
    }

    /// Embeds `texts`, each with the model's `prompt` in front.
    ///
    /// Any number of texts: they are split into batches of similar length, and a text's vector does not depend on its
    /// company. An empty text is embedded as its special tokens alone, as the reference implementations do; only a
    /// tokenizer without special tokens makes it [`EngineError::NoTokens`].
    pub fn embed(&mut self, texts: &[String], prompt: PromptKind, recipe: RecipeName) -> Result<Batch, EngineError> {
        self.embed_by(texts, prompt, &self.recipe(recipe))
    }

    /// Has batches be this part, a half or a quarter, of their usual size from now on: slower for many texts, with smaller
    /// intermediate results.
    pub fn divide_batches(&mut self, by: usize) {
        self.tokens_per_batch = (batches::TOKENS_PER_BATCH / by.max(1)).max(1);
    }

    /// Like [`Self::embed`] with a recipe that has no name.
    pub fn embed_by(&mut self, texts: &[String], prompt: PromptKind, recipe: &Recipe) -> Result<Batch, EngineError> {
        if let Some(available) = self.backend.built_in_recipe().filter(|&available| available != recipe.name) {
            return Err(EngineError::RecipeUnavailable { path: self.path.clone(), asked: recipe.name, available });
        }
        let started = Instant::now();
        let tokens = self.tokenize(texts, prompt, recipe)?;
        let tokenized = Instant::now();
        let vectors = self.forward(&tokens, recipe)?;
        Ok(Batch {
            vectors,
            tokens: tokens.iter().map(|tokens| tokens.count).collect(),
            truncated: tokens.iter().map(|tokens| tokens.truncated).collect(),
            tokenize_ms: (tokenized - started).as_secs_f64() * 1e3,
            forward_ms: tokenized.elapsed().as_secs_f64() * 1e3,
        })
    }

    fn tokenize(&self, texts: &[String], prompt: PromptKind, recipe: &Recipe) -> Result<Vec<Tokens>, EngineError> {
        let tokens = match recipe.prompt(prompt) {
            "" => self.tokenizer.encode(texts, recipe.max_tokens, recipe.padding)?,
            prompt => {
                let prompted: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
                self.tokenizer.encode(&prompted, recipe.max_tokens, recipe.padding)?
            }
        };
        match tokens.iter().position(|tokens| tokens.ids.is_empty()) {
            Some(index) => Err(EngineError::NoTokens { index }),
            None => Ok(tokens),
        }
    }

    fn forward(&mut self, tokens: &[Tokens], recipe: &Recipe) -> Result<Vec<Vec<f32>>, EngineError> {
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.ids.len()).collect();
        let (batches, length) = match self.backend.shape() {
            BatchShape::Any => (batches::plan(&lengths, self.tokens_per_batch), None),
            BatchShape::Unpadded => (batches::plan_unpadded(&lengths, self.tokens_per_batch), None),
            BatchShape::OneRowOf(length) => (batches::plan(&lengths, 1), Some(length)),
        };
        let mut vectors = vec![Vec::new(); tokens.len()];
        for indices in batches {
            let ids: Vec<&[u32]> = indices.iter().map(|&index| tokens[index].ids.as_slice()).collect();
            let batch = PaddedBatch::new(&ids, self.tokenizer.pad(), length);
            for (index, mut vector) in indices.into_iter().zip(self.run(&batch, recipe)?) {
                pool::finish(&mut vector, recipe).map_err(|unusable| self.unusable(unusable, index))?;
                vectors[index] = vector;
            }
        }
        Ok(vectors)
    }

    fn run(&mut self, batch: &PaddedBatch, recipe: &Recipe) -> Result<Vec<Vec<f32>>, EngineError> {
        let layers = recipe.layers.clamp(1, self.facts.layers);
        let output = self.backend.forward(batch, layers).map_err(failed(&self.path))?;
        match output {
            Output::Hidden(states) => {
                pool::pool(&states, batch, recipe).map_err(|error| failed(&self.path)(error.into()))
            }
            Output::Tokens { states, layers } => {
                let starts = batch.lengths.iter().scan(0, |end, &length| {
                    *end += length;
                    Some(*end - length..*end)
                });
                Ok(pool::pool_texts(states, layers, self.facts.dims, starts, recipe))
            }
            Output::Pooled(vectors) => Ok(vectors),
        }
    }

    fn unusable(&self, unusable: Unusable, index: usize) -> EngineError {
        let path = self.path.clone();
        match unusable {
            Unusable::NotFinite => EngineError::NotFinite { path, index },
            Unusable::Zero => EngineError::ZeroVector { path, index },
        }
    }
}

/// Whether `path` is a Core ML package, by its name.
pub fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "mlpackage")
}

/// What the model's file and the files beside it say together; the model's file first, then the family's custom.
///
/// Without any word on pooling a BERT or NomicBERT is pooled by mean, as sentence-transformers does, and a Qwen3 by its last token.
fn gather(opened: &checkpoint::Opened, sidecar: Sidecar) -> ModelFacts {
    let (layers, dims, positions, pooling, prompts) = match &opened.family {
        Family::Bert(facts) => (facts.layers, facts.hidden, facts.positions, Pooling::Mean, ["", ""]),
        Family::NomicBert(facts) => (facts.layers, facts.hidden, facts.positions, Pooling::Mean, NOMIC_PROMPTS),
        Family::Qwen3(facts) => (facts.layers, facts.hidden, facts.positions, Pooling::Last, [QWEN3_QUERY, ""]),
        Family::Package => unreachable!("a package has no tensors. This is a bug."),
    };
    ModelFacts {
        family: opened.family.clone(),
        layers,
        dims,
        max_tokens: opened.max_tokens.or(sidecar.max_tokens).unwrap_or(positions).min(positions),
        pooling: opened.pooling.or(sidecar.pooling).unwrap_or(pooling),
        prompts: sidecar.prompts.unwrap_or_else(|| {
            let [query, document] = prompts.map(str::to_owned);
            Prompts { query, document }
        }),
    }
}

/// What the weights are stored as, by the first layer's query matrix. Mixed files (Q4_K_M) are named after their bulk, and a
/// type between two precisions after the nearer one.
fn precision(weights: &Weights) -> Precision {
    match weights.content(weight(0, "attn_q")).or(weights.content(weight(0, "attn_qkv"))) {
        None => Precision::Fp32,
        Some(Content::Affine(affine)) if affine.packing.bits >= Bits::Six => Precision::Int8,
        Some(Content::Affine(_)) => Precision::FourBit,
        Some(Content::Blocks(dtype)) => match dtype {
            GgmlDType::F32 => Precision::Fp32,
            GgmlDType::F16 | GgmlDType::BF16 => Precision::Fp16,
            GgmlDType::Q8_0 | GgmlDType::Q8_1 | GgmlDType::Q8K | GgmlDType::Q6K => Precision::Int8,
            _ => Precision::FourBit,
        },
    }
}
