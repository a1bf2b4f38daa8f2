//! The command line, as written.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use embedbar_engine::Arithmetic;

/// Keeps one good embedding model running, and searches your files with it.
#[derive(Debug, Parser)]
#[command(name = "embedbar", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The folder of all state [default: the system's place for your data]
    #[arg(long, global = true, value_name = "DIR", env = "EMBEDBAR_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON: one object, or one line for each item
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Embed texts, from the arguments or one a line from standard input
    Embed(Embed),
    /// Index folders or files, so that `search` finds what is in them
    Index {
        /// Folders or files
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Take a folder out of the index; the folder itself is not touched
    Forget {
        /// The folder
        path: PathBuf,
    },
    /// Find passages by words and by meaning
    Search {
        /// What you are looking for
        #[arg(required = true, num_args = 1..)]
        query: Vec<String>,
        /// The most hits to show
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
    },
    /// List the models there are, with what they take on the disk
    Models,
    /// Show all that is known of a model: its files, where it came from, its self-test, its certificate
    Show {
        /// An id from `embedbar models`
        model: String,
    },
    /// Install a model: a file, a folder, an archive, a link to the hub, or a repository there
    Install(Install),
    /// Compare an installed model with what it was when it came, and test it again
    Verify {
        /// An id from `embedbar models`
        model: String,
    },
    /// Remove an installed model; files that a link points to stay
    Remove {
        /// An id from `embedbar models`
        model: String,
    },
    /// Write an installed checkpoint as a GGUF file or a Core ML package, or copy an installed one
    Export {
        /// An id from `embedbar models`
        model: String,
        /// The file or package to make
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
        /// What the matrices are stored as [default: int8]
        #[arg(long, value_enum)]
        precision: Option<PlanPrecision>,
    },
    /// Show the lines with which the Papr SDK uses a model, or write them into the followed `.env`
    Sdk {
        /// An id from `embedbar models`
        model: String,
        /// Write them
        #[arg(long)]
        write: bool,
    },
    /// Show whether the hub gets a token; keep one, which is read from standard input, or forget it
    Token {
        /// Read a token from standard input and keep it
        #[arg(long)]
        set: bool,
        /// Forget the one that is kept
        #[arg(long, conflicts_with = "set")]
        forget: bool,
    },
    /// Make a model active in the Embedbar that is running
    Use {
        /// An id from `embedbar models`, or the path of a model
        model: String,
        /// Write the choice into the followed `.env` as well, so that it lasts; the new lines are shown
        #[arg(long)]
        keep: bool,
    },
    /// Show the machine's memory
    Memory,
    /// Give memory back and show what that gained
    Cleanup {
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
        /// List what other programs (Docker, Ollama, LM Studio, llama-server) would give back
        #[arg(long, conflicts_with = "dry_run")]
        offers: bool,
        /// Accept one of these offers, by its id or name; may be given several times
        #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "offers"])]
        accept: Vec<String>,
        /// Start the containers again that Embedbar has stopped, and no others
        #[arg(long, conflicts_with_all = ["dry_run", "offers", "accept"])]
        start_again: bool,
    },
    /// Show the model, the jobs and the index
    Status,
    /// List the long work of the Embedbar that is running: what is being indexed, converted, installed and tested
    Jobs,
    /// Pause one installation, or all long work; queries are answered all the same
    Pause {
        /// A number from `embedbar jobs` [default: all long work]
        job: Option<u64>,
    },
    /// Let one installation go on, or all long work
    Resume {
        /// A number from `embedbar jobs` [default: all long work]
        job: Option<u64>,
    },
    /// Cancel a job; what was downloaded or indexed is kept
    Cancel {
        /// A number from `embedbar jobs`
        job: u64,
    },
    /// Check that everything is as it should be; exits with 1 where a point fails
    Doctor {
        /// The seven points about a project that embeds with the Papr SDK
        #[arg(long)]
        checklist: bool,
        /// The project's `.env`, or its folder [default: the followed one, else the one here]
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Measure what a search costs: the first query, then warm ones, split into waiting, embedding and search
    Latency {
        /// Warm queries
        #[arg(long, value_name = "N", default_value_t = 20)]
        queries: usize,
        /// Unload the model first, so that the first query has to load it
        #[arg(long)]
        cold: bool,
    },
    /// Say which precision of a model fits into the memory that is there, and why
    Plan(Plan),
    /// Read, check, mend and follow a project's `.env`
    Env {
        #[command(subcommand)]
        command: Env,
    },
    /// Convert a checkpoint to a smaller one
    Convert(Convert),
    /// Say what something is before it is installed: a path, an archive, a link to the hub or a repository there
    Inspect {
        /// What to look at
        source: String,
    },
    /// Run without a desktop: the same interface, in a browser
    Serve(Serve),
    /// Hold one model for an Embedbar program
    #[command(hide = true)]
    Worker {
        /// What computes on the processor
        #[arg(long, value_enum, default_value_t)]
        backend: CpuBackend,
        /// The folder for packed matrices
        #[arg(long, value_name = "DIR")]
        packed: Option<PathBuf>,
    },
    /// Convert one checkpoint for an Embedbar program
    #[command(hide = true)]
    Converter,
    /// Look at a model's files, bring them in or test them for an Embedbar program
    #[command(hide = true)]
    Installer,
    /// Measure the engine in this process, for benchmarks
    #[command(hide = true)]
    Probe(Probe),
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// A model of the catalogue [default: the bundled one]
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Insist on a precision, as an `.env` can
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PlanPrecision>,
    /// Plan for a machine that is only described [default: this machine]
    #[arg(long, value_enum)]
    pub(crate) machine: Option<MachineKind>,
    /// Its memory [default: 16GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) ram: Option<u64>,
    /// What other programs use of it [default: a quarter]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) used: Option<u64>,
    /// What the system says of its memory
    #[arg(long, value_enum)]
    pub(crate) pressure: Option<PressureLevel>,
    /// Print the table of simulated Macs that the README has
    #[arg(long, hide = true)]
    pub(crate) table: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PlanPrecision {
    /// 16-bit floating point
    Fp16,
    /// 8-bit integers
    Int8,
    /// 4 bits
    #[value(name = "4bit")]
    FourBit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MachineKind {
    /// With Core ML and Metal
    Mac,
    /// With the processor alone
    Linux,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PressureLevel {
    /// There is room
    Normal,
    /// The system compresses
    Warn,
    /// The system swaps
    Critical,
}

/// Memory as people write it, in powers of 1024: `16GB`, `900 MB`, `11.5g`.
fn size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let factor = match lower[number.len()..].trim() {
        "k" | "kb" | "kib" => 1_u64 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(format!("`{text}` is no size such as `16GB` or `900MB`")),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((number * factor as f64) as u64),
        _ => Err(format!("`{text}` does not begin with a number")),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Env {
    /// List what is wrong with a file; exits with 1 where anything is
    Lint {
        /// The file, or a folder with a `.env`
        #[arg(long, default_value = ".env")]
        file: PathBuf,
    },
    /// Show what a file means, and where each value is written
    Show {
        /// The file, or a folder with a `.env`
        #[arg(long, default_value = ".env")]
        file: PathBuf,
    },
    /// Mend what can be mended without asking; comments, order and every other byte stay
    Fix {
        /// The file, or a folder with a `.env`
        #[arg(long, default_value = ".env")]
        file: PathBuf,
        /// Show what would change and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow a file and no other: Embedbar runs what it asks for, once it is approved
    Use {
        /// The file, or a folder with a `.env`
        #[arg(required_unless_present = "none")]
        file: Option<PathBuf>,
        /// Let it decide what runs, with the variables that it has now
        #[arg(long)]
        approve: bool,
        /// Follow no file any more
        #[arg(long, conflicts_with_all = ["file", "approve"])]
        none: bool,
    },
    /// Show the followed file, what it has led to and what is wrong with it
    Status,
    /// Show the server on the network that the followed file names, allow it or refuse it
    Remote {
        /// Let text be sent there
        #[arg(long, conflicts_with = "refuse")]
        allow: bool,
        /// Send nothing there
        #[arg(long)]
        refuse: bool,
    },
    /// Print the table of all variables that the README has
    #[command(hide = true)]
    Table,
}

#[derive(Args, Debug)]
pub(crate) struct Embed {
    /// The texts
    pub(crate) texts: Vec<String>,
    /// Use this model, an id or a path, in a worker of its own
    #[arg(long, value_name = "ID_OR_PATH")]
    pub(crate) model: Option<String>,
    /// What computes on the processor, for a model in a worker of its own
    #[arg(long, value_enum, default_value_t, requires = "model")]
    pub(crate) backend: CpuBackend,
    /// How text becomes a vector
    #[arg(long, value_enum, default_value_t = Recipe::Native)]
    pub(crate) recipe: Recipe,
    /// What goes in front of each text
    #[arg(long, value_enum, default_value_t = Prompt::None)]
    pub(crate) prompt: Prompt,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Recipe {
    /// As the model's authors meant it
    Native,
    /// As the Papr SDK does it
    Papr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Prompt {
    /// The text as it is
    None,
    /// The model's instruction for queries
    Query,
    /// The model's instruction for documents
    Document,
}

#[derive(Args, Debug)]
pub(crate) struct Install {
    /// A path, `owner/name` (with `@revision`, `:Q8_0` or a file's name behind it), a link, or a model of the catalogue
    pub(crate) source: String,
    /// Say yes to the size of the download without being asked
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Call the model so
    #[arg(long, value_name = "ID")]
    pub(crate) name: Option<String>,
    /// Leave the files where they are and point to them
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Make smaller precisions of it afterwards, so that there is something to step down to; may be given several times
    #[arg(long = "prepare", value_name = "PRECISION", value_enum)]
    pub(crate) prepare: Vec<PlanPrecision>,
    /// The most bytes a second that a download may take, such as `2MB`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) limit: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Convert {
    /// The checkpoint: a folder with `config.json`, `tokenizer.json` and safetensors files, or the id of a model that the Hugging
    /// Face cache holds
    #[arg(long = "hf", value_name = "ID_OR_PATH")]
    pub(crate) source: String,
    /// What to make: a file ending in `.gguf` or a package ending in `.mlpackage`
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// Where the name of `--out` does not say it
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) precision: Precision,
    /// How tokens become one vector [default: what the checkpoint says]
    #[arg(long, value_enum)]
    pub(crate) pooling: Option<Pooling>,
    /// Tokens that the model is to read of a text; in a package, the length of every text
    #[arg(long, value_name = "N", conflicts_with = "lengths")]
    pub(crate) max_length: Option<NonZeroUsize>,
    /// Packages: which recipe is built in
    #[arg(long, value_enum, default_value_t = Recipe::Native)]
    pub(crate) recipe: Recipe,
    /// Packages: how many of the last layers are averaged [default: 1, papr: 4]
    #[arg(long, value_name = "N")]
    pub(crate) layers: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) normalise: Normalise,
    /// Packages: the oldest system that opens it
    #[arg(long, value_enum, default_value_t = System::Macos14)]
    pub(crate) target: System,
    /// Packages: lengths of texts, each a package of its own; those after the first have the length in their names
    /// [default: 128, papr: 32]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) lengths: Vec<NonZeroUsize>,
    /// Packages: split a model whose weights are too large for the Neural Engine into packages that run one after the other
    /// (NAME-1of3.mlpackage and so on) [default: one package]
    #[arg(long, value_enum)]
    pub(crate) chunks: Option<Chunks>,
    /// The least mean cosine between the new model's vectors and the source's that is accepted; 0 accepts any
    /// [default: 0.999 in 16 bits, 0.99 in 8, 0.95 in 4]
    #[arg(long, value_name = "COSINE", value_parser = cosine)]
    pub(crate) floor: Option<f64>,
    /// Do not test the new model and do not compare it with its source
    #[arg(long, conflicts_with = "floor")]
    pub(crate) no_certificate: bool,
}

fn cosine(text: &str) -> Result<f64, String> {
    let cosine = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..=1.0).contains(&cosine) { Ok(cosine) } else { Err(format!("`{text}` is not between 0 and 1")) }
}

/// What weights are stored as; clap sees to it that one is chosen at most.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Precision {
    /// 16-bit floating point
    #[arg(long, group = "precision")]
    pub(crate) fp16: bool,
    /// 8-bit integers: half the size, nearly the same vectors
    #[arg(long, group = "precision")]
    pub(crate) int8: bool,
    /// 4 bits: a quarter of the size; in a package an experiment, reported to give wrong vectors on real Macs
    #[arg(long, group = "precision", visible_alias = "4bit")]
    pub(crate) k4bit: bool,
}

/// Whether vectors are scaled.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Normalise {
    /// Packages: scale the vector to length 1 [default: as the checkpoint says]
    #[arg(long, overrides_with = "no_normalize")]
    pub(crate) normalize: bool,
    /// Packages: do not scale the vector
    #[arg(long)]
    pub(crate) no_normalize: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// One file, which llama.cpp reads too
    Gguf,
    /// A Core ML package
    Mlpackage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Pooling {
    /// The mean over the tokens
    Mean,
    /// The first token
    Cls,
    /// The last token
    Last,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Chunks {
    /// As few packages as the Neural Engine takes
    Auto,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum System {
    /// Ventura
    Macos13,
    /// Sonoma
    Macos14,
    /// Sequoia
    Macos15,
}

/// What computes on the processor.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum CpuBackend {
    /// Embedbar's own kernels; candle where the processor or the model does not suit them
    #[default]
    Kernels,
    /// The same, with inputs rounded to BF16 beside weights of that type, where the processor multiplies those faster
    Bf16,
    /// candle: the reference
    Candle,
}

impl CpuBackend {
    /// As a worker is told.
    pub(crate) fn worker_arguments(self) -> Vec<OsString> {
        let named = |name: &str| ["--backend", name].map(OsString::from).to_vec();
        match self {
            Self::Kernels => Vec::new(),
            Self::Bf16 => named("bf16"),
            Self::Candle => named("candle"),
        }
    }
}

impl From<CpuBackend> for Arithmetic {
    fn from(backend: CpuBackend) -> Self {
        match backend {
            CpuBackend::Kernels => Self::Kernels,
            CpuBackend::Bf16 => Self::KernelsInBf16,
            CpuBackend::Candle => Self::Candle,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The port on 127.0.0.1 [default: 7431]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// The model to begin with, an id or a path [default: the bundled one]
    #[arg(long, value_name = "ID_OR_PATH")]
    pub(crate) model: Option<String>,
    /// What computes on the processor
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: CpuBackend,
    /// Decide for a simulated machine: `8gb-browser`, `16gb-docker`, `16gb-full`, `32gb-build`, `64gb-calm`. Models and vectors are real
    #[arg(long, value_name = "TRACE")]
    pub(crate) simulate: Option<String>,
    /// How many times as fast the simulated machine's day passes
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "simulate")]
    pub(crate) simulate_speed: f64,
}

#[derive(Args, Debug)]
pub(crate) struct Probe {
    /// The model's path
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// A file with one text a line
    #[arg(long)]
    pub(crate) texts: PathBuf,
    /// How often to embed all of them
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Texts that go into the engine together
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// What computes on the processor
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: CpuBackend,
    /// A folder for packed matrices
    #[arg(long, value_name = "DIR")]
    pub(crate) packed: Option<PathBuf>,
}
