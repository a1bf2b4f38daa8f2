//! The data of the contract: plain structs and enums, no behaviour beyond small conversions.
//!
//! Units are in the names. A reading that could not be taken is `None`, never 0. Bytes are `u64` and travel as JSON numbers
//! (a laptop's byte counts stay far below 2^53).

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// No parameters, or nothing to say in reply.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct Empty {}

// ---------------------------------------------------------------- model

/// What the weights are stored as. Ordered from the widest to the narrowest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point: the exact mode.
    Fp32,
    /// 16-bit floating point (IEEE half or bfloat16).
    Fp16,
    /// 8-bit integers with a scale per block or channel.
    Int8,
    /// 4-bit integers with a scale per block, or a palette.
    #[serde(rename = "4bit")]
    FourBit,
    /// Whatever a server on the network computes with: it does not say.
    Unknown,
}

impl Precision {
    /// Those that a person can ask for, from the finest to the coarsest.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::Int8, Self::FourBit];

    /// As a file, a request and JSON write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::FourBit => "4bit",
            Self::Unknown => "unknown",
        }
    }

    /// The precision of that [`Self::word`].
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.word() == word)
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Fp32 => "FP32",
            Self::Fp16 => "FP16",
            Self::Int8 => "INT8",
            Self::FourBit => "4-bit",
            Self::Unknown => "unknown precision",
        })
    }
}

/// How text becomes tokens and hidden states become a vector; the details live with the engine.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RecipeName {
    /// As the model's authors meant it.
    #[default]
    Native,
    /// As the Papr SDK does it: right padding to 32, mean of the last four layers, masked mean, L2.
    Papr,
}

impl std::fmt::Display for RecipeName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Native => "native",
            Self::Papr => "papr",
        })
    }
}

/// What made a vector. Vectors of different generations are never compared.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
pub struct Generation {
    /// The model's id, such as `all-MiniLM-L6-v2`.
    pub model: String,
    /// 16 hexadecimal digits that name the weights (large files by samples), the tokenizer and the facts that the recipe uses.
    pub revision: String,
    /// What the weights are stored as.
    pub precision: Precision,
    /// The recipe that was applied.
    pub recipe: RecipeName,
}

/// Which of the model's prompts goes in front of the text.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// The text as it is.
    #[default]
    None,
    /// The model's instruction for queries.
    Query,
    /// The model's instruction for documents.
    Document,
}

/// Which programme of arithmetic runs the model.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum BackendName {
    /// candle on the processor.
    CandleCpu,
    /// Embedbar's own kernels, on the processor.
    Cpu,
    /// candle on Apple's GPU.
    CandleMetal,
    /// Apple's Core ML.
    CoreMl,
    /// A Core ML package where there is no Core ML.
    CoreMlInterpreted,
    /// A server on the network.
    Remote,
}

impl std::fmt::Display for BackendName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::CandleCpu => "candle, CPU",
            Self::Cpu => "CPU",
            Self::CandleMetal => "candle, Metal",
            Self::CoreMl => "Core ML",
            Self::CoreMlInterpreted => "Core ML (interpreted, slow)",
            Self::Remote => "a server on the network",
        })
    }
}

/// Names a model, such as the one to make active.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct ModelChoice {
    /// An id from [`ModelInfo`](crate::ModelInfo), or the path of a model folder or `.gguf` file.
    pub model: String,
}

/// The active model, as the lifecycle sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ModelState {
    /// Nothing is loaded; the first query loads.
    #[default]
    Idle,
    /// A worker is starting.
    Loading {
        /// The model's id.
        model: String,
    },
    /// A worker answers.
    Ready {
        /// What it makes.
        generation: Generation,
        /// Width of its vectors.
        dims: usize,
        /// What runs it.
        backend: BackendName,
        /// The most tokens it reads of a text; 0 where that is not known, as of a server on the network.
        max_tokens: usize,
        /// The worker's process id.
        worker_pid: u32,
        /// From the start of the process to its first vector.
        load_ms: f64,
        /// How often a worker of this model died and was replaced.
        restarts: u32,
    },
    /// The last attempt failed; the next request tries again.
    Failed {
        /// The model's id.
        model: String,
        /// Why.
        failure: crate::Failure,
    },
}

// ---------------------------------------------------------------- embedding

/// Texts to embed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct EmbedRequest {
    /// One vector is made for each, in order.
    pub texts: Vec<String>,
    /// The model that has to make them, by id, with `:fp16`, `:int8` or `:4bit` for that precision only; `None` for the active one.
    /// Where another one answers at the moment, the request is refused and may be sent again.
    #[serde(default)]
    pub model: Option<String>,
    /// The prompt that goes in front of each.
    #[serde(default)]
    pub prompt: PromptKind,
    /// Which recipe to apply.
    #[serde(default)]
    pub recipe: RecipeName,
    /// How long the model is to stay loaded after this request; 0 unloads it at once, `None` leaves it as it is set.
    #[serde(default)]
    pub keep_alive_seconds: Option<u64>,
}

/// How many tokens a text had and how many were read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct Truncation {
    /// Tokens of the whole text, special tokens included.
    pub total_tokens: usize,
    /// Tokens that were read.
    pub kept_tokens: usize,
}

/// Where the time of one request went.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct Timing {
    /// Waiting for the worker, loading included.
    pub queue: f64,
    /// Text to tokens.
    pub tokenize: f64,
    /// Tokens to vector.
    pub forward: f64,
    /// From the request's arrival to its answer.
    pub total: f64,
}

/// One text's vector and what made it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Embedding {
    /// The vector, `dims` long.
    pub embedding: Vec<f32>,
    /// Width of the vector.
    pub dims: usize,
    /// Tokens that were read.
    pub tokens: usize,
    /// Set where the text was longer than the model reads.
    pub truncated: Option<Truncation>,
    /// What made it.
    pub generation: Generation,
    /// Milliseconds; texts of one request share their batch's figures.
    pub timing_ms: Timing,
}

/// The vectors of one [`EmbedRequest`], in its order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct Embeddings {
    /// One for each text.
    pub items: Vec<Embedding>,
}

// ---------------------------------------------------------------- documents

/// Folders or files to index.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct IndexRequest {
    /// Absolute paths.
    pub paths: Vec<String>,
}

/// Names a folder of the index.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct FolderChoice {
    /// The folder's absolute path as [`Folder::path`] gives it.
    pub path: String,
}

/// A folder that is indexed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Folder {
    /// Absolute path.
    pub path: String,
    /// Files of it that can be found.
    pub files: u64,
    /// Passages of these files.
    pub chunks: u64,
    /// Files that were left out.
    pub skipped: u64,
}

/// A file that was left out of the index and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct SkippedFile {
    /// Absolute path.
    pub path: String,
    /// A phrase such as `binary` or `12.4 MB, over the limit of 4.0 MB`.
    pub reason: String,
}

/// What the index holds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct IndexSummary {
    /// The folders.
    pub folders: Vec<Folder>,
    /// Some of the files that were left out, the newest first (at most 200).
    pub skipped: Vec<SkippedFile>,
}

/// A search of the index.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct SearchRequest {
    /// What the person typed.
    pub query: String,
    /// The most hits to return, 1 to 200.
    #[serde(default = "default_limit")]
    pub limit: usize,
}

fn default_limit() -> usize {
    10
}

/// Which half of the search found a hit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// Its words match.
    Words,
    /// Its meaning is near.
    Meaning,
    /// Both.
    Both,
}

/// A stretch of [`Hit::snippet`], counted in Unicode scalar values.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct Mark {
    /// First character.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// A passage that answers a search.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Hit {
    /// Absolute path of the file.
    pub path: String,
    /// First line of the passage, from 1.
    pub line: usize,
    /// Reciprocal-rank-fusion score; higher is better, comparable within one answer only.
    pub score: f64,
    /// Cosine of the query's and the passage's vectors, where both are known.
    pub cosine: Option<f32>,
    /// The part of the passage to show.
    pub snippet: String,
    /// The stretches of `snippet` to mark.
    pub marks: Vec<Mark>,
    /// The words of the query that the passage holds, in lower case.
    pub matched: Vec<String>,
    /// Which half found it.
    pub found_by: FoundBy,
}

/// The answer to a [`SearchRequest`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct SearchResults {
    /// The query as it was searched.
    pub query: String,
    /// Best first.
    pub hits: Vec<Hit>,
    /// What made the query's vector; `None` where only words were searched.
    pub generation: Option<Generation>,
    /// Set where the meaning half could not be searched, with the reason.
    pub degraded: Option<String>,
    /// Passages that were searched.
    pub searched_chunks: u64,
    /// Embedding the query, milliseconds.
    pub embedding_ms: Timing,
    /// Searching words and vectors and cutting snippets, milliseconds.
    pub search_ms: f64,
    /// From the request's arrival to its answer, milliseconds.
    pub total_ms: f64,
}

/// A file to open with the person's own program.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct OpenRequest {
    /// Absolute path of a file that the index holds; any other path is refused.
    pub path: String,
}

// ---------------------------------------------------------------- jobs

/// What a job does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Reads and embeds a folder.
    Index,
    /// Makes a smaller model of a checkpoint.
    Convert,
    /// Downloads or copies a model, tests it and puts it into the library.
    Install,
    /// Compares an installed model with what it was when it came, and tests it again.
    Verify,
}

/// What a job counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum JobUnit {
    /// Files that were looked at.
    Files,
    /// Passages that got their vector.
    Passages,
    /// Bytes that were read, written or checked.
    Bytes,
}

/// How far a job is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Work is being done.
    Running,
    /// It waits: the person has paused it or all bulk work, or memory is short; [`Job::detail`] says which.
    Paused,
    /// It was asked to stop and is finishing what it holds.
    Cancelling,
    /// It is finished.
    Done,
    /// It stopped on request. What was indexed is kept; of a conversion nothing is left.
    Cancelled,
    /// It stopped on an error. What was indexed is kept; of a conversion nothing is left.
    Failed {
        /// Why.
        failure: crate::Failure,
    },
}

/// A long piece of work.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Job {
    /// Unique while the owner runs.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to, such as the folder's path, or `Qwen3-Embedding-0.6B to INT8 GGUF`.
    pub title: String,
    /// Absolute path of the file or folder that it makes; `None` where it makes none.
    pub target: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// Whether the person has paused it by itself ([`Commands::hold`](crate::Commands::hold)); false where it cannot be.
    #[serde(default)]
    pub held: bool,
    /// What is being counted now: an index job reads files first and embeds passages then.
    pub unit: JobUnit,
    /// Units that are done.
    pub done: u64,
    /// Units there are, once they are counted.
    pub total: Option<u64>,
    /// How fast it has been in the last seconds, where it counts bytes and is running.
    pub bytes_per_second: Option<f64>,
    /// How long it still takes at that rate.
    pub seconds_left: Option<f64>,
    /// A line about the present, such as the file being read, or the result at the end.
    pub detail: String,
    /// Since it started.
    pub elapsed_ms: f64,
}

/// Names a job.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct JobId {
    /// As in [`Job::id`].
    pub id: u64,
}

/// Whether one job is to wait.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct JobHold {
    /// As in [`Job::id`].
    pub id: u64,
    /// True to have it wait, false to let it go on.
    pub held: bool,
}

// ---------------------------------------------------------------- conversions

/// What the matrices of a converted model are stored as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ConvertPrecision {
    /// 16-bit floating point.
    Fp16,
    /// 8-bit integers: half the size, nearly the same vectors.
    Int8,
    /// 4 bits: a quarter of the size. In a package an experiment, reported to give wrong vectors on real Macs.
    #[serde(rename = "4bit")]
    FourBit,
}

impl From<ConvertPrecision> for Precision {
    fn from(precision: ConvertPrecision) -> Self {
        match precision {
            ConvertPrecision::Fp16 => Self::Fp16,
            ConvertPrecision::Int8 => Self::Int8,
            ConvertPrecision::FourBit => Self::FourBit,
        }
    }
}

/// The oldest macOS that opens a package. Newer ones open it too.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ConvertSystem {
    /// Ventura.
    Macos13,
    /// Sonoma.
    Macos14,
    /// Sequoia.
    Macos15,
}

/// What a conversion makes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ConvertFormat {
    /// One file, which llama.cpp reads too.
    Gguf,
    /// A Core ML package.
    Mlpackage {
        /// The oldest system that opens it.
        system: ConvertSystem,
        /// The recipe that is built in.
        recipe: RecipeName,
    },
}

impl ConvertFormat {
    /// What the target's name ends in, without the dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Mlpackage { .. } => "mlpackage",
        }
    }
}

/// A conversion that is wanted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct ConvertRequest {
    /// The absolute path of a checkpoint's folder, or the id of a model that the Hugging Face cache holds.
    pub source: String,
    /// What the matrices are stored as.
    pub precision: ConvertPrecision,
    /// What is made.
    pub format: ConvertFormat,
    /// The absolute path of the file or package to make; `None` for a folder of its own among the home's models, whose name
    /// is made of the source, the precision and the format. What is there is replaced once the new one is complete.
    #[serde(default)]
    pub target: Option<String>,
    /// Makes room first: accepts these offers ([`NeighbourOffer::id`]) and cleans up. Containers that were stopped are started
    /// again when the job has ended, however it ended.
    #[serde(default)]
    pub make_room: Option<Vec<String>>,
}

// ---------------------------------------------------------------- the followed .env

/// The `.env` that is followed; nothing where none is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvState {
    /// The file and what it says.
    pub env: Option<EnvStatus>,
    /// The files that a person has approved, by path: those that can be followed without another word.
    #[serde(default)]
    pub known: Vec<String>,
}

/// A followed `.env`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvStatus {
    /// The file.
    pub path: String,
    /// Whether it may change what runs.
    pub approved: bool,
    /// The variables that nobody has approved yet, where it is not approved.
    pub unapproved: Vec<String>,
    /// Why the newest save is not in force: what held before goes on to hold.
    pub held_back: Vec<String>,
    /// What is wrong with it, by line.
    pub findings: Vec<EnvFinding>,
    /// What it means.
    pub values: Vec<EnvValue>,
    /// What it has led to, or would lead to if it were approved; a sentence.
    pub effect: String,
    /// A model that was chosen since in the menu bar, the panel or on the command line, where the file asks for another one:
    /// it answers until Embedbar ends or the file is saved with another meaning.
    pub chosen: Option<EnvProposal>,
}

/// What a file would have to say so that a choice lasts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvProposal {
    /// The id of the chosen model.
    pub model: String,
    /// The lines that would change; values of secrets are not in them. Empty where it cannot be written.
    pub changes: Vec<EnvChange>,
    /// Why it cannot be written.
    pub refused: Option<String>,
}

/// A line that would change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvChange {
    /// Its number in the file as it is, from 1; for a new line that of the line before which it would stand.
    pub number: usize,
    /// What it is; `None` where it is new.
    pub before: Option<String>,
    /// What it would become; `None` where it would go.
    pub after: Option<String>,
}

/// A person's word for writing a choice into the followed `.env`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvKeep {
    /// [`EnvProposal::changes`], as they were shown: a file that has changed meanwhile is left alone.
    pub changes: Vec<EnvChange>,
}

/// Something that is wrong in a `.env`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvFinding {
    /// A stable name, such as `coreml_and_mlx`.
    pub code: String,
    /// How bad it is.
    pub severity: EnvSeverity,
    /// The line, from 1.
    pub line: usize,
    /// What happens and what to do.
    pub message: String,
    /// What the mend does, in the imperative, for a button; `None` where a person has to do it.
    pub mend: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum EnvSeverity {
    /// It works; another program may read it differently.
    Note,
    /// It does not do what it says.
    Warning,
    /// It costs gigabytes, crashes, or shows a secret.
    Error,
}

/// One setting.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvValue {
    /// What it is about.
    pub name: String,
    /// What holds, in words.
    pub value: String,
    /// Where it is written, in words.
    pub origin: String,
}

/// The `.env` to follow.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvChoice {
    /// The absolute path of the file or of its folder; `None` to follow none.
    pub path: Option<String>,
}

/// A person's word for a followed `.env`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvApproval {
    /// [`EnvStatus::unapproved`], as it was shown: a variable that came meanwhile is not approved with them.
    pub variables: Vec<String>,
}

/// The finding to mend.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct EnvMend {
    /// [`EnvFinding::code`].
    pub code: String,
    /// [`EnvFinding::line`].
    pub line: usize,
}

// ---------------------------------------------------------------- memory

/// The system's own word for how short memory is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// There is room.
    Normal,
    /// The system compresses or reclaims.
    Warn,
    /// The system swaps or kills.
    Critical,
}

/// One reading of the machine. Each figure that could not be taken is `None`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct MemoryReading {
    /// Installed memory, or the container's limit where that is lower.
    pub total_bytes: Option<u64>,
    /// What can be taken without anything being compressed, swapped or killed.
    pub available_bytes: Option<u64>,
    /// The system's word for it.
    pub pressure: Option<Pressure>,
    /// Swap space in use.
    pub swap_used_bytes: Option<u64>,
    /// Bytes read back from swap per second since the previous reading.
    pub swap_in_bytes_per_second: Option<f64>,
    /// Bytes written to swap per second since the previous reading.
    pub swap_out_bytes_per_second: Option<f64>,
    /// This process's own footprint (macOS: phys_footprint; Linux: anonymous and swapped pages).
    pub own_bytes: Option<u64>,
    /// The worker's footprint, likewise.
    pub worker_bytes: Option<u64>,
    /// The worker's resident set, its mapped weights included.
    pub worker_resident_bytes: Option<u64>,
    /// Bytes of the worker's own memory that were read back from the disk per second since the previous reading.
    #[serde(default)]
    pub worker_page_in_bytes_per_second: Option<f64>,
    /// Set where these are the figures of a simulated machine: which one, for every view to say so.
    #[serde(default)]
    pub simulated: Option<String>,
}

/// A point of the gauge's history.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct MemoryPoint {
    /// Seconds before now.
    pub age_seconds: f64,
    /// Installed memory minus what is available.
    pub used_bytes: Option<u64>,
    /// The system's word for it.
    pub pressure: Option<Pressure>,
}

/// The gauge's history, oldest first.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct MemoryHistory {
    /// At most 15 minutes.
    pub points: Vec<MemoryPoint>,
}

/// What one program holds, all its processes together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct ProgramMemory {
    /// The app's name on macOS, the executable's elsewhere.
    pub name: String,
    /// How many processes it has.
    pub processes: usize,
    /// Their footprints (macOS: phys_footprint; Linux: anonymous and swapped pages); where the system refuses one, the resident
    /// set instead.
    pub bytes: u64,
}

/// The disk that holds a folder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct DiskReading {
    /// Where it is mounted.
    pub mounted_at: String,
    /// Its size.
    pub total_bytes: u64,
    /// What this user can still write.
    pub available_bytes: u64,
}

/// Who shares this machine with us. Slower to take than a [`MemoryReading`]: for views that are being looked at.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct MachineOverview {
    /// The programs that hold the most memory, the largest first; `None` where they cannot be listed.
    pub programs: Option<Vec<ProgramMemory>>,
    /// The disk with Embedbar's home; `None` where it is not known.
    pub disk: Option<DiskReading>,
}

/// Whether to do the clean-up or only to say what it would do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct CleanupRequest {
    /// Say what would be done and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// One thing that a clean-up did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct CleanupItem {
    /// What was done, in words.
    pub action: String,
    /// What it gave back, measured afterwards; `None` where nothing was measured, as in a dry run.
    pub freed_bytes: Option<u64>,
}

/// What a clean-up did and what it changed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct CleanupReceipt {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// Item by item.
    pub items: Vec<CleanupItem>,
    /// What was removed from the disk, which is no memory.
    #[serde(default)]
    pub disk: Vec<CleanupItem>,
    /// The reading before.
    pub before: MemoryReading,
    /// The reading two seconds after; the same as `before` in a dry run.
    pub after: MemoryReading,
}

// ---------------------------------------------------------------- other programs

/// What other programs would give back.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct Offers {
    /// What can be asked for, the largest first.
    pub offers: Vec<NeighbourOffer>,
    /// What cannot, and what a person could do; sentences.
    pub notes: Vec<String>,
    /// Containers that Embedbar has stopped and will start again, by name.
    pub stopped: Vec<String>,
}

/// Something that another program would give back if it were asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct NeighbourOffer {
    /// For [`OfferChoice`].
    pub id: String,
    /// Who holds it.
    pub program: String,
    /// The container's or the model's name.
    pub name: String,
    /// More about it, such as the container's image; may be empty.
    pub detail: String,
    /// How much the program says that it holds.
    pub bytes: Option<u64>,
    /// What accepting it does; a sentence without a period.
    pub action: String,
    /// Which kind of thing that is.
    pub kind: OfferKind,
}

/// What accepting an offer does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum OfferKind {
    /// A model is unloaded; its next request loads it again.
    Unload,
    /// A container is stopped and started again afterwards.
    Stop,
}

/// Offers that a person accepts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct OfferChoice {
    /// Of [`NeighbourOffer::id`].
    pub ids: Vec<String>,
}

/// What came of one offer, or of starting one container again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct OfferOutcome {
    /// The container's or the model's name.
    pub name: String,
    /// Whether nothing is left to be done.
    pub done: bool,
    /// What happened; a sentence.
    pub sentence: String,
}

/// What came of some offers, and what that gained.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct OfferReceipt {
    /// One by one.
    pub outcomes: Vec<OfferOutcome>,
    /// What is available now and was not before, measured two seconds later. It may well be nothing: Docker Desktop often keeps
    /// what its containers held.
    pub gained_bytes: Option<u64>,
    /// The reading before.
    pub before: MemoryReading,
    /// The reading after.
    pub after: MemoryReading,
}

// ---------------------------------------------------------------- the remote endpoint

/// A server on the network that may embed for this machine, where the followed `.env` names one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct RemoteStatus {
    /// Its host, with the port where there is one.
    pub host: String,
    /// The model's name there.
    pub model: String,
    /// What leaves this machine; a sentence.
    pub what_leaves: String,
    /// Whether a person has allowed it.
    pub consent: RemoteConsent,
    /// How far its vectors agree with the local model's on a set of sentences, once that was measured; a sentence.
    pub agreement: Option<String>,
}

/// What a person has said to a remote endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RemoteConsent {
    /// Nothing yet: nothing is sent.
    Unasked,
    /// It may be used.
    Granted,
    /// It may not be used.
    Refused,
}

/// A person's word for a remote endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct RemoteAnswer {
    /// [`RemoteStatus::host`], as it was shown.
    pub host: String,
    /// [`RemoteStatus::model`], as it was shown.
    pub model: String,
    /// Whether it may be used.
    pub allow: bool,
}

// ---------------------------------------------------------------- plan and governor

/// The plan for the model that is wanted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct PlanStatus {
    /// The model's id in the catalogue.
    pub model: String,
    /// Who decided about the precision, in words.
    pub wish: String,
    /// Every candidate, the most preferred first.
    pub candidates: Vec<PlanRow>,
    /// What was chosen and, where it was chosen against the numbers or nothing was, why; a sentence.
    pub choice: String,
    /// Whether that sentence is a warning.
    pub warns: bool,
    /// A better candidate for which there is room and that has only to be made; a sentence.
    pub worth_making: Option<String>,
    /// What that is made of, as [`ConvertRequest::source`] takes it.
    pub source: Option<String>,
    /// Why nothing large is loaded now, where that is so.
    pub shortage: Option<String>,
}

/// A candidate of a plan.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct PlanRow {
    /// Model, precision and backend, in words.
    pub candidate: String,
    /// The verdict with its numbers.
    pub sentence: String,
    /// Whether it is installed.
    pub ready: bool,
    /// Whether it could be used.
    pub verdict: PlanVerdict,
    /// Whether the plan chose it.
    pub chosen: bool,
    /// Whether it is what answers now.
    pub active: bool,
}

/// Whether a candidate could be used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PlanVerdict {
    /// It may be used and there is room for it.
    Fits,
    /// There is no room for it.
    NoRoom,
    /// A rule, a wish or its certificate is against it, or it cannot be made.
    NotUsed,
}

/// What the governor did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum GovernorMeasure {
    /// It unloaded a model.
    Unload,
    /// It changed the size of batches.
    Batch,
    /// It replaced what answers by something that takes less.
    StepDown,
    /// It replaced what answers by something better.
    StepUp,
    /// It replaced a worker that had grown.
    Recycle,
    /// It could do nothing and says so.
    Tell,
}

/// One of the governor's measures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct GovernorEvent {
    /// Counts up from 1 while the owner runs.
    pub id: u64,
    /// Seconds since it was decided.
    pub age_seconds: f64,
    /// What was done.
    pub measure: GovernorMeasure,
    /// What and why, with the numbers; a sentence.
    pub reason: String,
    /// Why it could not be carried out, where that is so.
    pub failed: Option<String>,
    /// What it changed, measured some seconds later.
    pub effect: Option<String>,
}

/// The governor's present.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct GovernorStatus {
    /// The plan; `None` where the active model is none of the catalogue's.
    pub plan: Option<PlanStatus>,
    /// Its last measures, newest first (at most 20).
    pub events: Vec<GovernorEvent>,
    /// Whether batches are smaller than the settings say.
    pub small_batches: bool,
    /// Set where something else stands in for the wanted model: which, and why; a sentence.
    pub stand_in: Option<String>,
}

// ---------------------------------------------------------------- the whole picture

/// What a past query cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct QueryRecord {
    /// Counts up from 1 while the owner runs.
    pub id: u64,
    /// `search` or `embed`.
    pub kind: QueryKind,
    /// What was asked, shortened to 80 characters; empty for `embed`, whose texts are not kept.
    pub label: String,
    /// Seconds since it was answered.
    pub age_seconds: f64,
    /// Tokens that were read.
    pub tokens: usize,
    /// The embedding's timing.
    pub embedding_ms: Timing,
    /// The search's own time, for a search.
    pub search_ms: Option<f64>,
    /// From arrival to answer.
    pub total_ms: f64,
    /// What made the vector.
    pub generation: Option<Generation>,
}

/// What kind of query a [`QueryRecord`] is of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// A search of the index.
    Search,
    /// Vectors asked for by a program.
    Embed,
}

/// Everything that a view shows, as one snapshot; the latest wins.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// The folder of all state.
    pub home: String,
    /// The active model.
    pub model: ModelState,
    /// Whether bulk work is paused.
    pub paused: bool,
    /// The machine's memory.
    pub memory: MemoryReading,
    /// Running jobs and those that ended lately.
    pub jobs: Vec<Job>,
    /// The last queries, newest first (at most 20).
    pub queries: Vec<QueryRecord>,
    /// What the index holds.
    pub index: IndexSummary,
    /// Requests that wait for the worker.
    pub waiting: usize,
    /// The `.env` that is followed.
    #[serde(default)]
    pub env: Option<EnvStatus>,
    /// What the governor thinks and did.
    #[serde(default)]
    pub governor: GovernorStatus,
    /// The server on the network that the followed `.env` names.
    #[serde(default)]
    pub remote: Option<RemoteStatus>,
}

/// Whether bulk work is to be paused.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct PauseRequest {
    /// True to pause indexing, conversions and downloads; queries are answered all the same.
    pub paused: bool,
}

/// The models there are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct Models {
    /// The bundled one first.
    pub models: Vec<crate::ModelInfo>,
    /// Size of all their files; what several share is counted once.
    #[serde(default)]
    pub total_bytes: u64,
    /// The part of it that lies in the home.
    #[serde(default)]
    pub own_bytes: u64,
}
