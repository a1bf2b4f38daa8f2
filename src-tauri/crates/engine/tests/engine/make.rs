//! Makes small checkpoints with random weights in every layout that the engine reads.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// Words of the test tokenizer after its four special tokens.
pub(crate) const WORDS: usize = 36;
/// Tokens that the test tokenizer has.
pub(crate) const VOCABULARY: usize = WORDS + 4;
/// `[CLS]`, `[SEP]` and `<|endoftext|>` of the test tokenizer.
pub(crate) const CLS: u32 = 1;
pub(crate) const SEP: u32 = 2;
pub(crate) const END: u32 = 3;

/// A tensor in F32.
#[derive(Clone)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A checkpoint in transformers' names.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Numbers>,
}

struct Random(u64);

impl Random {
    /// Between -1 and 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, shape: &[usize], center: f32, spread: f32) -> Numbers {
        let values = (0..shape.iter().product()).map(|_| center + spread * self.next()).collect();
        Numbers { shape: shape.to_vec(), values }
    }
}

/// The width of a model's hidden states; a multiple of 32, of 256 for K-quants.
pub(crate) fn bert(hidden: usize) -> Model {
    let (layers, heads, intermediate, positions) = (3, 4, hidden * 2, 64);
    let config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": intermediate, "max_position_embeddings": positions,
        "type_vocab_size": 2, "vocab_size": VOCABULARY, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "position_embedding_type": "absolute"
    });
    let mut random = Random(1);
    let mut tensors = BTreeMap::new();
    // Wider models need smaller numbers, or attention becomes so sharp that F32 itself is not exact enough.
    let spread = 2.0 / (hidden as f32).sqrt();
    let mut matrix = |name: &str, shape: &[usize]| tensors.insert(name.to_owned(), random.tensor(shape, 0.0, spread));
    matrix("embeddings.word_embeddings.weight", &[VOCABULARY, hidden]);
    matrix("embeddings.position_embeddings.weight", &[positions, hidden]);
    matrix("embeddings.token_type_embeddings.weight", &[2, hidden]);
    for layer in 0..layers {
        for (name, out, input) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", intermediate, hidden),
            ("output.dense", hidden, intermediate),
        ] {
            matrix(&format!("encoder.layer.{layer}.{name}.weight"), &[out, input]);
            matrix(&format!("encoder.layer.{layer}.{name}.bias"), &[out]);
        }
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..layers {
        norms.push(format!("encoder.layer.{layer}.attention.output.LayerNorm"));
        norms.push(format!("encoder.layer.{layer}.output.LayerNorm"));
    }
    for norm in norms {
        tensors.insert(format!("{norm}.weight"), random.tensor(&[hidden], 1.0, 0.5));
        tensors.insert(format!("{norm}.bias"), random.tensor(&[hidden], 0.0, 0.3));
    }
    Model { config, tensors }
}

/// A Qwen3 whose heads are wider than its hidden states divided by them, with two query heads to each key head.
pub(crate) fn qwen3(hidden: usize) -> Model {
    let (layers, heads, groups, width, intermediate) = (5, 4, 2, hidden / 2, hidden * 2);
    let config = json!({
        "architectures": ["Qwen3Model"], "model_type": "qwen3", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": width,
        "intermediate_size": intermediate, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "vocab_size": VOCABULARY, "eos_token_id": END, "tie_word_embeddings": true, "use_sliding_window": false,
        "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"}, "dtype": "float32"
    });
    let mut random = Random(2);
    let mut tensors = BTreeMap::new();
    let spread = 3.0 / (hidden as f32).sqrt();
    let mut matrix = |name: &str, shape: &[usize]| tensors.insert(name.to_owned(), random.tensor(shape, 0.0, spread));
    matrix("embed_tokens.weight", &[VOCABULARY, hidden]);
    for layer in 0..layers {
        for (name, out, input) in [
            ("self_attn.q_proj", heads * width, hidden),
            ("self_attn.k_proj", groups * width, hidden),
            ("self_attn.v_proj", groups * width, hidden),
            ("self_attn.o_proj", hidden, heads * width),
            ("mlp.gate_proj", intermediate, hidden),
            ("mlp.up_proj", intermediate, hidden),
            ("mlp.down_proj", hidden, intermediate),
        ] {
            matrix(&format!("layers.{layer}.{name}.weight"), &[out, input]);
        }
    }
    let mut norms = vec![("norm".to_owned(), hidden)];
    for layer in 0..layers {
        for (name, width) in [
            ("input_layernorm", hidden),
            ("post_attention_layernorm", hidden),
            ("self_attn.q_norm", width),
            ("self_attn.k_norm", width),
        ] {
            norms.push((format!("layers.{layer}.{name}"), width));
        }
    }
    for (norm, width) in norms {
        tensors.insert(format!("{norm}.weight"), random.tensor(&[width], 1.0, 0.5));
    }
    Model { config, tensors }
}

/// Tokens from which on the positions of [`nomic_bert`] turn more slowly; some of [`texts`] are longer.
pub(crate) const TRAINED: usize = 32;

/// A NomicBERT in its authors' form, with positions that stretch.
pub(crate) fn nomic_bert(hidden: usize) -> Model {
    let (layers, heads, intermediate) = (3, 4, hidden * 2);
    let config = json!({
        "architectures": ["NomicBertModel"], "model_type": "nomic_bert", "n_embd": hidden, "n_layer": layers,
        "n_head": heads, "n_inner": intermediate, "n_positions": 64, "max_trained_positions": TRAINED,
        "rotary_scaling_factor": 2, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
        "activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "vocab_size": VOCABULARY
    });
    let mut random = Random(3);
    let mut tensors = BTreeMap::new();
    let spread = 2.0 / (hidden as f32).sqrt();
    let mut matrix = |name: &str, shape: &[usize]| tensors.insert(name.to_owned(), random.tensor(shape, 0.0, spread));
    matrix("embeddings.word_embeddings.weight", &[VOCABULARY, hidden]);
    matrix("embeddings.token_type_embeddings.weight", &[2, hidden]);
    for layer in 0..layers {
        for (name, out, input) in [
            ("attn.Wqkv", 3 * hidden, hidden),
            ("attn.out_proj", hidden, hidden),
            ("mlp.fc11", intermediate, hidden),
            ("mlp.fc12", intermediate, hidden),
            ("mlp.fc2", hidden, intermediate),
        ] {
            matrix(&format!("encoder.layers.{layer}.{name}.weight"), &[out, input]);
        }
    }
    let norms = (0..layers).flat_map(|layer| ["norm1", "norm2"].map(|norm| format!("encoder.layers.{layer}.{norm}")));
    for norm in norms.chain(["emb_ln".to_owned()]) {
        tensors.insert(format!("{norm}.weight"), random.tensor(&[hidden], 1.0, 0.5));
        tensors.insert(format!("{norm}.bias"), random.tensor(&[hidden], 0.0, 0.3));
    }
    Model { config, tensors }
}

/// A tokenizer of words `w0`, `w1`… in BERT's manner, or with nothing around the text.
pub(crate) fn tokenizer(bert: bool) -> Value {
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    let mut vocabulary: BTreeMap<String, usize> =
        [("[UNK]", 0), ("[CLS]", 1), ("[SEP]", 2), ("<|endoftext|>", 3)].map(|(word, id)| (word.to_owned(), id)).into();
    vocabulary.extend((0..WORDS).map(|word| (format!("w{word}"), word + 4)));
    let special = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": special("[CLS]", CLS), "[SEP]": special("[SEP]", SEP)}
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(CLS, "[CLS]"), added(SEP, "[SEP]"), added(END, "<|endoftext|>")],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": if bert { template } else { Value::Null }, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary}
    })
}

/// Texts of various lengths, the empty one and one longer than 32 tokens among them.
pub(crate) fn texts() -> Vec<String> {
    [3, 0, 17, 1, 40, 8, 3, 29]
        .iter()
        .enumerate()
        .map(|(seed, &length)| {
            let words: Vec<String> =
                (0..length).map(|at| format!("w{}", (at * 7 + seed * 11 + at * at) % WORDS)).collect();
            words.join(" ")
        })
        .collect()
}

/// The ids of a text of [`texts`] without special tokens.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|word| word[1..].parse::<u32>().unwrap() + 4).collect()
}

impl Model {
    fn is_bert(&self) -> bool {
        self.config["model_type"] != "qwen3"
    }

    fn is_nomic(&self) -> bool {
        self.config["model_type"] == "nomic_bert"
    }

    /// The same [`nomic_bert`] with the configuration that transformers writes; names of tensors stay as they are.
    pub(crate) fn native_nomic(&self) -> Self {
        let number = |key: &str| self.config[key].clone();
        let config = json!({
            "architectures": ["NomicBertModel"], "model_type": "nomic_bert", "hidden_size": number("n_embd"),
            "num_hidden_layers": number("n_layer"), "num_attention_heads": number("n_head"),
            "intermediate_size": number("n_inner"), "max_position_embeddings": TRAINED, "hidden_act": "silu",
            "layer_norm_eps": 1e-12, "vocab_size": VOCABULARY,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0}
        });
        Self { config, tensors: self.tensors.clone() }
    }

    /// Writes a folder as transformers does, the numbers as `dtype`.
    pub(crate) fn write(&self, folder: &Path, dtype: Dtype) {
        self.write_configuration(folder);
        self.write_tensors(&folder.join("model.safetensors"), dtype, |_| true);
    }

    pub(crate) fn write_configuration(&self, folder: &Path) {
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        fs::write(folder.join("tokenizer.json"), tokenizer(self.is_bert()).to_string()).unwrap();
    }

    /// Writes the tensors whose names `wanted` accepts.
    pub(crate) fn write_tensors(&self, path: &Path, dtype: Dtype, wanted: impl Fn(&str) -> bool) {
        let chosen = self.tensors.iter().filter(|(name, _)| wanted(name));
        let stored: Vec<(&String, &Numbers, Vec<u8>)> =
            chosen.map(|(name, numbers)| (name, numbers, bytes(&numbers.values, dtype))).collect();
        let views = stored.iter().map(|(name, numbers, bytes)| {
            (name.as_str(), TensorView::new(dtype, numbers.shape.clone(), bytes).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// Puts `prefix` in front of every tensor's name.
    pub(crate) fn prefixed(&self, prefix: &str) -> Self {
        let tensors = self.tensors.iter().map(|(name, numbers)| (format!("{prefix}{name}"), numbers.clone())).collect();
        Self { config: self.config.clone(), tensors }
    }

    /// Writes `model.gguf` in llama.cpp's names with matrices as `dtype`, and gives the model as it is after rounding.
    pub(crate) fn write_gguf(&self, folder: &Path, dtype: GgmlDType) -> Self {
        self.write_mixed_gguf(folder, |_| dtype)
    }

    /// Like [`Self::write_gguf`], each matrix as `dtype` says of its name.
    pub(crate) fn write_mixed_gguf(&self, folder: &Path, dtype: impl Fn(&str) -> GgmlDType) -> Self {
        self.write_gguf_with(folder, dtype, &[])
    }

    /// Like [`Self::write_mixed_gguf`], with `settings` instead of the model's own of the same names.
    pub(crate) fn write_gguf_with(
        &self,
        folder: &Path,
        dtype: impl Fn(&str) -> GgmlDType,
        settings: &[(&str, u32)],
    ) -> Self {
        fs::write(folder.join("tokenizer.json"), tokenizer(self.is_bert()).to_string()).unwrap();
        let mut rounded = self.clone();
        if self.is_nomic() {
            rounded.config["max_trained_positions"] = json!(64);
        }
        let mut tensors = Vec::new();
        for (name, numbers) in &mut rounded.tensors {
            let tensor = Tensor::from_slice(&numbers.values, numbers.shape.as_slice(), &Device::Cpu).unwrap();
            // llama.cpp keeps vectors and small tables in F32.
            let exact = numbers.shape.len() == 1 || name.contains("position_emb") || name.contains("token_type");
            let tensor =
                QTensor::quantize(&tensor, if exact { GgmlDType::F32 } else { dtype(&gguf_name(name)) }).unwrap();
            let plain = tensor.dequantize(&Device::Cpu).unwrap();
            numbers.values = plain.flatten_all().unwrap().to_vec1().unwrap();
            tensors.push((gguf_name(name), tensor));
        }
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut metadata = self.gguf_metadata();
        metadata.retain(|(key, _)| settings.iter().all(|(other, _)| key != other));
        metadata.extend(settings.iter().map(|&(key, value)| (key.to_owned(), gguf_file::Value::U32(value))));
        let metadata: Vec<(&str, &gguf_file::Value)> =
            metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut file = fs::File::create(folder.join("model.gguf")).unwrap();
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        rounded
    }

    fn gguf_metadata(&self) -> Vec<(String, gguf_file::Value)> {
        use gguf_file::Value::{F32, String, U32};
        if self.is_nomic() {
            return self.nomic_metadata();
        }
        let number = |key: &str| U32(self.config[key].as_u64().unwrap() as u32);
        let kind = self.config["model_type"].as_str().unwrap();
        let mut metadata = vec![
            ("general.architecture".to_owned(), String(kind.to_owned())),
            (format!("{kind}.embedding_length"), number("hidden_size")),
            (format!("{kind}.block_count"), number("num_hidden_layers")),
            (format!("{kind}.attention.head_count"), number("num_attention_heads")),
            (format!("{kind}.feed_forward_length"), number("intermediate_size")),
            (format!("{kind}.context_length"), number("max_position_embeddings")),
        ];
        if self.is_bert() {
            metadata.push(("bert.attention.layer_norm_epsilon".to_owned(), F32(1e-12)));
            metadata.push(("bert.pooling_type".to_owned(), U32(1)));
        } else {
            metadata.push(("qwen3.attention.head_count_kv".to_owned(), number("num_key_value_heads")));
            metadata.push(("qwen3.attention.key_length".to_owned(), number("head_dim")));
            metadata.push(("qwen3.attention.layer_norm_rms_epsilon".to_owned(), F32(1e-6)));
            metadata.push(("qwen3.rope.freq_base".to_owned(), F32(10_000.0)));
            metadata.push(("qwen3.pooling_type".to_owned(), U32(3)));
        }
        metadata
    }
}

impl Model {
    fn nomic_metadata(&self) -> Vec<(String, gguf_file::Value)> {
        use gguf_file::Value::{Bool, F32, String, U32};
        let number = |key: &str| U32(self.config[key].as_u64().unwrap() as u32);
        [
            ("general.architecture", String("nomic-bert".to_owned())),
            ("nomic-bert.embedding_length", number("n_embd")),
            ("nomic-bert.block_count", number("n_layer")),
            ("nomic-bert.attention.head_count", number("n_head")),
            ("nomic-bert.attention.layer_norm_epsilon", F32(1e-12)),
            ("nomic-bert.attention.causal", Bool(false)),
            ("nomic-bert.feed_forward_length", number("n_inner")),
            // Such a file has no word for positions that stretch.
            ("nomic-bert.context_length", U32(64)),
            ("nomic-bert.rope.freq_base", F32(1000.0)),
            ("nomic-bert.pooling_type", U32(1)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    }
}

fn gguf_name(name: &str) -> String {
    let stems = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
        ("emb_ln", "token_embd_norm"),
        ("attn.Wqkv", "attn_qkv"),
        ("attn.out_proj", "attn_output"),
        ("norm1", "attn_output_norm"),
        ("mlp.fc11", "ffn_up"),
        ("mlp.fc12", "ffn_gate"),
        ("mlp.fc2", "ffn_down"),
        ("norm2", "layer_output_norm"),
        ("embed_tokens", "token_embd"),
        ("norm", "output_norm"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("dense_2", "dense_2"),
    ];
    let (stem, part) = name.rsplit_once('.').unwrap();
    let layered =
        stem.strip_prefix("encoder.layer.").or(stem.strip_prefix("encoder.layers.")).or(stem.strip_prefix("layers."));
    let (block, stem) = match layered.and_then(|rest| rest.split_once('.')) {
        Some((layer, stem)) => (format!("blk.{layer}."), stem),
        None => (String::new(), stem),
    };
    let (_, role) = stems.iter().find(|(theirs, _)| *theirs == stem).unwrap();
    format!("{block}{role}.{part}")
}
