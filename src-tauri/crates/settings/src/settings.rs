//! What is written means this: types in which a wrong state cannot be said, each value with the place it came from.
//!
//! Precedence: the flag of a command, the followed file, the app's own settings, the default. Within one of these places
//! `EMBEDBAR_*` wins over `PAPR_*`, whose meaning is the SDK's: Core ML before MLX before a checkpoint before its server. A
//! value that cannot be understood counts as not written and is listed as a [`Problem`]. Variables of this process's own
//! environment are compared ([`differences`]) and never applied.
//!
//! What is not here: whether a model exists or fits, and any choice that needs the machine.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use embedbar_contract::{Precision, RecipeName};
use serde::Serialize;

use crate::document::{Breakage, Document};
use crate::file::{ContentHash, EnvFile};
use crate::python;
use crate::secret::{Secret, shown};
use crate::variables::{self, Kind};
use crate::written::{Entry, Written};

/// The SDK's model for Core ML and sentence-transformers.
const SDK_MODEL: &str = "Qwen/Qwen3-Embedding-4B";
/// The SDK's model for MLX.
const SDK_MLX_MODEL: &str = "mlx-community/Qwen3-Embedding-4B-4bit-DWQ";

const IDLE_MINUTES: u64 = 30;
const REMOTE_DEADLINE_SECONDS: u64 = 10;
/// A deadline above an hour is a mistake of units.
const LONGEST_DEADLINE_SECONDS: u64 = 3600;
/// A year. More minutes than that are meant as never.
const LONGEST_IDLE_MINUTES: u64 = 525_600;

/// The places where something may be written, the strongest first.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// The flags of a command, or a choice that holds until quit.
    pub overrides: &'a Written,
    /// The followed and trusted file.
    pub file: &'a Written,
    /// The app's own settings.
    pub app: &'a Written,
    /// What relative paths in the file resolve against.
    pub folder: &'a Path,
}

/// All settings that concern the model.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// What is to run the model.
    pub backend: Resolved<BackendWish>,
    /// The model; `None` leaves it to the app.
    pub model: Resolved<Option<ModelWish>>,
    /// What its weights are stored as.
    pub precision: Resolved<Wish<Precision>>,
    /// How text becomes a vector.
    pub recipe: Resolved<RecipeName>,
    /// Whose tokenizer a Core ML package takes, which has none of its own.
    pub tokenizer: Resolved<Option<ModelWish>>,
    /// When a model that nobody asks is unloaded.
    pub idle: Resolved<IdleWish>,
    /// Whether the model stays loaded whatever the memory.
    pub pinned: Resolved<bool>,
    /// What Embedbar's own search may do when the model does not fit.
    pub fallback: Fallback,
    /// `TOKENIZERS_PARALLELISM` for the worker.
    pub tokenizers_parallel: Resolved<bool>,
    /// Sent to the Hugging Face hub and nowhere else.
    pub hub_token: Resolved<Option<Secret>>,
    /// Where the hub's library keeps what it has downloaded; `None` is its own default.
    pub hub_home: Resolved<Option<PathBuf>>,
    /// Below which the SDK keeps its Core ML packages (`papr_memory/coreml`); `None` is `~/.cache`.
    pub sdk_cache: Resolved<Option<PathBuf>>,
    /// What the SDK does with the same file.
    pub sdk: SdkReading,
    /// What could not be understood and therefore counts as not written.
    pub problems: Vec<Problem>,
}

/// A value and the place it came from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Resolved<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub origin: Origin,
}

/// Where a value is written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the app's own settings.
    App {
        /// The variable.
        variable: String,
    },
    /// In the followed file.
    File {
        /// The variable.
        variable: String,
        /// Its line.
        line: usize,
    },
    /// In a flag of a command.
    Override {
        /// The variable.
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::App { variable } => write!(formatter, "app settings (`{variable}`)"),
            Self::File { variable, line } => write!(formatter, "`.env` line {line} (`{variable}`)"),
            Self::Override { variable } => write!(formatter, "command (`{variable}`)"),
        }
    }
}

/// A choice that may be left to Embedbar.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish<T> {
    /// Embedbar chooses.
    Auto,
    /// The user has chosen; it is never overruled without a word, and automatic steps are off.
    Explicit(T),
}

/// What is to run the model.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendWish {
    /// The best that this machine has.
    Auto,
    /// Core ML, on these units.
    CoreMl(Wish<ComputeUnits>),
    /// A checkpoint in MLX's form, read natively.
    Mlx,
    /// A checkpoint as its authors publish it.
    Safetensors,
    /// The GPU, through Metal.
    Metal,
    /// The processor.
    Cpu,
    /// Another machine.
    Remote(Remote),
    /// The file tells the SDK to embed on its own server: nothing is to be loaded for it.
    SdkServer,
}

/// Where Core ML may run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ComputeUnits {
    /// Everywhere.
    All,
    /// Not on the Neural Engine.
    CpuAndGpu,
    /// Not on the GPU.
    CpuAndNe,
    /// On the processor.
    CpuOnly,
}

/// A model, by place or by name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelWish {
    /// A file or folder, absolute.
    Path(PathBuf),
    /// A name of the catalogue or of the hub.
    Id(String),
}

/// An OpenAI-compatible server.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Remote {
    url: String,
    host: String,
    /// What it wants to see.
    pub key: Option<Secret>,
    /// The model's name there.
    pub model: String,
    /// How long its vectors are to be; `None` takes what comes.
    pub dimensions: Option<NonZeroU32>,
    /// After which a request has failed.
    pub deadline: Duration,
}

impl Remote {
    /// Its address: `http` or `https`, with a host, without a password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host that a person is asked about, with the port where there is one.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// When a model that nobody asks is unloaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleWish {
    /// Never.
    Never,
    /// After this time.
    After(Duration),
}

/// What Embedbar's own search may do when the model does not fit.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fallback {
    /// Take a smaller model.
    pub smaller: Resolved<bool>,
    /// Ask another machine; only with an address and the permission.
    pub remote: Resolved<Option<Remote>>,
}

/// What the SDK does with the same file, if no variable of its process says otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers to as many questions")]
pub struct SdkReading {
    /// Whether it embeds on this machine at all.
    pub on_device: bool,
    /// Whether it tries Core ML.
    pub core_ml: bool,
    /// Whether it tries MLX where Core ML is off or fails.
    pub mlx: bool,
    /// Whether it loads sentence-transformers, 16 GB in FP32, at the start.
    pub preloads_sentence_transformers: bool,
    /// Whether importing it ends in a `ValueError`.
    pub crashes_at_import: bool,
}

/// Something that could not be understood.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// The variable.
    pub variable: String,
    /// Where it is written.
    pub origin: Origin,
    /// What is wrong, for a person.
    pub message: String,
}

/// A variable that this process has and the file does not have, or not so.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub variable: String,
    /// What the file says, as it may be shown; `None` where it says nothing.
    pub in_file: Option<String>,
    /// What the environment of this process says, as it may be shown. It is not applied.
    pub in_environment: String,
}

/// The variables of a process's environment that differ from the file. For the SDK they win over the file; for Embedbar the
/// file holds.
pub fn differences<Name, Text>(file: &Written, environment: impl IntoIterator<Item = (Name, Text)>) -> Vec<Difference>
where
    Name: AsRef<str>,
    Text: AsRef<str>,
{
    let mut differences: Vec<Difference> = environment
        .into_iter()
        .filter(|(name, _)| variables::find(name.as_ref()).is_some())
        .filter(|(name, text)| file.get(name.as_ref()).is_none_or(|entry| entry.text != text.as_ref()))
        .map(|(name, text)| Difference {
            variable: name.as_ref().to_owned(),
            in_file: file.get(name.as_ref()).map(|entry| entry.shown().to_owned()),
            in_environment: shown(name.as_ref(), text.as_ref()).to_owned(),
        })
        .collect();
    differences.sort_by(|one, other| one.variable.cmp(&other.variable));
    differences
}

impl Settings {
    /// What a file means by itself, whatever else is set.
    pub fn of_file(file: &EnvFile) -> Self {
        Self::of_document(file.document(), file.folder())
    }

    /// What a file in this folder would mean.
    pub fn of_document(document: &Document, folder: &Path) -> Self {
        let (written, nothing) = (Written::of(document), Written::default());
        resolve(Layers { overrides: &nothing, file: &written, app: &nothing, folder })
    }
}

/// What all of it means.
pub fn resolve(layers: Layers<'_>) -> Settings {
    let mut resolver = Resolver { layers, problems: Vec::new() };
    let remote = resolver.remote();
    let backend = resolver.backend(remote.as_ref());
    let settings = Settings {
        model: resolver.model(&backend),
        tokenizer: resolver.tokenizer(&backend.value),
        precision: resolver.precision(&backend.value),
        recipe: resolver.recipe(),
        idle: resolver.idle(),
        pinned: resolver.flag("EMBEDBAR_PIN", false),
        fallback: resolver.fallback(remote),
        tokenizers_parallel: resolver.tokenizers_parallel(),
        hub_token: resolver.hub_token(),
        hub_home: resolver.folder("HF_HOME"),
        sdk_cache: resolver.folder("XDG_CACHE_HOME"),
        sdk: sdk_reading(layers.file),
        backend,
        problems: Vec::new(),
    };
    resolver.problems.sort_by(|one, other| one.variable.cmp(&other.variable));
    resolver.problems.dedup();
    Settings { problems: resolver.problems, ..settings }
}

/// What the SDK does with what is written.
fn sdk_reading(file: &Written) -> SdkReading {
    let text = |name| file.get(name).map_or("", |entry| entry.text.as_str());
    let is_true = |name| python::is_true(text(name));
    let stops_preload = |name| python::is_literally_true(text(name));
    let on_device = is_true("PAPR_ONDEVICE_PROCESSING");
    SdkReading {
        on_device,
        core_ml: on_device && is_true("PAPR_ENABLE_COREML"),
        mlx: on_device && is_true("PAPR_ENABLE_MLX"),
        preloads_sentence_transformers: on_device
            && !["PAPR_ENABLE_COREML", "PAPR_ENABLE_MLX", "PAPR_DISABLE_ST_PRELOAD"].into_iter().any(stops_preload),
        crashes_at_import: file.get("PAPR_SYNC_INTERVAL").is_some_and(|entry| python::integer(&entry.text).is_none()),
    }
}

/// One of the places of [`Layers`].
#[derive(Clone, Copy)]
enum Place {
    Override,
    File,
    App,
}

const PLACES: [Place; 3] = [Place::Override, Place::File, Place::App];

struct Resolver<'a> {
    layers: Layers<'a>,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    fn written(&self, place: Place) -> &'a Written {
        match place {
            Place::Override => self.layers.overrides,
            Place::File => self.layers.file,
            Place::App => self.layers.app,
        }
    }

    fn origin(place: Place, variable: &str, entry: &Entry) -> Origin {
        let variable = variable.to_owned();
        match place {
            Place::Override => Origin::Override { variable },
            Place::File => Origin::File { variable, line: entry.line.unwrap_or_default() },
            Place::App => Origin::App { variable },
        }
    }

    /// What is written for a name in a place and can be used: not empty, and not made of other variables.
    fn entry(&mut self, place: Place, variable: &str) -> Option<(&'a str, Origin)> {
        let entry = self.written(place).get(variable)?;
        let origin = Self::origin(place, variable, entry);
        if entry.expands {
            let message = format!(
                "`{variable}` is made of other variables (`${{…}}`); Embedbar does not put them in, so it counts as not written"
            );
            self.problem(variable, origin, message);
            return None;
        }
        Some((entry.text.as_str(), origin)).filter(|(text, _)| !text.is_empty())
    }

    fn problem(&mut self, variable: &str, origin: Origin, message: String) {
        self.problems.push(Problem { variable: variable.to_owned(), origin, message });
    }

    fn misunderstood(&mut self, variable: &str, text: &str, origin: Origin, wanted: &str) {
        let shown = shown(variable, text);
        self.problem(variable, origin, format!("`{variable}={shown}` is not {wanted}; it counts as not written"));
    }

    /// The first place where a name is written so that it can be read.
    fn first<T>(&mut self, variable: &str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Option<Resolved<T>> {
        for place in PLACES {
            if let Some((text, origin)) = self.entry(place, variable) {
                if let Some(value) = read(text) {
                    return Some(Resolved { value, origin });
                }
                self.misunderstood(variable, text, origin, wanted);
            }
        }
        None
    }

    /// The flags of Embedbar are the SDK's kind, but a word that is neither true nor false is asked about.
    fn flag(&mut self, variable: &str, default: bool) -> Resolved<bool> {
        let read = |text: &str| {
            if python::is_true(text) { Some(true) } else { python::is_false(text).then_some(false) }
        };
        self.first(variable, "`true` or `false`", read).unwrap_or(by_default(default))
    }

    fn number(&mut self, variable: &str, wanted: &str, range: std::ops::RangeInclusive<u64>) -> Option<Resolved<u64>> {
        self.first(variable, wanted, |text| {
            python::integer(text).and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number))
        })
    }

    fn backend(&mut self, remote: Option<&Resolved<Remote>>) -> Resolved<BackendWish> {
        for place in PLACES {
            if let Some((text, origin)) = self.entry(place, "EMBEDBAR_BACKEND") {
                let value = match text.to_lowercase().as_str() {
                    "auto" => Some(BackendWish::Auto),
                    "coreml" => Some(BackendWish::CoreMl(self.compute_units(place))),
                    "metal" => Some(BackendWish::Metal),
                    "cpu" => Some(BackendWish::Cpu),
                    "remote" => {
                        if remote.is_none() {
                            let message = "`EMBEDBAR_BACKEND=remote` needs `EMBEDBAR_REMOTE_URL` and `EMBEDBAR_REMOTE_MODEL`; \
                                           it counts as not written";
                            self.problem("EMBEDBAR_BACKEND", origin.clone(), message.to_owned());
                        }
                        remote.map(|remote| BackendWish::Remote(remote.value.clone()))
                    }
                    _ => {
                        let wanted = "one of `auto`, `coreml`, `metal`, `cpu`, `remote`";
                        self.misunderstood("EMBEDBAR_BACKEND", text, origin.clone(), wanted);
                        None
                    }
                };
                if let Some(value) = value {
                    return Resolved { value, origin };
                }
            }
            if let Some(backend) = self.sdk_backend(place) {
                return backend;
            }
        }
        by_default(BackendWish::Auto)
    }

    /// What the SDK's variables in one place ask for: Core ML, else MLX, else a checkpoint, else its server.
    fn sdk_backend(&mut self, place: Place) -> Option<Resolved<BackendWish>> {
        let written = self.written(place);
        let on_device = written
            .get("PAPR_ONDEVICE_PROCESSING")
            .filter(|entry| !entry.expands)
            .map(|entry| (python::is_true(&entry.text), entry));
        if let Some((false, entry)) = on_device {
            let origin = Self::origin(place, "PAPR_ONDEVICE_PROCESSING", entry);
            return Some(Resolved { value: BackendWish::SdkServer, origin });
        }
        for (variable, core_ml) in [("PAPR_ENABLE_COREML", true), ("PAPR_ENABLE_MLX", false)] {
            if let Some((text, origin)) = self.entry(place, variable)
                && python::is_true(text)
            {
                let value = if core_ml { BackendWish::CoreMl(self.compute_units(place)) } else { BackendWish::Mlx };
                return Some(Resolved { value, origin });
            }
        }
        if let Some((_, origin)) = self.entry(place, "PAPR_EMBEDDING_MODEL") {
            return Some(Resolved { value: BackendWish::Safetensors, origin });
        }
        let (_, entry) = on_device?;
        let origin = Self::origin(place, "PAPR_ONDEVICE_PROCESSING", entry);
        Some(Resolved { value: BackendWish::Safetensors, origin })
    }

    /// Unknown words are the branch's default, as the branch has it; the release says `ALL` and reads nothing.
    fn compute_units(&mut self, place: Place) -> Wish<ComputeUnits> {
        match self.entry(place, "PAPR_COREML_COMPUTE_UNITS").map(|(text, _)| text) {
            None => Wish::Auto,
            Some("ALL") => Wish::Explicit(ComputeUnits::All),
            Some("CPU_AND_GPU") => Wish::Explicit(ComputeUnits::CpuAndGpu),
            Some("CPU_ONLY") => Wish::Explicit(ComputeUnits::CpuOnly),
            Some(_) => Wish::Explicit(ComputeUnits::CpuAndNe),
        }
    }

    fn model(&mut self, backend: &Resolved<BackendWish>) -> Resolved<Option<ModelWish>> {
        for place in PLACES {
            if let Some((text, origin)) = self.entry(place, "EMBEDBAR_MODEL") {
                return Resolved { value: Some(self.model_wish(text)), origin };
            }
            let (variable, is_path) = match &backend.value {
                BackendWish::CoreMl(_) => ("PAPR_COREML_MODEL", true),
                BackendWish::Mlx | BackendWish::Safetensors | BackendWish::Metal | BackendWish::Cpu => {
                    ("PAPR_EMBEDDING_MODEL", false)
                }
                BackendWish::Auto | BackendWish::Remote(_) | BackendWish::SdkServer => continue,
            };
            if let Some((text, origin)) = self.entry(place, variable) {
                let model = if is_path { ModelWish::Path(self.absolute(text)) } else { self.model_wish(text) };
                return Resolved { value: Some(model), origin };
            }
        }
        // The SDK's own default holds where it was the SDK's variable that chose the backend.
        let sdk_chose = match &backend.origin {
            Origin::Default => false,
            Origin::App { variable } | Origin::File { variable, .. } | Origin::Override { variable } => {
                variable.starts_with("PAPR_")
            }
        };
        by_default(match &backend.value {
            BackendWish::CoreMl(_) | BackendWish::Safetensors if sdk_chose => Some(ModelWish::Id(SDK_MODEL.to_owned())),
            BackendWish::Mlx => Some(ModelWish::Id(SDK_MLX_MODEL.to_owned())),
            _ => None,
        })
    }

    fn tokenizer(&mut self, backend: &BackendWish) -> Resolved<Option<ModelWish>> {
        if !matches!(backend, BackendWish::CoreMl(_)) {
            return by_default(None);
        }
        for place in PLACES {
            if let Some((text, origin)) = self.entry(place, "PAPR_EMBEDDING_MODEL") {
                return Resolved { value: Some(self.model_wish(text)), origin };
            }
        }
        by_default(None)
    }

    fn model_wish(&self, text: &str) -> ModelWish {
        if looks_like_a_path(text) { ModelWish::Path(self.absolute(text)) } else { ModelWish::Id(text.to_owned()) }
    }

    fn absolute(&self, text: &str) -> PathBuf {
        absolute(self.layers.folder, text)
    }

    fn precision(&mut self, backend: &BackendWish) -> Resolved<Wish<Precision>> {
        for place in PLACES {
            if let Some((text, origin)) = self.entry(place, "EMBEDBAR_PRECISION") {
                let value = match text.to_lowercase().as_str() {
                    "auto" => Some(Wish::Auto),
                    word => Precision::of_word(word).map(Wish::Explicit),
                };
                if let Some(value) = value {
                    return Resolved { value, origin };
                }
                let wanted = "one of `auto`, `fp32`, `fp16`, `int8`, `4bit`";
                self.misunderstood("EMBEDBAR_PRECISION", text, origin, wanted);
            }
            // It chooses among the SDK's own packages, so it says nothing about one that is named.
            let variant = match backend {
                BackendWish::CoreMl(_) if self.entry(place, "PAPR_COREML_MODEL").is_none() => {
                    self.entry(place, "PAPR_COREML_VARIANT")
                }
                _ => None,
            };
            if let Some((text, origin)) = variant {
                let precision = if text.to_lowercase() == "int8" { Precision::Int8 } else { Precision::Fp16 };
                return Resolved { value: Wish::Explicit(precision), origin };
            }
        }
        by_default(Wish::Auto)
    }

    fn recipe(&mut self) -> Resolved<RecipeName> {
        let read = |text: &str| match text.to_lowercase().as_str() {
            "native" => Some(RecipeName::Native),
            "papr" => Some(RecipeName::Papr),
            _ => None,
        };
        self.first("EMBEDBAR_RECIPE", "`native` or `papr`", read).unwrap_or(by_default(RecipeName::Native))
    }

    fn idle(&mut self) -> Resolved<IdleWish> {
        let minutes =
            self.number("EMBEDBAR_IDLE_MINUTES", "a whole number of minutes up to a year", 0..=LONGEST_IDLE_MINUTES);
        let Resolved { value, origin } = minutes.unwrap_or(by_default(IDLE_MINUTES));
        let value = if value == 0 { IdleWish::Never } else { IdleWish::After(Duration::from_secs(value * 60)) };
        Resolved { value, origin }
    }

    fn tokenizers_parallel(&mut self) -> Resolved<bool> {
        self.first("TOKENIZERS_PARALLELISM", "", |text| Some(python::is_true_for_tokenizers(text)))
            .unwrap_or(by_default(false))
    }

    fn hub_token(&mut self) -> Resolved<Option<Secret>> {
        for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(token) = self.first(variable, "", |text| Some(Secret::new(text))) {
                return Resolved { value: Some(token.value), origin: token.origin };
            }
        }
        by_default(None)
    }

    fn folder(&mut self, variable: &str) -> Resolved<Option<PathBuf>> {
        let folder = self.layers.folder;
        // The hub's library expands `~`, the SDK does not; neither is imitated.
        let read = |text: &str| (!text.starts_with('~')).then(|| absolute(folder, text));
        match self.first(variable, "a whole path", read) {
            Some(found) => Resolved { value: Some(found.value), origin: found.origin },
            None => by_default(None),
        }
    }

    /// The server that is described, whether or not it may be used.
    fn remote(&mut self) -> Option<Resolved<Remote>> {
        let wanted = "an address such as `https://host/v1/embeddings`, without a password";
        let url =
            self.first("EMBEDBAR_REMOTE_URL", wanted, |text| host_of(text).map(|host| (text.to_owned(), host)))?;
        let model = self.first("EMBEDBAR_REMOTE_MODEL", "", |text| Some(text.to_owned()));
        let Some(model) = model else {
            let message = "`EMBEDBAR_REMOTE_URL` needs `EMBEDBAR_REMOTE_MODEL`; it counts as not written".to_owned();
            self.problem("EMBEDBAR_REMOTE_URL", url.origin, message);
            return None;
        };
        // Only to the address beside which it is written: a file must not make the app send its own key elsewhere.
        let key = self.first("EMBEDBAR_REMOTE_KEY", "", |text| Some(Secret::new(text)));
        let key = key.filter(|key| same_place(&key.origin, &url.origin)).map(|key| key.value);
        let dimensions = self.number("EMBEDBAR_REMOTE_DIMENSIONS", "a number of dimensions from 1 to 65536", 1..=65536);
        let deadline = self
            .number(
                "EMBEDBAR_REMOTE_DEADLINE_SECONDS",
                "a number of seconds from 1 to 3600",
                1..=LONGEST_DEADLINE_SECONDS,
            )
            .map_or(REMOTE_DEADLINE_SECONDS, |seconds| seconds.value);
        let (address, host) = url.value;
        let remote = Remote {
            url: address,
            host,
            key,
            model: model.value,
            dimensions: dimensions.and_then(|it| NonZeroU32::new(it.value as u32)),
            deadline: Duration::from_secs(deadline),
        };
        Some(Resolved { value: remote, origin: url.origin })
    }

    fn fallback(&mut self, remote: Option<Resolved<Remote>>) -> Fallback {
        let smaller = self.flag("EMBEDBAR_ALLOW_SMALLER", false);
        let allowed = self.flag("EMBEDBAR_ALLOW_REMOTE", false);
        let remote = match remote {
            Some(remote) if allowed.value => Some(remote.value),
            None if allowed.value => {
                let message =
                    "`EMBEDBAR_ALLOW_REMOTE` needs `EMBEDBAR_REMOTE_URL` and `EMBEDBAR_REMOTE_MODEL`".to_owned();
                self.problem("EMBEDBAR_ALLOW_REMOTE", allowed.origin.clone(), message);
                None
            }
            _ => None,
        };
        Fallback { smaller, remote: Resolved { value: remote, origin: allowed.origin } }
    }
}

fn same_place(one: &Origin, other: &Origin) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn by_default<T>(value: T) -> Resolved<T> {
    Resolved { value, origin: Origin::Default }
}

/// Whether a model is named by its place.
pub(crate) fn looks_like_a_path(text: &str) -> bool {
    ["/", "./", "../", "~"].into_iter().any(|start| text.starts_with(start))
        || [".mlpackage", ".mlmodelc", ".gguf", ".safetensors"]
            .into_iter()
            .any(|end| text.trim_end_matches('/').ends_with(end))
}

/// A path as the file's folder makes it absolute. Like Python, it does not know `~`.
pub(crate) fn absolute(folder: &Path, text: &str) -> PathBuf {
    // Components leave out `.`, which would only make two names of one place.
    folder.join(text).components().collect()
}

/// The host of an address, with its port; `None` where the address is not one that may be used.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    if url.chars().any(|character| character.is_control() || python::is_space(character) || character == '\\') {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    let named = !host.is_empty() || authority.starts_with('[');
    (named && !authority.contains('@')).then(|| authority.to_lowercase())
}

/// The settings that were good last, and what a new state of the file makes of them.
///
/// A file that Python would not load, or with a value that cannot be understood, changes nothing: what was good stays.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    settings: Option<Settings>,
    written: Written,
    hash: Option<ContentHash>,
}

/// What a new state of the file has led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Offered {
    /// These settings hold now.
    Taken(Box<Settings>),
    /// It means what held before.
    Same,
    /// What held before goes on to hold, for these reasons. Each is a sentence.
    Kept(Vec<String>),
}

impl LastGood {
    /// The settings that hold.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// What the file said when it was good last.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// The content that was good last.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// A new state of the file. The first one is taken as it is, unless Python would not load it at all: what cannot be
    /// understood in it counts as not written.
    pub fn offer(&mut self, file: &EnvFile, overrides: &Written, app: &Written) -> Offered {
        if let Some(breakage) = file.document().breakage()
            && (self.settings.is_some() || !matches!(breakage, Breakage::UnfinishedQuote { .. }))
        {
            return Offered::Kept(vec![breakage.to_string()]);
        }
        let written = Written::of(file.document());
        let settings = resolve(Layers { overrides, file: &written, app, folder: file.folder() });
        let reasons: Vec<String> = settings
            .problems
            .iter()
            .filter_map(|problem| match &problem.origin {
                Origin::File { line, .. } => Some(format!("line {line}: {}", problem.message)),
                _ => None,
            })
            .collect();
        if self.settings.is_some() && !reasons.is_empty() {
            return Offered::Kept(reasons);
        }
        self.written = written;
        self.hash = Some(file.hash());
        if self.settings.as_ref().is_some_and(|before| same_meaning(before, &settings)) {
            self.settings = Some(settings);
            return Offered::Same;
        }
        self.settings = Some(settings.clone());
        Offered::Taken(Box::new(settings))
    }
}

/// Whether two settings differ at most in the places that their values came from.
fn same_meaning(one: &Settings, other: &Settings) -> bool {
    one.backend.value == other.backend.value
        && one.model.value == other.model.value
        && one.precision.value == other.precision.value
        && one.recipe.value == other.recipe.value
        && one.tokenizer.value == other.tokenizer.value
        && one.idle.value == other.idle.value
        && one.pinned.value == other.pinned.value
        && one.fallback.smaller.value == other.fallback.smaller.value
        && one.fallback.remote.value == other.fallback.remote.value
        && one.tokenizers_parallel.value == other.tokenizers_parallel.value
        && one.hub_token.value == other.hub_token.value
        && one.hub_home.value == other.hub_home.value
        && one.sdk_cache.value == other.sdk_cache.value
        && one.sdk == other.sdk
        && one.problems == other.problems
}

/// Whether a word is one that a choice knows.
pub(crate) fn is_among(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Choice { words, any_case: true, .. } => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
        Kind::Choice { words, .. } => words.contains(&text),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Settings {
        let (file, nothing) = (Written::of(&Document::parse(text)), Written::default());
        resolve(Layers { overrides: &nothing, file: &file, app: &nothing, folder: Path::new("/project") })
    }

    fn line(variable: &str, line: usize) -> Origin {
        Origin::File { variable: variable.to_owned(), line }
    }

    #[test]
    fn core_ml_wins_over_mlx_wins_over_a_checkpoint_wins_over_the_server() {
        let all = "PAPR_ONDEVICE_PROCESSING=1\nPAPR_EMBEDDING_MODEL=a/b\nPAPR_ENABLE_MLX=yes\nPAPR_ENABLE_COREML=on\n";
        assert_eq!(of(all).backend.value, BackendWish::CoreMl(Wish::Auto));
        assert_eq!(of(all).backend.origin, line("PAPR_ENABLE_COREML", 4));
        assert_eq!(of(&all.replace("=on", "=off")).backend.value, BackendWish::Mlx);
        let checkpoint = of(&all.replace("=on", "=off").replace("=yes", "=no"));
        assert_eq!(checkpoint.backend.value, BackendWish::Safetensors);
        assert_eq!(checkpoint.model.value, Some(ModelWish::Id("a/b".to_owned())));
        assert_eq!(of(&all.replace("PROCESSING=1", "PROCESSING=0")).backend.value, BackendWish::SdkServer);
        assert_eq!(of("").backend, by_default(BackendWish::Auto));
    }

    #[test]
    fn one_name_has_three_meanings() {
        let core_ml = of("PAPR_ENABLE_COREML=true\nPAPR_EMBEDDING_MODEL=a/b\nPAPR_COREML_MODEL=./x.mlpackage\n");
        assert_eq!(core_ml.model.value, Some(ModelWish::Path("/project/x.mlpackage".into())));
        assert_eq!(core_ml.tokenizer.value, Some(ModelWish::Id("a/b".to_owned())));
        let mlx = of("PAPR_ENABLE_MLX=true\nPAPR_EMBEDDING_MODEL=a/b\nPAPR_COREML_MODEL=./x.mlpackage\n");
        assert_eq!(mlx.model.value, Some(ModelWish::Id("a/b".to_owned())));
        assert_eq!(mlx.tokenizer.value, None);
        assert_eq!(of("PAPR_ENABLE_MLX=true\n").model.value, Some(ModelWish::Id(SDK_MLX_MODEL.to_owned())));
        assert_eq!(of("PAPR_ENABLE_COREML=true\n").model.value, Some(ModelWish::Id(SDK_MODEL.to_owned())));
        assert_eq!(of("EMBEDBAR_BACKEND=coreml\n").model.value, None);
    }

    #[test]
    fn a_stronger_place_wins_also_over_another_variable_of_a_weaker_one() {
        let file = Written::of(&Document::parse("PAPR_ENABLE_COREML=true\nEMBEDBAR_IDLE_MINUTES=5\n"));
        let app =
            Written::from_pairs([("EMBEDBAR_BACKEND", "cpu"), ("EMBEDBAR_PRECISION", "int8"), ("EMBEDBAR_PIN", "1")]);
        let flags = Written::from_pairs([("EMBEDBAR_IDLE_MINUTES", "0")]);
        let settings = resolve(Layers { overrides: &flags, file: &file, app: &app, folder: Path::new("/") });
        assert_eq!(
            settings.backend.value,
            BackendWish::CoreMl(Wish::Auto),
            "the file's, though the app says otherwise"
        );
        assert_eq!(settings.precision.value, Wish::Explicit(Precision::Int8));
        assert_eq!(settings.precision.origin, Origin::App { variable: "EMBEDBAR_PRECISION".to_owned() });
        assert_eq!(settings.idle.value, IdleWish::Never);
        assert_eq!(settings.idle.origin, Origin::Override { variable: "EMBEDBAR_IDLE_MINUTES".to_owned() });
        assert!(settings.pinned.value);
    }

    #[test]
    fn a_variant_is_a_precision_unless_a_package_is_named() {
        let precision = |text| of(text).precision.value;
        assert_eq!(precision("PAPR_ENABLE_COREML=1\nPAPR_COREML_VARIANT=INT8\n"), Wish::Explicit(Precision::Int8));
        assert_eq!(precision("PAPR_ENABLE_COREML=1\nPAPR_COREML_VARIANT=int4\n"), Wish::Explicit(Precision::Fp16));
        assert_eq!(precision("PAPR_ENABLE_COREML=1\nPAPR_COREML_VARIANT=int8\nPAPR_COREML_MODEL=x\n"), Wish::Auto);
        assert_eq!(precision("PAPR_COREML_VARIANT=int8\n"), Wish::Auto, "Core ML is off");
        let both = "PAPR_ENABLE_COREML=1\nPAPR_COREML_VARIANT=int8\nEMBEDBAR_PRECISION=4bit\n";
        assert_eq!(precision(both), Wish::Explicit(Precision::FourBit));
    }

    #[test]
    fn what_cannot_be_understood_counts_as_not_written_and_says_so() {
        let settings =
            of("EMBEDBAR_PRECISION=int9\nEMBEDBAR_IDLE_MINUTES=-5\nEMBEDBAR_PIN=maybe\nEMBEDBAR_BACKEND=ane\n\
                           EMBEDBAR_MODEL=${HOME}/x\n");
        assert_eq!(settings.precision.value, Wish::Auto);
        assert_eq!(settings.idle.value, IdleWish::After(Duration::from_mins(30)));
        assert!(!settings.pinned.value);
        assert_eq!(settings.model.value, None);
        let names: Vec<_> = settings.problems.iter().map(|problem| problem.variable.as_str()).collect();
        assert_eq!(
            names,
            ["EMBEDBAR_BACKEND", "EMBEDBAR_IDLE_MINUTES", "EMBEDBAR_MODEL", "EMBEDBAR_PIN", "EMBEDBAR_PRECISION"]
        );
        assert_eq!(settings.problems[4].origin, line("EMBEDBAR_PRECISION", 1));
        assert!(settings.problems[4].message.contains("int9"), "{}", settings.problems[4].message);
    }

    #[test]
    fn another_machine_is_asked_only_where_everything_is_said() {
        let server = "EMBEDBAR_REMOTE_URL=https://Example.org:8443/v1/embeddings\nEMBEDBAR_REMOTE_MODEL=m\n\
                      EMBEDBAR_REMOTE_KEY=hunter2\nEMBEDBAR_REMOTE_DIMENSIONS=512\n";
        assert_eq!(of(server).backend.value, BackendWish::Auto);
        assert_eq!(of(server).fallback.remote.value, None, "described is not allowed");
        let settings = of(&format!("{server}EMBEDBAR_BACKEND=remote\n"));
        let BackendWish::Remote(remote) = &settings.backend.value else { panic!("{:?}", settings.backend) };
        assert_eq!((remote.host(), remote.model.as_str()), ("example.org:8443", "m"));
        assert_eq!(remote.dimensions, NonZeroU32::new(512));
        let dump = format!("{settings:?}{}", serde_json::to_string(&settings).expect("it is plain data"));
        assert!(!dump.contains("hunter2"), "{dump}");
        assert!(of(&format!("{server}EMBEDBAR_ALLOW_REMOTE=1\n")).fallback.remote.value.is_some());
        let without = of("EMBEDBAR_BACKEND=remote\nEMBEDBAR_ALLOW_REMOTE=1\n");
        assert_eq!(without.backend.value, BackendWish::Auto);
        assert_eq!(without.problems.len(), 2);
        for url in ["ftp://x/", "https://", "https://u:p@x/", "x", "https://x y/", "https:///v1", "http://:80/"] {
            assert_eq!(host_of(url), None, "{url}");
        }
        assert_eq!(host_of("http://[::1]:80/v1").as_deref(), Some("[::1]:80"));
    }

    #[test]
    fn a_key_goes_only_to_the_address_beside_which_it_is_written() {
        let server = "EMBEDBAR_REMOTE_URL=https://elsewhere/v1\nEMBEDBAR_REMOTE_MODEL=m\nEMBEDBAR_BACKEND=remote\n";
        let file = Written::of(&Document::parse(server));
        let app = Written::from_pairs([("EMBEDBAR_REMOTE_KEY", "hunter2")]);
        let nothing = Written::default();
        let settings = resolve(Layers { overrides: &nothing, file: &file, app: &app, folder: Path::new("/") });
        let BackendWish::Remote(remote) = settings.backend.value else { panic!("it is described") };
        assert_eq!(remote.key, None);
    }

    #[test]
    fn the_sdk_loads_16_gb_where_only_true_would_have_kept_it_from_it() {
        let sdk = |text: &str| of(&format!("PAPR_ONDEVICE_PROCESSING=true\n{text}\n")).sdk;
        assert!(sdk("PAPR_ENABLE_COREML=1").preloads_sentence_transformers);
        assert!(!sdk("PAPR_ENABLE_COREML=TRUE").preloads_sentence_transformers);
        assert!(sdk("PAPR_DISABLE_ST_PRELOAD=1").preloads_sentence_transformers);
        assert!(!sdk("PAPR_DISABLE_ST_PRELOAD=true").preloads_sentence_transformers);
        assert!(sdk("PAPR_SYNC_INTERVAL=5m").crashes_at_import);
        assert!(sdk("PAPR_SYNC_INTERVAL=").crashes_at_import, "int(\"\") is no number");
        assert!(!of("PAPR_ENABLE_COREML=1\n").sdk.core_ml, "nothing is done on this machine");
    }

    #[test]
    fn the_hub_and_the_caches() {
        let settings = of("HUGGING_FACE_HUB_TOKEN=old\nHF_TOKEN=new\nHF_HOME=./hub\nXDG_CACHE_HOME=~/caches\n");
        assert_eq!(settings.hub_token, Resolved { value: Some(Secret::new("new")), origin: line("HF_TOKEN", 2) });
        assert_eq!(settings.hub_home.value, Some("/project/hub".into()));
        assert_eq!(settings.sdk_cache.value, None);
        assert_eq!(settings.problems.len(), 1);
    }

    #[test]
    fn the_environment_is_compared_and_not_applied() {
        let file = Written::of(&Document::parse("PAPR_ENABLE_COREML=true\nHF_TOKEN=one\nPAPR_COREML_VARIANT=int8\n"));
        let environment =
            [("PAPR_COREML_VARIANT", "int8"), ("PAPR_ENABLE_MLX", "true"), ("HF_TOKEN", "hunter2"), ("PATH", "/bin")];
        let found = differences(&file, environment);
        let names: Vec<_> = found.iter().map(|difference| difference.variable.as_str()).collect();
        assert_eq!(names, ["HF_TOKEN", "PAPR_ENABLE_MLX"]);
        assert_eq!(found[0].in_environment, "(secret)");
        assert_eq!((found[1].in_file.as_deref(), found[1].in_environment.as_str()), (None, "true"));
    }
}
