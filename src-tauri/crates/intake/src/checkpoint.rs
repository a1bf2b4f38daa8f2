//! A checkpoint as transformers or MLX writes it: `config.json`, weights in safetensors, one file or many, and the files beside
//! them that say how text becomes tokens and states become a vector.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::BufReader;

use serde_json::Value;

use crate::folder::Folder;
use crate::recognise::{Model, Scope};
use crate::safetensors_header::{self, Header};
use crate::{IntakeError, Kind, Summary, Watch, files, json, names, tokenizer};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";
/// Files of one checkpoint at most.
const SHARDS: usize = 512;

/// Files beside the weights that are taken where they are there.
const COMPANIONS: &[&str] = &[
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// Settings that size something: names that they go by, and the least and most that they can be.
const BOUNDS: &[(&[&str], u64, u64)] = &[
    (&["num_hidden_layers", "n_layer", "n_layers", "num_layers"], 1, 512),
    (&["hidden_size", "n_embd", "d_model", "dim"], 1, 1 << 16),
    (&["vocab_size"], 1, 4_000_000),
    (&["max_position_embeddings", "n_positions"], 1, 1 << 24),
    (&["num_attention_heads", "n_head", "n_heads"], 1, 1024),
    (&["num_key_value_heads"], 1, 1024),
    (&["intermediate_size", "n_inner"], 1, 1 << 20),
    (&["head_dim"], 1, 1 << 14),
    (&["type_vocab_size"], 0, 1 << 16),
];

/// Weights that make this folder a checkpoint, those of an adapter not counted.
pub(crate) fn weights_of(folder: &Folder) -> Vec<&str> {
    folder.with_extension("safetensors").into_iter().filter(|name| *name != ADAPTER).collect()
}

/// Reads the checkpoint in `folder`; `chosen` is the file of weights that was dropped, if one was.
pub(crate) fn read(
    folder: &Folder,
    chosen: Option<&str>,
    scope: Scope,
    watch: &dyn Watch,
) -> Result<Model, IntakeError> {
    if chosen == Some(ADAPTER) {
        return Err(adapter(folder, ADAPTER));
    }
    let config = config(folder)?;
    let mut model = Model::new(Kind::Checkpoint);
    model.take(folder, "config.json", "config.json")?;
    model.summary = summary(folder, &config)?;
    if config.get("auto_map").is_some_and(|it| !it.is_null()) {
        model.notes.push("`config.json` asks for code of its own (`auto_map`), which is never run".to_owned());
    }
    let quantised = Quantised::read(folder, &config)?;
    if quantised.is_some() {
        model.kind = Kind::MlxCheckpoint;
    } else if let Some(method) = config.get("quantization_config").and_then(|it| it.get("quant_method")) {
        let method = names::shown(method.as_str().unwrap_or("something"));
        model.notes.push(format!("its weights are quantised by `{method}`"));
    }
    take_weights(&mut model, folder, chosen, quantised.as_ref(), watch)?;
    take_tokenizer(&mut model, folder)?;
    take_companions(&mut model, folder)?;
    if scope == Scope::Whole {
        model.take_papers(folder)?;
        model.note_leftovers(folder);
    } else {
        model.licence = folder.licence();
    }
    Ok(model)
}

fn adapter(folder: &Folder, file: &str) -> IntakeError {
    IntakeError::Partial { path: folder.path.join(file), what: "an adapter (LoRA)" }
}

/// A JSON file of the folder, bounded and parsed.
fn json_file(folder: &Folder, name: &str) -> Result<Value, IntakeError> {
    let (path, _) = folder.needed(name)?;
    json::parse(&files::read(&path, json::LIMIT)?).map_err(IntakeError::format(&path))
}

fn config(folder: &Folder) -> Result<Value, IntakeError> {
    match folder.needed("config.json") {
        Err(IntakeError::Missing { folder, file, .. }) => {
            let instead = Some("without it nobody can say what its weights are".to_owned());
            Err(IntakeError::Missing { folder, file, instead })
        }
        Err(error) => Err(error),
        Ok(_) => {
            let config = json_file(folder, "config.json")?;
            if config.is_object() { Ok(config) } else { Err(damaged(folder, "config.json", "it is a list")) }
        }
    }
}

fn damaged(folder: &Folder, name: &str, problem: impl Into<String>) -> IntakeError {
    IntakeError::damaged(&folder.path.join(name), problem)
}

/// What `config.json` says, if no number of it is absurd.
fn summary(folder: &Folder, config: &Value) -> Result<Summary, IntakeError> {
    let mut numbers = BTreeMap::new();
    for (aliases, least, most) in BOUNDS {
        // A model that also sees has its encoder of texts in a part of its own.
        let places = [Some(config), config.get("text_config")];
        for name in *aliases {
            for value in places.iter().flatten().filter_map(|place| place.get(name)).filter(|value| !value.is_null()) {
                // Some have a number for each block.
                if value.is_array() {
                    continue;
                }
                let Some(number) = value.as_u64().filter(|number| (*least..=*most).contains(number)) else {
                    let shown = names::shown(&value.to_string());
                    return Err(damaged(folder, "config.json", format!("`{name}` is `{shown}`")));
                };
                numbers.entry(aliases[0]).or_insert(number);
            }
        }
    }
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(names::shown);
    let architecture =
        text(config.get("model_type")).or_else(|| text(config.get("architectures").and_then(|it| it.get(0))));
    let number = |name: &str| numbers.get(name).copied();
    Ok(Summary {
        architecture,
        layers: number("num_hidden_layers"),
        hidden: number("hidden_size"),
        vocabulary: number("vocab_size"),
        max_positions: number("max_position_embeddings"),
        ..Summary::default()
    })
}

/// How MLX has quantised the weights.
struct Quantised<'a> {
    bits: u64,
    groups: u64,
    mode: String,
    /// `quantization` itself, in which modules that differ are named.
    settings: &'a Value,
}

impl<'a> Quantised<'a> {
    fn read(folder: &Folder, config: &'a Value) -> Result<Option<Self>, IntakeError> {
        let Some(settings) = config.get("quantization").filter(|it| it.is_object()) else { return Ok(None) };
        let number = |name: &str| settings.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (bits, groups) = (number("bits"), number("group_size"));
        if ![2, 3, 4, 5, 6, 8].contains(&bits) || ![16, 32, 64, 128].contains(&groups) {
            return Err(damaged(folder, "config.json", format!("it has `{bits}` bits in groups of `{groups}`")));
        }
        let mode = settings.get("mode").and_then(Value::as_str).map_or_else(|| "affine".to_owned(), names::shown);
        Ok(Some(Self { bits, groups, mode, settings }))
    }

    fn bits_of(&self, module: &str) -> u64 {
        let own = self.settings.get(module).and_then(|it| it.get("bits")).and_then(Value::as_u64);
        own.filter(|bits| [2, 3, 4, 5, 6, 8].contains(bits)).unwrap_or(self.bits)
    }

    fn sentence(&self) -> String {
        let mode = if self.mode == "affine" { String::new() } else { format!(" {}", self.mode) };
        format!("MLX {}-bit{mode}, groups of {}", self.bits, self.groups)
    }
}

/// The files of weights, and the name that each gets.
fn weights(folder: &Folder, chosen: Option<&str>) -> Result<Vec<(String, String)>, IntakeError> {
    let as_single = |name: &str| Ok(vec![(name.to_owned(), SINGLE.to_owned())]);
    if let Some(name) = chosen.filter(|name| !is_shard(name)) {
        return as_single(name);
    }
    if chosen.is_none() && folder.has(SINGLE) {
        return as_single(SINGLE);
    }
    let all = weights_of(folder);
    if !folder.has(INDEX) {
        return match all.as_slice() {
            [one] if !is_shard(one) => as_single(one),
            _ => Err(IntakeError::Missing {
                folder: folder.path.clone(),
                file: INDEX.to_owned(),
                instead: Some(format!("there are `{}` files of weights, and it says which belong together", all.len())),
            }),
        };
    }
    let shards: BTreeSet<String> = index(folder)?.into_iter().map(|(_, file)| file).collect();
    if let Some(chosen) = chosen.filter(|name| !shards.contains(*name)) {
        return Err(damaged(folder, INDEX, format!("it does not name `{}`", names::shown(chosen))));
    }
    Ok(shards.into_iter().map(|name| (name.clone(), name)).collect())
}

/// `…-00001-of-00003.safetensors`
fn is_shard(name: &str) -> bool {
    names::is_part(name, "safetensors")
}

/// Which tensor is in which file.
fn index(folder: &Folder) -> Result<Vec<(String, String)>, IntakeError> {
    let index = json_file(folder, INDEX)?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| damaged(folder, INDEX, "it has no `weight_map`"))?;
    let mut found = Vec::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        if !names::is_plain(file) || names::extension(file) != "safetensors" {
            let problem = format!("it names `{}`, which is no safetensors file beside it", names::shown(file));
            return Err(damaged(folder, INDEX, problem));
        }
        found.push((tensor.clone(), file.to_owned()));
    }
    let count = found.iter().map(|(_, file)| file).collect::<HashSet<_>>().len();
    if count == 0 || count > SHARDS {
        return Err(damaged(folder, INDEX, format!("it names `{count}` files")));
    }
    Ok(found)
}

fn take_weights(
    model: &mut Model,
    folder: &Folder,
    chosen: Option<&str>,
    quantised: Option<&Quantised<'_>>,
    watch: &dyn Watch,
) -> Result<(), IntakeError> {
    let weights = weights(folder, chosen)?;
    let sharded = weights.len() > 1 || weights.iter().any(|(_, to)| to != SINGLE);
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut tensors = Vec::new();
    for (number, (from, to)) in weights.iter().enumerate() {
        watch.progress("checking", from, number as u64, weights.len() as u64);
        if watch.cancelled() {
            return Err(IntakeError::Cancelled);
        }
        for tensor in header(folder, from)?.tensors {
            if let Some(other) = holders.insert(tensor.name.clone(), from.clone()) {
                let problem = format!("its tensor `{}` is in `{other}` too", names::shown(&tensor.name));
                return Err(damaged(folder, from, problem));
            }
            tensors.push(tensor);
        }
        model.take(folder, from, to)?;
    }
    if tensors.iter().any(|tensor| tensor.name.contains(".lora_A.")) {
        return Err(adapter(folder, &weights[0].0));
    }
    if sharded {
        for (tensor, file) in index(folder)? {
            if holders.get(&tensor) != Some(&file) {
                let problem = format!("the tensor `{}` is not in `{file}`", names::shown(&tensor));
                return Err(damaged(folder, INDEX, problem));
            }
        }
        model.take(folder, INDEX, INDEX)?;
    }
    for tensor in &tensors {
        let module = tensor.name.rsplit_once('.').map_or("", |(module, _)| module);
        let packed = quantised.filter(|_| holders.contains_key(&format!("{module}.scales")));
        match (packed, tensor.dtype) {
            (Some(quantised), "U32") => {
                let bits = quantised.bits_of(module);
                model.summary.count(&format!("MLX {bits}-bit"), tensor.numbers.saturating_mul(32) / bits);
            }
            // Scales and biases of what is packed stand for no numbers of their own; whole numbers are positions and the like.
            (Some(_), _) if tensor.name.ends_with(".scales") || tensor.name.ends_with(".biases") => {}
            (_, "I64" | "I32" | "BOOL") => {}
            (_, dtype) => model.summary.count(dtype, tensor.numbers),
        }
    }
    model.summary.quantisation = quantised.map(Quantised::sentence).or_else(|| model.summary.prevailing());
    Ok(())
}

fn header(folder: &Folder, name: &str) -> Result<Header, IntakeError> {
    let (path, _) = folder.needed(name)?;
    let (file, length) = files::open(&path)?;
    safetensors_header::read(BufReader::new(file), length).map_err(IntakeError::format(&path))
}

fn take_tokenizer(model: &mut Model, folder: &Folder) -> Result<(), IntakeError> {
    const NAME: &str = "tokenizer.json";
    match folder.needed(NAME) {
        Err(IntakeError::Missing { folder: at, file, .. }) => {
            let other = ["vocab.txt", "vocab.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model"];
            let other = other.iter().find(|name| folder.has(name));
            let instead = other.map(|name| format!("`{name}` alone does not say how text is split"));
            Err(IntakeError::Missing { folder: at, file, instead })
        }
        Err(error) => Err(error),
        Ok((path, _)) => {
            tokenizer::read(&files::read(&path, tokenizer::MAX_BYTES)?).map_err(IntakeError::format(&path))?;
            model.take(folder, NAME, NAME)
        }
    }
}

/// What says how states become a vector, and how texts are meant: files beside the weights, whichever format those have.
pub(crate) fn take_companions(model: &mut Model, folder: &Folder) -> Result<(), IntakeError> {
    for name in COMPANIONS.iter().filter(|name| folder.has(name)) {
        json_file(folder, name)?;
        model.take(folder, name, name)?;
    }
    take_modules(model, folder)
}

/// The folders that `modules.json` of sentence-transformers names: how states become a vector, and layers after it.
fn take_modules(model: &mut Model, folder: &Folder) -> Result<(), IntakeError> {
    const FILE: &str = "modules.json";
    let mut paths: BTreeSet<String> = BTreeSet::from(["1_Pooling".to_owned()]);
    if folder.has(FILE) {
        let modules = json_file(folder, FILE)?;
        let modules = modules.as_array().ok_or_else(|| damaged(folder, FILE, "it is no list"))?;
        for path in modules.iter().filter_map(|module| module.get("path")?.as_str()).filter(|path| !path.is_empty()) {
            if !names::is_plain(path) {
                let problem = format!("it names `{}`, which is no folder beside it", names::shown(path));
                return Err(damaged(folder, FILE, problem));
            }
            paths.insert(path.to_owned());
        }
    }
    for path in paths.iter().filter(|path| folder.folders.contains(*path)) {
        let inner = Folder::read(&folder.path.join(path))?;
        if inner.has("config.json") {
            json_file(&inner, "config.json")?;
            model.take(&inner, "config.json", &format!("{path}/config.json"))?;
        }
        if inner.has(SINGLE) {
            header(&inner, SINGLE)?;
            model.take(&inner, SINGLE, &format!("{path}/{SINGLE}"))?;
        }
        model.folders.insert(path.clone());
    }
    Ok(())
}
