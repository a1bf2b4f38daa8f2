//! What a model takes in memory while it runs and while it is loaded.
//!
//! An estimate of four parts: weights by their shapes, activations by the batch and the longest text, what the
//! tokenizer and the framework take, and what a backend takes only while it prepares. The factors and where they are
//! from are at the constants. After the first load on a machine, [`Footprint::corrected`] replaces the estimate by what
//! was measured there.

use embedbar_contract::Precision;

use crate::{Architecture, Storage};

/// What Core ML takes besides twice the weights while it specialises a package: 1.5 GB, most of it in another process.
pub const SPECIALISING_BYTES: u64 = 3 << 29;

/// The program, its allocator and its threads, without a tokenizer: 32 MB. A worker with the bundled model peaks at 69
/// MB after a query and at 106 MB after a bulk run (README, "Measured").
const BASE_BYTES: u64 = 32 << 20;

/// A token in the tokenizer's tables: with the base, 0.1 GB for Qwen's 151,669 tokens, for whose tables 50 to 150 MB
/// are known.
const BYTES_PER_TOKEN_KNOWN: u64 = 600;

/// Metal's own (50 to 150 MB are known; the upper end).
const METAL_BYTES: u64 = 150 << 20;

/// Core ML's own: not known; taken as Metal's.
const CORE_ML_BYTES: u64 = 150 << 20;

/// Scores that the engine's attention on the processor makes at a time: 16 MB of F32, for at least 16 queries of each
/// head.
const SCORES_AT_ONCE: u64 = 4 << 20;
const QUERIES_AT_ONCE: u64 = 16;

/// Copies of the scores that live together: before the softmax, masked, after it.
const SCORE_COPIES_CPU: u64 = 3;

/// Copies on a GPU: product, scaled, masked, softmax.
const SCORE_COPIES_GPU: u64 = 4;

/// What computes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Engine {
    /// The processor: activations in F32, weights in their file.
    Cpu,
    /// Apple's GPU: activations in F16, in buffers whose size is rounded up to the next power of two.
    Metal,
    /// Core ML: activations in F16. A package that this system has not specialised yet needs more while it is loaded.
    CoreMl {
        /// Whether this system has its compiled form already.
        specialised: bool,
    },
}

impl Engine {
    /// What holds its weights.
    pub fn storage(self) -> Storage {
        match self {
            Self::Cpu | Self::Metal => Storage::Gguf,
            Self::CoreMl { .. } => Storage::Package,
        }
    }
}

/// The largest piece of work that a worker is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Workload {
    /// Padded tokens in one batch at most; a longer text is a batch by itself.
    pub tokens_per_batch: u64,
    /// Tokens of the longest text.
    pub longest_text: u64,
}

impl Default for Workload {
    /// What the engine does: batches of 512 tokens, texts of 512 tokens.
    fn default() -> Self {
        Self { tokens_per_batch: 512, longest_text: 512 }
    }
}

impl Workload {
    /// With texts no longer than a model reads.
    #[must_use]
    pub fn within(self, max_tokens: u64) -> Self {
        Self { longest_text: self.longest_text.min(max_tokens).max(1), ..self }
    }
}

/// What one model takes in one precision on one backend, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Footprint {
    /// The weights.
    pub weights_bytes: u64,
    /// Intermediate results of the largest batch.
    pub activations_bytes: u64,
    /// Tokenizer, framework, program.
    pub overhead_bytes: u64,
    /// While it is loaded, all together; never less than what it takes afterwards.
    loading_bytes: u64,
    /// What was measured while it ran.
    measured_bytes: Option<u64>,
}

impl Footprint {
    /// For weights of a known size, such as those of a file whose header was read.
    pub fn of_weights(weights_bytes: u64, architecture: &Architecture, engine: Engine, workload: Workload) -> Self {
        let tokenizer = architecture.vocabulary() * BYTES_PER_TOKEN_KNOWN;
        let framework = match engine {
            Engine::Cpu => 0,
            Engine::Metal => METAL_BYTES,
            Engine::CoreMl { .. } => CORE_ML_BYTES,
        };
        let loading_bytes = match engine {
            Engine::CoreMl { specialised: false } => 2 * weights_bytes + SPECIALISING_BYTES,
            _ => 0,
        };
        Self {
            weights_bytes,
            activations_bytes: activations(architecture, engine, workload),
            overhead_bytes: BASE_BYTES + tokenizer + framework,
            loading_bytes,
            measured_bytes: None,
        }
    }

    /// While it runs.
    pub fn running_bytes(&self) -> u64 {
        let estimate = self.weights_bytes + self.activations_bytes + self.overhead_bytes;
        // Weights that are mapped are not in a process's own figure and yet have to stay resident.
        self.measured_bytes.map_or(estimate, |measured| measured.max(self.weights_bytes))
    }

    /// The most it takes at any time, loading included.
    pub fn peak_bytes(&self) -> u64 {
        self.loading_bytes.max(self.running_bytes())
    }

    /// With what was measured on this machine for the same model, precision and backend in place of the estimate; never
    /// below the weights themselves.
    #[must_use]
    pub fn corrected(self, measured_bytes: Option<u64>) -> Self {
        Self { measured_bytes, ..self }
    }
}

/// Intermediate results of the largest batch: one layer lives at a time.
fn activations(architecture: &Architecture, engine: Engine, workload: Workload) -> u64 {
    let longest = workload.longest_text.max(1);
    let tokens = workload.tokens_per_batch.max(longest);
    let (hidden, intermediate, heads) = (architecture.hidden(), architecture.intermediate(), architecture.heads());
    // Input, residual, normed, queries, keys and values together; or input, gate and up.
    let columns = (6 * hidden).max(3 * intermediate);
    let texts = (tokens / longest).max(1);
    let scores = texts * heads * longest * longest;
    match engine {
        Engine::Cpu => {
            let at_once = scores.min(SCORES_AT_ONCE.max(texts * heads * QUERIES_AT_ONCE * longest));
            4 * (tokens * columns + SCORE_COPIES_CPU * at_once)
        }
        Engine::Metal => 2 * 2 * (tokens * columns + SCORE_COPIES_GPU * scores),
        // A package has one text of a fixed length at a time.
        Engine::CoreMl { .. } => 2 * (longest * columns + SCORE_COPIES_GPU * heads * longest * longest),
    }
}

impl crate::Entry {
    /// What this model takes in `precision` on `engine`.
    pub fn footprint(&self, precision: Precision, engine: Engine, workload: Workload) -> Footprint {
        let weights_bytes = self.architecture.weights_bytes(engine.storage(), precision);
        let workload = workload.within(self.recipe.max_tokens);
        Footprint::of_weights(weights_bytes, &self.architecture, engine, workload)
    }

    /// What somebody's files of this model take while they run on the processor; they have that many bytes.
    pub fn running_bytes(&self, files_bytes: u64) -> u64 {
        let workload = Workload::default().within(self.recipe.max_tokens);
        Footprint::of_weights(files_bytes, &self.architecture, Engine::Cpu, workload).running_bytes()
    }
}
