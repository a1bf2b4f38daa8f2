//! What `config.json` says of quantisation.

use serde_json::Value;

use crate::{Bits, Packing};

/// Why a configuration's quantisation is not read. Its text follows "asks for".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Another program quantised the weights, or MLX in an unknown way.
    #[error("`quantization_config` = `{0}`")]
    Other(String),
    /// A mode that is not affine.
    #[error("quantisation with the mode `{0}` (a variant of 4 or 8 bits without that mode can be read)")]
    Mode(String),
    /// A width that MLX does not pack.
    #[error("quantisation with `{0}` bits")]
    Bits(String),
    /// A group of no known size.
    #[error("quantisation with groups of `{0}`")]
    Group(String),
}

/// Bits and groups of a checkpoint's modules.
#[derive(Clone, Debug)]
pub struct Quantisation {
    settings: Value,
}

impl Quantisation {
    /// What `quantization` and `quantization_config` of a configuration say (`None` for what is absent); `None` where nothing is
    /// quantised.
    ///
    /// # Errors
    /// [`Refused::Other`] where a program other than MLX has quantised the weights.
    pub fn read(quantization: Option<&Value>, quantization_config: Option<&Value>) -> Result<Option<Self>, Refused> {
        let settings = match (quantization, quantization_config) {
            (Some(settings), _) => settings,
            // Newer versions of mlx-lm write both; what other programs write has a method.
            (None, Some(settings)) if settings.get("quant_method").is_none() && settings.get("bits").is_some() => {
                settings
            }
            (None, Some(other)) => return Err(Refused::Other(short(other))),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { settings: settings.clone() }))
    }

    /// The packing of the module that the file calls `module`, or `None` where it is said not to be quantised.
    ///
    /// # Errors
    /// Where it is packed in a way that is not known here.
    pub fn of(&self, module: &str) -> Result<Option<Packing>, Refused> {
        // The keys are MLX's own module paths; some of them have a prefix that files lack, or the other way round.
        let bare = module.strip_prefix("model.").unwrap_or(module);
        let own = [module, bare].into_iter().find_map(|name| self.settings.get(name));
        match own.or_else(|| self.settings.get(format!("model.{module}"))) {
            Some(Value::Bool(false)) => Ok(None),
            Some(own @ Value::Object(_)) => self.packing(own).map(Some),
            _ => self.packing(&self.settings).map(Some),
        }
    }

    fn packing(&self, settings: &Value) -> Result<Packing, Refused> {
        let setting = |key: &str| settings.get(key).or_else(|| self.settings.get(key));
        match setting("mode") {
            None | Some(Value::Null) => {}
            Some(Value::String(mode)) if mode == "affine" => {}
            Some(Value::String(mode)) => return Err(Refused::Mode(mode.chars().take(60).collect())),
            Some(other) => return Err(Refused::Mode(short(other))),
        }
        let shown = |key| setting(key).map_or_else(|| "?".to_owned(), short);
        let number = |key| setting(key).and_then(Value::as_u64);
        let bits = number("bits").and_then(Bits::of).ok_or_else(|| Refused::Bits(shown("bits")))?;
        let group = number("group_size").filter(|group| matches!(group, 32 | 64 | 128));
        let group = group.ok_or_else(|| Refused::Group(shown("group_size")))? as usize;
        Ok(Packing { bits, group })
    }
}

/// A value for an error message; a crafted one may be megabytes long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(settings: &Value, module: &str) -> Result<Option<Packing>, Refused> {
        Quantisation::read(Some(settings), None).expect("it is MLX's").expect("it is there").of(module)
    }

    #[test]
    fn modules_have_the_packing_of_all_unless_they_have_their_own() {
        let settings = json!({"group_size": 64, "bits": 4, "mode": "affine",
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8}, "layers.1.mlp.up_proj": {"bits": 6},
            "model.embed_tokens": false});
        let four = Packing { bits: Bits::Four, group: 64 };
        let eight = Packing { bits: Bits::Eight, group: 32 };
        assert_eq!(of(&settings, "model.layers.3.mlp.down_proj"), Ok(Some(four)));
        for name in ["model.layers.0.mlp.down_proj", "layers.0.mlp.down_proj"] {
            assert_eq!(of(&settings, name), Ok(Some(eight)), "{name}");
        }
        for name in ["model.layers.1.mlp.up_proj", "layers.1.mlp.up_proj"] {
            assert_eq!(of(&settings, name), Ok(Some(Packing { bits: Bits::Six, group: 64 })), "{name}");
        }
        assert_eq!(of(&settings, "embed_tokens"), Ok(None));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (settings, wanted) in [
            (json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}), "the mode `mxfp4`"),
            (json!({"group_size": 64, "bits": 7}), "`7` bits"),
            (json!({"group_size": 64}), "`?` bits"),
            (json!({"group_size": 16, "bits": 4}), "groups of `16`"),
            (json!({"group_size": 0, "bits": 4}), "groups of `0`"),
        ] {
            let message = of(&settings, "x").expect_err(wanted).to_string();
            assert!(message.contains(wanted), "{message}");
        }
        let other = json!({"quant_method": "gptq", "bits": 4});
        assert!(matches!(Quantisation::read(None, Some(&other)), Err(Refused::Other(_))));
        let copy = json!({"group_size": 64, "bits": 4});
        assert!(Quantisation::read(None, Some(&copy)).expect("it is MLX's").is_some());
        assert!(Quantisation::read(None, None).expect("there is none").is_none());
    }
}
