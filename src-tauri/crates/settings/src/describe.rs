//! Settings in words: the same for the command line and the panel.

use crate::settings::{BackendWish, IdleWish, ModelWish, Resolved, SdkReading, Settings, Wish};

/// One setting, for a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// What it is about.
    pub name: &'static str,
    /// What holds.
    pub value: String,
    /// Where it is written.
    pub origin: String,
}

impl Settings {
    /// All of them.
    pub fn described(&self) -> Vec<Described> {
        let yes = |yes: &bool| if *yes { "yes".to_owned() } else { "no".to_owned() };
        vec![
            row("backend", &self.backend, backend),
            row("model", &self.model, |wish| {
                wish.as_ref().map_or_else(|| "Embedbar's choice".to_owned(), ToString::to_string)
            }),
            row("precision", &self.precision, |wish| match wish {
                Wish::Auto => "what fits".to_owned(),
                Wish::Explicit(precision) => precision.to_string(),
            }),
            row("recipe", &self.recipe, ToString::to_string),
            row("idle", &self.idle, |wish| match wish {
                IdleWish::Never => "never unloaded".to_owned(),
                IdleWish::After(time) => format!("unloaded after {} min", time.as_secs() / 60),
            }),
            row("pinned", &self.pinned, yes),
            row("smaller", &self.fallback.smaller, yes),
            row("remote", &self.fallback.remote, |remote| {
                remote.as_ref().map_or_else(|| "never asked".to_owned(), |remote| remote.host().to_owned())
            }),
        ]
    }
}

fn row<T>(name: &'static str, resolved: &Resolved<T>, value: impl Fn(&T) -> String) -> Described {
    Described { name, value: value(&resolved.value), origin: resolved.origin.to_string() }
}

fn backend(wish: &BackendWish) -> String {
    match wish {
        BackendWish::Auto => "the best that is there".to_owned(),
        BackendWish::CoreMl(Wish::Auto) => "Core ML".to_owned(),
        BackendWish::CoreMl(Wish::Explicit(units)) => format!("Core ML, {units:?}"),
        BackendWish::Mlx => "an MLX checkpoint, read natively".to_owned(),
        BackendWish::Safetensors => "a checkpoint".to_owned(),
        BackendWish::Metal => "the GPU, through Metal".to_owned(),
        BackendWish::Cpu => "the processor".to_owned(),
        BackendWish::Remote(remote) => format!("the server {}", remote.host()),
        BackendWish::SdkServer => "none: the SDK embeds on its own server".to_owned(),
    }
}

impl std::fmt::Display for ModelWish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Id(id) => formatter.write_str(id),
        }
    }
}

impl SdkReading {
    /// What the Papr SDK does with the same file: the end of a sentence that begins with its name.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self { crashes_at_import: true, .. } => "cannot be imported: a number in this file is none",
            Self { on_device: false, .. } => "embeds on its server",
            Self { core_ml: true, preloads_sentence_transformers: true, .. } => {
                "runs Core ML and loads sentence-transformers (16 GB) as well"
            }
            Self { core_ml: true, .. } => "runs Core ML",
            Self { mlx: true, .. } => "tries MLX",
            _ => "loads sentence-transformers, or embeds on its server",
        }
    }
}
