//! Every variable that concerns embedding, declared once: what the SDK does with it and what Embedbar does.
//!
//! The SDK is papr-pythonSDK at 2.25.0 and its branch `development-coreml`, read in code. The lint, the settings and the
//! README's table come from here. Variables that only concern this program's own process (`EMBEDBAR_HOME` and the like) are
//! [`PROCESS_ONLY`]: they are not read from a file.

/// A variable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Variable {
    /// Its name, in the case that it is read in.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds where it is not set, as a person would write it.
    pub default: &'static str,
    /// What the SDK does with it.
    pub sdk: &'static str,
    /// What Embedbar does with it.
    pub embedbar: &'static str,
    /// Who reads it.
    pub reader: Reader,
    /// Whether Embedbar acts on it, so that a file which sets it must be trusted.
    pub matters: bool,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// True are `true`, `1`, `yes`, `on` in any case; all else is false.
    Flag,
    /// A [`Kind::Flag`] that is also read a second time, where only `true` counts.
    SplitFlag,
    /// Only `true` in any case is true.
    LiteralTrue,
    /// True are `true`, `1`, `yes`; not `on`.
    FlagWithoutOn,
    /// The library `tokenizers`: false are an empty value, `false`, `0`, `no`, `off`, `f`, `n`; all else is true.
    TokenizersFlag,
    /// A file or folder.
    Path,
    /// Python's `int()`.
    Integer(BadNumber),
    /// Python's `float()`.
    Float(BadNumber),
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Whether any case will do.
        any_case: bool,
        /// What holds where it is none of them.
        otherwise: &'static str,
    },
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
}

/// What happens where a number is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadNumber {
    /// The default is taken and nothing is said.
    Default,
    /// Python stops with a `ValueError`.
    Crash,
}

/// Who reads a variable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// The released SDK, or a library that it uses.
    Main,
    /// Only the branch `development-coreml`, which was never released.
    DevelopmentCoreml,
    /// Nothing: it is only in the documentation.
    Nothing,
    /// Embedbar.
    Embedbar,
}

/// Variables of Embedbar that are read from the environment of its process and from no file.
pub const PROCESS_ONLY: [&str; 5] =
    ["EMBEDBAR_BUNDLED", "EMBEDBAR_HOME", "EMBEDBAR_LOG", "EMBEDBAR_SEARCH_SHORTCUT", "EMBEDBAR_WORKER"];

/// The variable of a name, which is compared by case.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// The README's table, in Markdown.
pub fn variables_table() -> String {
    let mut table =
        String::from("| variable | value | default | the SDK | Embedbar | read by |\n|---|---|---|---|---|---|\n");
    for variable in VARIABLES {
        let cells = [
            format!("`{}`", variable.name),
            variable.kind.describe(),
            variable.default.to_owned(),
            variable.sdk.to_owned(),
            variable.embedbar.to_owned(),
            variable.reader.describe().to_owned(),
        ];
        for cell in cells {
            table.push_str("| ");
            table.push_str(&cell.replace('|', "\\|"));
            table.push(' ');
        }
        table.push_str("|\n");
    }
    table
}

impl Reader {
    fn describe(self) -> &'static str {
        match self {
            Self::Main => "the SDK",
            Self::DevelopmentCoreml => "`development-coreml` only (not released)",
            Self::Nothing => "nothing",
            Self::Embedbar => "Embedbar",
        }
    }
}

impl Kind {
    fn describe(self) -> String {
        match self {
            Self::Flag => "flag".to_owned(),
            Self::SplitFlag => "flag; write `true`, not `1`".to_owned(),
            Self::LiteralTrue => "only `true` counts".to_owned(),
            Self::FlagWithoutOn => "flag, without `on`".to_owned(),
            Self::TokenizersFlag => "flag; unknown words count as true".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Integer(BadNumber::Default) => "whole number".to_owned(),
            Self::Integer(BadNumber::Crash) => "whole number; anything else crashes".to_owned(),
            Self::Float(BadNumber::Default) => "number".to_owned(),
            Self::Float(BadNumber::Crash) => "number; anything else crashes".to_owned(),
            Self::Choice { words, .. } => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Self::Text => "text".to_owned(),
            Self::Secret => "secret".to_owned(),
        }
    }
}

const SDK_NONE: &str = "–";
const NOT_USED: &str = "not used";
const ONLY_HIDDEN: &str = "never shown; not used";

/// Shortens the table below: it says what an entry is, in the order of the fields of [`Variable`].
const fn variable(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    sdk: &'static str,
    embedbar: &'static str,
    reader: Reader,
    matters: bool,
) -> Variable {
    Variable { name, kind, default, sdk, embedbar, reader, matters }
}

const fn choice(words: &'static [&'static str], otherwise: &'static str) -> Kind {
    Kind::Choice { words, any_case: true, otherwise }
}

use BadNumber::{Crash, Default as TakesDefault};
use Kind::{Flag, FlagWithoutOn, Float, Integer, LiteralTrue, Path, Secret, SplitFlag, Text, TokenizersFlag};
use Reader::{DevelopmentCoreml, Embedbar, Main, Nothing};

/// All of them: Embedbar's own, those that choose a model, those around it, and those that nothing reads.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    // Embedbar's own.
    variable("EMBEDBAR_MODEL", Text, "by the backend", SDK_NONE, "the model: a path that begins with `/`, `./` or `../` or ends in `.mlpackage`, `.gguf` or `.safetensors`, else an id", Embedbar, true),
    variable("EMBEDBAR_PRECISION", choice(&["auto", "fp32", "fp16", "int8", "4bit"], "auto"), "`auto`", SDK_NONE, "`auto` chooses by the memory that is there; any other choice is kept and switches automatic steps off", Embedbar, true),
    variable("EMBEDBAR_BACKEND", choice(&["auto", "coreml", "metal", "cpu", "remote"], "auto"), "`auto`", SDK_NONE, "what runs the model; wins over `PAPR_ENABLE_COREML` and `PAPR_ENABLE_MLX`", Embedbar, true),
    variable("EMBEDBAR_RECIPE", choice(&["native", "papr"], "native"), "`native`", SDK_NONE, "how text becomes a vector: as the model's authors meant it, or as the SDK does it", Embedbar, true),
    variable("EMBEDBAR_IDLE_MINUTES", Integer(TakesDefault), "30", SDK_NONE, "minutes without a query after which the model is unloaded; 0 is never", Embedbar, true),
    variable("EMBEDBAR_PIN", Flag, "`false`", SDK_NONE, "the model stays loaded, whatever the memory", Embedbar, true),
    variable("EMBEDBAR_ALLOW_SMALLER", Flag, "`false`", SDK_NONE, "Embedbar's own search may step down to a smaller model", Embedbar, true),
    variable("EMBEDBAR_ALLOW_REMOTE", Flag, "`false`", SDK_NONE, "Embedbar's own search may step down to `EMBEDBAR_REMOTE_URL`", Embedbar, true),
    variable("EMBEDBAR_DOWNLOADS", choice(&["shared", "own"], "shared"), "`shared`", SDK_NONE, "where downloads go: into the hub's cache, which Python reads too, or into Embedbar's own folder", Embedbar, true),
    variable("EMBEDBAR_REMOTE_URL", Text, "none", SDK_NONE, "an OpenAI-compatible address; used only with `EMBEDBAR_BACKEND=remote` or `EMBEDBAR_ALLOW_REMOTE`, and the first use asks", Embedbar, true),
    variable("EMBEDBAR_REMOTE_KEY", Secret, "none", SDK_NONE, "sent to `EMBEDBAR_REMOTE_URL` and nowhere else", Embedbar, true),
    variable("EMBEDBAR_REMOTE_MODEL", Text, "none", SDK_NONE, "the model's name there", Embedbar, true),
    variable("EMBEDBAR_REMOTE_DIMENSIONS", Integer(TakesDefault), "what comes", SDK_NONE, "asked for and checked", Embedbar, true),
    variable("EMBEDBAR_REMOTE_DEADLINE_SECONDS", Integer(TakesDefault), "10", SDK_NONE, "after which a request has failed", Embedbar, true),
    // What chooses the SDK's model.
    variable("PAPR_ONDEVICE_PROCESSING", Flag, "`false`", "embeds on this machine, else on its server; without effect from 2.19.0 on", "written and not true: no model is loaded for the SDK", Main, true),
    variable("PAPR_ENABLE_COREML", SplitFlag, "`false`", "embeds with Core ML; unless it is `true`, also loads sentence-transformers with 16 GB in FP32", "the Core ML backend; wins over MLX", Main, true),
    variable("PAPR_COREML_MODEL", Path, "the SDK's cache", "the package; one that does not exist means a download of 7.5 GB without a word; relative to the folder of the process", "the package; relative to the folder of the `.env`; a missing one downloads nothing", Main, true),
    variable("PAPR_COREML_VARIANT", choice(&["fp16", "int8"], "fp16"), "`fp16`", "which package it takes from its cache or downloads", "the precision, as if `EMBEDBAR_PRECISION` said so, where Core ML is on", Main, true),
    variable("PAPR_COREML_COMPUTE_UNITS", Kind::Choice { words: &["ALL", "CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY"], any_case: false, otherwise: "CPU_AND_NE" }, "`CPU_AND_NE`", "where Core ML may run; the release always says `ALL`", "where Core ML may run", DevelopmentCoreml, true),
    variable("PAPR_ENABLE_MLX", SplitFlag, "`false`", "tries MLX where Core ML is off or failed; this has never worked and ends with 16 GB of sentence-transformers", "the model's MLX checkpoint, read natively", Main, true),
    variable("PAPR_EMBEDDING_MODEL", Text, "`Qwen/Qwen3-Embedding-4B`; MLX: `mlx-community/Qwen3-Embedding-4B-4bit-DWQ`", "with Core ML the tokenizer, with MLX the model and its tokenizer, else the model", "the same three meanings", Main, true),
    variable("PAPR_EMBEDDING_FALLBACK_MODEL", Text, "`Qwen/Qwen3-Embedding-4B`", "sentence-transformers, when MLX has failed", NOT_USED, Main, false),
    variable("PAPR_DISABLE_ST_PRELOAD", LiteralTrue, "`false`", "does not load sentence-transformers at the start", "nothing to do: it never loads it", Main, false),
    variable("PAPR_COREML_MAX_LENGTH", Integer(Crash), "32", "read by one evaluation script; the SDK always cuts at 32 tokens", NOT_USED, Main, false),
    variable("TOKENIZERS_PARALLELISM", TokenizersFlag, "`false` with the SDK", "sets it to `false` itself where it is not set", "passed to the worker", Main, true),
    variable("HF_TOKEN", Secret, "none", "downloads from the Hugging Face hub", "downloads from the Hugging Face hub", Main, true),
    variable("HUGGING_FACE_HUB_TOKEN", Secret, "none", "the older name of `HF_TOKEN`", "the older name of `HF_TOKEN`", Main, true),
    variable("HF_HOME", Path, "`~/.cache/huggingface`", "where downloads and tokenizers are kept", "where models are looked for that were downloaded", Main, true),
    variable("HF_ENDPOINT", Text, "`https://huggingface.co`", "where the hub is", "where the hub is; the token is sent there", Main, true),
    variable("HF_HUB_CACHE", Path, "`hub` below `HF_HOME`", "where downloads are kept", "where downloads go and are looked for", Main, true),
    variable("HF_HUB_OFFLINE", Flag, "`false`", "the hub is not asked", "the hub is not asked", Main, true),
    variable("XDG_CACHE_HOME", Path, "`~/.cache`", "its Core ML packages are in `papr_memory/coreml` below it", "where the SDK's packages are looked for", Main, true),
    // Around the model.
    variable("PAPR_MAX_TIER0", Integer(TakesDefault), "30; asynchronous: 2", "how many memories it keeps on this machine", NOT_USED, Main, false),
    variable("PAPR_MAX_TIER1", Integer(TakesDefault), "`PAPR_MAX_TIER0`", "the same for the second tier", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_SYNC_INTERVAL", Integer(Crash), "300", "seconds between synchronisations; read when it is imported", NOT_USED, Main, false),
    variable("PAPR_CHROMADB_PATH", Path, "`./chroma_db`", "its local store; relative to the folder of the process", "never touched", Main, false),
    variable("PAPR_INCLUDE_SERVER_EMBEDDINGS", FlagWithoutOn, "`true`", "asks the server for vectors", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_EMBED_LIMIT", Integer(TakesDefault), "200", "for how many memories", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_EMBED_MODEL", Kind::Choice { words: &["sbert", "bigbird", "Qwen4B"], any_case: false, otherwise: "" }, "`Qwen4B`", "which vectors it asks the server for", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_EMBEDDING_FORMAT", Kind::Choice { words: &["float32", "int8"], any_case: false, otherwise: "" }, "`float32` with Core ML, else `int8`", "of those vectors; with Core ML always `float32`", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_ONDEVICE_SIMILARITY_THRESHOLD", Float(Crash), "0.70", "from which similarity on it is content with the local answer", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_ENABLE_PARALLEL_SEARCH", Flag, "`true`", "asks this machine and the server at the same time", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_USER_ID", Text, "none", "whose memories", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_EXTERNAL_USER_ID", Text, "none", "whose memories", NOT_USED, DevelopmentCoreml, false),
    variable("PAPR_MEMORY_API_KEY", Secret, "required", "its server's key", ONLY_HIDDEN, Main, false),
    variable("PAPR_MEMORY_BEARER_TOKEN", Secret, "none", "its server's token", ONLY_HIDDEN, Main, false),
    variable("PAPR_MEMORY_Session_Token", Secret, "none", "its server's session", ONLY_HIDDEN, Main, false),
    variable("PAPR_CUSTOM_HEADERS", Secret, "none", "headers, one a line, for its server", ONLY_HIDDEN, Main, false),
    variable("PAPR_BASE_URL", Text, "`https://memory.papr.ai`", "its server", NOT_USED, Main, false),
    variable("PAPR_LOG_LEVEL", choice(&["DEBUG", "INFO", "WARNING", "ERROR"], "INFO"), "`INFO`", "the log of what it does on this machine", NOT_USED, Main, false),
    variable("PAPR_LOG", Kind::Choice { words: &["debug", "info"], any_case: false, otherwise: "" }, "off", "the log of its HTTP client", NOT_USED, Main, false),
    variable("PAPR_LOG_FILE", Path, "none", "log and metrics, queries among them, in one file; its folder must exist", NOT_USED, Main, false),
    variable("PAPR_ENABLE_METRICS", Flag, "`true`", "measures each query", NOT_USED, Main, false),
    variable("PAPR_PARSE_SERVER_URL", Text, "none", "with the three below it sends the text of every query there", NOT_USED, Main, false),
    variable("PAPR_PARSE_APP_ID", Text, "none", "for the Parse server", NOT_USED, Main, false),
    variable("PAPR_PARSE_MASTER_KEY", Secret, "none", "for the Parse server", ONLY_HIDDEN, Main, false),
    variable("PAPR_PARSE_API_KEY", Secret, "none", "for the Parse server", ONLY_HIDDEN, Main, false),
    variable("PAPR_UNINSTALL_CLEANUP", Flag, "`false`", "deletes `PAPR_CHROMADB_PATH` when the process ends", NOT_USED, Main, false),
    // What nothing reads.
    variable("PAPR_ONDEVICE_ONLY", Flag, "–", SDK_NONE, NOT_USED, Nothing, false),
    variable("PAPR_AUTO_CONFIGURE", Flag, "–", SDK_NONE, NOT_USED, Nothing, false),
    variable("PAPR_API_KEY", Secret, "–", SDK_NONE, "never shown; the SDK's name is `PAPR_MEMORY_API_KEY`", Nothing, false),
    variable("HUGGINGFACE_HUB_TOKEN", Secret, "–", SDK_NONE, "never shown; the hub's name is `HF_TOKEN`", Nothing, false),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_variable_is_declared_once() {
        let names: BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), VARIABLES.len());
    }

    #[test]
    fn what_nothing_reads_changes_nothing() {
        for variable in VARIABLES {
            assert!(!(variable.reader == Nothing && variable.matters), "{}", variable.name);
            assert_eq!(variable.name.starts_with("EMBEDBAR_"), variable.reader == Embedbar, "{}", variable.name);
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_and_no_cell_breaks_it() {
        let table = variables_table();
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows.len(), VARIABLES.len() + 2);
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
        }
    }
}
