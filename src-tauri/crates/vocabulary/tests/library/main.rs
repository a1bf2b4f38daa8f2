//! A compiled tokenizer is the library's: the same tokens of the same texts, or no compiled form at all.

mod equality;
mod tokenizers_in_json;
mod unsupported;
