//! Checkpoints as transformers writes them: a folder with `config.json` and one or several safetensors files.
//!
//! Reads configurations of older and newer transformers, names with and without the prefix that some exports add, F32, F16 and
//! BF16, and what MLX has quantised. Pickles (`pytorch_model.bin`) and code in the folder are never touched.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::quantized::GgmlDType;
use embedbar_mlx::Quantisation;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{
    EngineError,
    affine::{self, Packed},
    facts::{BertFacts, Family, NomicBertFacts, Qwen3Facts, Settings},
    mapped::Mapped,
    recipe::Pooling,
    sidecar::read_json,
    weights::{Content, Entry, Naming, Weights, weight},
};

/// Files of one checkpoint at most.
const SHARDS: usize = 512;

const BERT: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "embeddings.LayerNorm"),
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

/// As the authors name them, and transformers too when it writes one: its own names live in memory only.
const NOMIC_BERT: &[(&str, &str)] = &[
    ("token_embd", "embeddings.word_embeddings"),
    ("token_embd_norm", "emb_ln"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("attn_qkv", "attn.Wqkv"),
    ("attn_output", "attn.out_proj"),
    ("attn_output_norm", "norm1"),
    // Not in the order of their numbers: the second one is the gate.
    ("ffn_up", "mlp.fc11"),
    ("ffn_gate", "mlp.fc12"),
    ("ffn_down", "mlp.fc2"),
    ("layer_output_norm", "norm2"),
];

const QWEN3: &[(&str, &str)] = &[
    ("token_embd", "embed_tokens"),
    ("output_norm", "norm"),
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// A model's tensors and what its configuration says, before what lies beside it is considered.
pub(crate) struct Opened {
    pub(crate) weights: Weights,
    pub(crate) family: Family,
    /// Where the file itself says it.
    pub(crate) pooling: Option<Pooling>,
    /// Where the file itself says how much of a text the model was made to read.
    pub(crate) max_tokens: Option<usize>,
}

/// Opens the checkpoint in `folder`.
pub(crate) fn open(folder: &Path) -> Result<Opened, EngineError> {
    let path = folder.join("config.json");
    let config = read_json(&path)?.ok_or_else(|| EngineError::Missing { path: path.clone() })?;
    let settings = Settings::from_json(&path, config)?;
    let said = |key| settings.values.get(key).filter(|value| value.is_object());
    let quantisation = Quantisation::read(said("quantization"), said("quantization_config"))
        .map_err(|refused| EngineError::unsupported(&path, refused.to_string()))?;
    let folder = &Folder { path: folder, configuration: &path, quantisation };
    match kind(&settings)?.as_str() {
        "bert" => {
            let weights = read_weights(folder, ("encoder.layer.", BERT))?;
            let family = Family::Bert(BertFacts::from_config(&settings)?);
            Ok(Opened { weights, family, pooling: None, max_tokens: None })
        }
        "xlm-roberta" => {
            let weights = read_weights(folder, ("encoder.layer.", BERT))?;
            let family = Family::Bert(BertFacts::from_xlm_roberta_config(&settings)?);
            Ok(Opened { weights, family, pooling: None, max_tokens: None })
        }
        "nomic_bert" => {
            let weights = read_weights(folder, ("encoder.layers.", NOMIC_BERT))?;
            let family = Family::NomicBert(NomicBertFacts::from_config(&settings)?);
            Ok(Opened { weights, family, pooling: None, max_tokens: None })
        }
        "qwen3" => {
            let weights = read_weights(folder, ("layers.", QWEN3))?;
            let head_width = weights.shape(weight(0, "attn_q_norm"))?.iter().product();
            let family = Family::Qwen3(Qwen3Facts::from_config(&settings, head_width)?);
            Ok(Opened { weights, family, pooling: None, max_tokens: None })
        }
        other => Err(EngineError::UnknownArchitecture { path, architecture: other.to_owned() }),
    }
}

/// The model's kind as transformers' `model_type` says it, or as the name of its class shows it.
fn kind(settings: &Settings) -> Result<String, EngineError> {
    if let Some(kind) = settings.text("model_type") {
        return Ok(kind.to_owned());
    }
    let class = settings.values.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
    match class {
        Some(class) => Ok(match class {
            "BertModel" | "BertForMaskedLM" => "bert".to_owned(),
            "XLMRobertaModel" | "XLMRobertaForMaskedLM" => "xlm-roberta".to_owned(),
            "NomicBertModel" | "NomicBertForMaskedLM" => "nomic_bert".to_owned(),
            "Qwen3Model" | "Qwen3ForCausalLM" => "qwen3".to_owned(),
            other => other.to_owned(),
        }),
        None => Err(EngineError::config(&settings.path, "model_type", "neither it nor `architectures` is there")),
    }
}

type LayerNames = (&'static str, &'static [(&'static str, &'static str)]);

/// A checkpoint's folder, and how its weights are quantised.
struct Folder<'a> {
    path: &'a Path,
    configuration: &'a Path,
    quantisation: Option<Quantisation>,
}

fn read_weights(folder: &Folder, (layer, stems): LayerNames) -> Result<Weights, EngineError> {
    let mut files = Vec::new();
    let (mut entries, mut packed) = (HashMap::new(), HashMap::new());
    for path in weight_files(folder.path)? {
        let file = Mapped::open(&path)?;
        add_entries(&file, files.len(), &mut entries, &mut packed)?;
        files.push(Arc::new(file));
    }
    affine::fold(&files, &mut entries, packed, (folder.configuration, folder.quantisation.as_ref()))?;
    let (_, anchor) = stems[0];
    let anchor = format!("{anchor}.weight");
    let prefix = entries
        .keys()
        .filter_map(|name| name.strip_suffix(&anchor))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .min_by_key(|prefix| prefix.len())
        .unwrap_or_default()
        .to_owned();
    Ok(Weights::new(files, entries, Naming::Transformers { prefix, layer, stems }))
}

/// The safetensors files of `folder`, in the order of their names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let path = folder.join("model.safetensors.index.json");
    let Some(index) = read_json(&path)? else { return Err(EngineError::Missing { path: single }) };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| EngineError::corrupt(&path, "it has no `weight_map`"))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if names.is_empty() || names.len() > SHARDS {
        return Err(EngineError::config(&path, "weight_map", format!("`{}` files", names.len())));
    }
    names
        .into_iter()
        .map(|name| {
            // Names come from a download: only a plain file in this folder is opened.
            if name.contains(['/', '\\', '\0', ':']) || name.starts_with('.') || !name.ends_with(".safetensors") {
                return Err(EngineError::config(
                    &path,
                    "weight_map",
                    format!("`{name}` is no safetensors file beside it"),
                ));
            }
            Ok(folder.join(name))
        })
        .collect()
}

fn add_entries(
    file: &Mapped,
    number: usize,
    entries: &mut HashMap<String, Entry>,
    packed: &mut HashMap<String, Packed>,
) -> Result<(), EngineError> {
    let bytes = file.bytes();
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| EngineError::corrupt(file.path(), error))?;
    let start = header + 8;
    for (name, info) in metadata.tensors() {
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        let dtype = match info.dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            Dtype::U32 if name.ends_with(".weight") => {
                packed.insert(name, Packed { file: number, range, shape: info.shape.clone() });
                continue;
            }
            other if name.ends_with(".weight") => {
                let what = format!("the tensor `{name}` in numbers of the kind `{other:?}`");
                return Err(EngineError::unsupported(file.path(), what));
            }
            // Such as `position_ids`, which no encoder asks for.
            _ => continue,
        };
        entries.insert(name, Entry { file: number, range, shape: info.shape.clone(), content: Content::Blocks(dtype) });
    }
    Ok(())
}
