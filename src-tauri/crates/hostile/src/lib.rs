//! What must hold of each of our parsers, whatever bytes it is given.
//!
//! One function for each parser of what comes from outside: it takes any bytes and panics where something does not hold. That a
//! parser neither panics nor takes for ever is the least of it; where there is a second reader of the same format it has to agree,
//! and what is written back has to read as it was.
//!
//! Two callers: the fuzz targets in `src-tauri/fuzz`, which look for such bytes (`cargo xtask bench -- fuzz`), and this crate's
//! test, which gives every parser the bytes of `src-tauri/fuzz/corpus` in every run of the tests, without a nightly toolchain. No
//! program of ours contains this crate, and nothing here decides what is a model.

mod dotenv;
mod folder;
mod headers;
mod hub;
mod intake;
mod package;
mod tokenizer;

pub use dotenv::dotenv;
pub use folder::{Part, joined};
pub use headers::{gguf_header, safetensors_header};
pub use hub::{hub_journal, hub_listing, hub_names};
pub use intake::{archive, arrival, manifest, mlx_settings};
pub use package::package;
pub use tokenizer::{compiled_vocabulary, tokenizer, vocabulary};

/// Takes any bytes; panics where something does not hold.
pub type Parser = fn(&[u8]);

/// Every parser, by the name of its fuzz target and of its folder in the corpus.
pub const PARSERS: &[(&str, Parser)] = &[
    ("archive", archive),
    ("arrival", arrival),
    ("compiled_vocabulary", compiled_vocabulary),
    ("dotenv", dotenv),
    ("gguf_header", gguf_header),
    ("hub_journal", hub_journal),
    ("hub_listing", hub_listing),
    ("hub_names", hub_names),
    ("manifest", manifest),
    ("mlx_settings", mlx_settings),
    ("package", package),
    ("safetensors_header", safetensors_header),
    ("tokenizer", tokenizer),
    ("vocabulary", vocabulary),
];
