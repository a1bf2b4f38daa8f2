//! XLM-R encoders: multilingual E5 (base and large), BGE-M3, Arctic-embed 2 large.
//!
//! To a reader of `bert` files they are BERTs. XLM-R counts positions from behind the padding token's id, so the first rows of
//! its table belong to no token; they are left out, as llama.cpp's own converter does, and the target counts from 0.

use super::{Blueprint, Recognised, bert};
use crate::ConvertError;
use crate::configuration::Configuration;

pub(super) fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    // The default of transformers' XLMRobertaConfig.
    let pad = configuration.count_or("pad_token_id", 1, 0..=4_194_304)?;
    bert::encoder(configuration, pad + 1, recognise)
}

fn recognise(name: &str) -> Recognised {
    let name = name.strip_prefix("roberta.").unwrap_or(name);
    // The head predicts tokens.
    if name.starts_with("lm_head.") { Recognised::LeftOut } else { bert::canonical(name) }
}
