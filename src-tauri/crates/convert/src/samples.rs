//! Small checkpoints with the real structure and random weights, for tests. Written by the safetensors crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A checkpoint in memory that a test may damage before it is written.
pub(crate) struct Sample {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Numbers>,
    /// Tensors of packed integers: shape in words, and the words' bytes.
    pub(crate) packed: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
    /// Files beside it.
    pub(crate) files: BTreeMap<String, String>,
}

/// A tensor's numbers before they get a type.
#[derive(Clone)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
    pub(crate) dtype: Dtype,
}

impl Numbers {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter();
        match self.dtype {
            Dtype::F16 => values.flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::I64 => values.flat_map(|value| (*value as i64).to_le_bytes()).collect(),
            _ => values.flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The numbers as the type keeps them.
    pub(crate) fn kept(&self) -> Vec<f32> {
        let values = self.values.iter();
        match self.dtype {
            Dtype::F16 => values.map(|value| f16::from_f32(*value).to_f32()).collect(),
            Dtype::BF16 => values.map(|value| bf16::from_f32(*value).to_f32()).collect(),
            _ => self.values.clone(),
        }
    }
}

impl Sample {
    /// Two layers of BERT, `width` wide, its intermediate layer twice that.
    pub(crate) fn bert(width: usize, dtype: Dtype) -> Self {
        let config = json!({
            "model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": 2, "hidden_size": width,
            "intermediate_size": 2 * width, "num_attention_heads": 4, "vocab_size": 50, "max_position_embeddings": 16,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        });
        let mut sample = Self::new(config);
        for (table, rows) in [("word", 50), ("position", 16), ("token_type", 2)] {
            sample.add(&format!("embeddings.{table}_embeddings.weight"), &[rows, width], dtype);
        }
        sample.add_pair("embeddings.LayerNorm", &[width], dtype);
        for layer in 0..2 {
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                sample.add_pair(&format!("encoder.layer.{layer}.attention.{part}"), &[width, width], dtype);
            }
            sample.add_pair(&format!("encoder.layer.{layer}.attention.output.LayerNorm"), &[width], dtype);
            sample.add_pair(&format!("encoder.layer.{layer}.intermediate.dense"), &[2 * width, width], dtype);
            sample.add_pair(&format!("encoder.layer.{layer}.output.dense"), &[width, 2 * width], dtype);
            sample.add_pair(&format!("encoder.layer.{layer}.output.LayerNorm"), &[width], dtype);
        }
        sample.add_pair("pooler.dense", &[width, width], dtype);
        sample.add("embeddings.position_ids", &[1, 16], Dtype::I64);
        sample.files.insert("1_Pooling/config.json".into(), json!({"pooling_mode_mean_tokens": true}).to_string());
        sample
    }

    /// Two layers of XLM-R with the head that predicts tokens: 16 positions behind the padding token's, one token type.
    pub(crate) fn xlm_roberta(width: usize, dtype: Dtype) -> Self {
        let mut sample = Self::bert(width, dtype);
        sample.config["model_type"] = "xlm-roberta".into();
        sample.config["pad_token_id"] = 1.into();
        sample.config["max_position_embeddings"] = 18.into();
        sample.config["type_vocab_size"] = 1.into();
        sample.config["layer_norm_eps"] = 1e-5.into();
        sample.add("embeddings.position_embeddings.weight", &[18, width], dtype);
        sample.add("embeddings.token_type_embeddings.weight", &[1, width], dtype);
        sample.add_pair("lm_head.dense", &[width, width], dtype);
        sample.add("lm_head.bias", &[50], dtype);
        sample
    }

    /// Two layers of NomicBERT in its authors' form, trained with 16 of 64 positions, with the head that predicts tokens.
    pub(crate) fn nomic_bert(width: usize, dtype: Dtype) -> Self {
        let config = json!({
            "model_type": "nomic_bert", "activation_function": "swiglu", "n_layer": 2, "n_embd": width,
            "n_inner": 2 * width, "n_head": 4, "vocab_size": 50, "n_positions": 64, "max_trained_positions": 16,
            "type_vocab_size": 2, "layer_norm_epsilon": 1e-12, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
            "rotary_scaling_factor": 2, "prenorm": false, "qkv_proj_bias": false, "mlp_fc1_bias": false,
        });
        let mut sample = Self::new(config);
        sample.add("embeddings.word_embeddings.weight", &[50, width], dtype);
        sample.add("embeddings.token_type_embeddings.weight", &[2, width], dtype);
        sample.add_pair("emb_ln", &[width], dtype);
        for layer in 0..2 {
            for (part, rows, row) in [
                ("attn.Wqkv", 3 * width, width),
                ("attn.out_proj", width, width),
                ("mlp.fc11", 2 * width, width),
                ("mlp.fc12", 2 * width, width),
                ("mlp.fc2", width, 2 * width),
            ] {
                sample.add(&format!("encoder.layers.{layer}.{part}.weight"), &[rows, row], dtype);
            }
            sample.add_pair(&format!("encoder.layers.{layer}.norm1"), &[width], dtype);
            sample.add_pair(&format!("encoder.layers.{layer}.norm2"), &[width], dtype);
        }
        sample.add("cls.predictions.bias", &[50], dtype);
        sample.files.insert("1_Pooling/config.json".into(), json!({"pooling_mode_mean_tokens": true}).to_string());
        sample.files.insert("sentence_bert_config.json".into(), json!({"max_seq_length": 64}).to_string());
        sample
    }

    /// Two layers of Qwen3 with grouped queries; a head is wider than the width divided by the heads.
    pub(crate) fn qwen3(dtype: Dtype) -> Self {
        let config = json!({
            "model_type": "qwen3", "hidden_act": "silu", "num_hidden_layers": 2, "hidden_size": 64, "head_dim": 32,
            "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 70,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_scaling": null,
            "attention_bias": false, "use_sliding_window": false, "tie_word_embeddings": true,
        });
        let mut sample = Self::new(config);
        sample.add("embed_tokens.weight", &[70, 64], dtype);
        sample.add("norm.weight", &[64], dtype);
        for layer in 0..2 {
            for (part, shape) in [
                ("input_layernorm", &[64][..]),
                ("post_attention_layernorm", &[64]),
                ("self_attn.q_proj", &[128, 64]),
                ("self_attn.k_proj", &[64, 64]),
                ("self_attn.v_proj", &[64, 64]),
                ("self_attn.o_proj", &[64, 128]),
                ("self_attn.q_norm", &[32]),
                ("self_attn.k_norm", &[32]),
                ("mlp.gate_proj", &[96, 64]),
                ("mlp.up_proj", &[96, 64]),
                ("mlp.down_proj", &[64, 96]),
            ] {
                sample.add(&format!("layers.{layer}.{part}.weight"), shape, dtype);
            }
        }
        sample
    }

    fn new(config: Value) -> Self {
        let files = BTreeMap::from([("tokenizer.json".to_owned(), "{\"version\":\"1.0\"}".to_owned())]);
        Self { config, tensors: BTreeMap::new(), packed: BTreeMap::new(), files }
    }

    /// Adds a tensor with numbers that look like weights and depend on its name only.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], dtype: Dtype) {
        let mut state = name
            .bytes()
            .fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let values = (0..shape.iter().product()).map(|_| (uniform() + uniform() + uniform()) * 0.1).collect();
        self.tensors.insert(name.to_owned(), Numbers { shape: shape.to_vec(), values, dtype });
    }

    fn add_pair(&mut self, name: &str, shape: &[usize], dtype: Dtype) {
        self.add(&format!("{name}.weight"), shape, dtype);
        self.add(&format!("{name}.bias"), &shape[..1], dtype);
    }

    /// Packs a matrix as MLX does and gives the numbers that it stands for afterwards. Integers, scales and biases follow from
    /// the name; every second scale is negative.
    pub(crate) fn pack(&mut self, module: &str, bits: usize, group: usize) -> Vec<f32> {
        let name = format!("{module}.weight");
        let shape = self.tensors.remove(&name).expect("the matrix is there").shape;
        let (rows, row) = (shape[0], shape[1]);
        self.add(&format!("{module}.scales"), &[rows, row / group], Dtype::BF16);
        self.add(&format!("{module}.biases"), &[rows, row / group], Dtype::BF16);
        let [scales, biases] = ["scales", "biases"].map(|part| self.tensors[&format!("{module}.{part}")].kept());
        let integers: Vec<u8> = (0..rows * row).map(|at| ((at * 7 + at / 13) % (1 << bits)) as u8).collect();
        let bytes = if bits == 4 {
            integers.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4).collect()
        } else {
            integers.clone()
        };
        self.packed.insert(name, (vec![rows, row * bits / 32], bytes));
        let number = |(at, integer): (usize, &u8)| f32::from(*integer) * scales[at / group] + biases[at / group];
        integers.iter().enumerate().map(number).collect()
    }

    /// Gives every tensor another name.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> String) {
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(|(name, it)| (rename(&name), it)).collect();
    }

    /// Writes it with all tensors in one file.
    pub(crate) fn write(&self, folder: &Path) {
        self.write_sidecars(folder);
        write_weights(&folder.join("model.safetensors"), self.tensors.iter(), &self.packed);
    }

    /// Writes it in two shards and their index.
    pub(crate) fn write_sharded(&self, folder: &Path) {
        self.write_sidecars(folder);
        let shard = |index: usize| format!("model-0000{}-of-00002.safetensors", index % 2 + 1);
        for part in 0..2 {
            let tensors = self.tensors.iter().enumerate().filter(|(index, _)| index % 2 == part).map(|(_, pair)| pair);
            write_weights(&folder.join(shard(part)), tensors, &BTreeMap::new());
        }
        let map: BTreeMap<&String, String> =
            self.tensors.keys().enumerate().map(|(index, name)| (name, shard(index))).collect();
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        fs::write(folder.join("model.safetensors.index.json"), index).expect("it can be written");
    }

    fn write_sidecars(&self, folder: &Path) {
        fs::write(folder.join("config.json"), self.config.to_string()).expect("it can be written");
        for (name, text) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
    }
}

fn write_weights<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a String, &'a Numbers)>,
    packed: &BTreeMap<String, (Vec<usize>, Vec<u8>)>,
) {
    let plain = tensors.map(|(name, numbers)| (name, numbers.dtype, &numbers.shape, numbers.bytes()));
    let packed = packed.iter().map(|(name, (shape, bytes))| (name, Dtype::U32, shape, bytes.clone()));
    let all: Vec<(&String, Dtype, &Vec<usize>, Vec<u8>)> = plain.chain(packed).collect();
    let views = all.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, (*shape).clone(), bytes).expect("its size fits its shape");
        (name.as_str(), view)
    });
    fs::write(path, safetensors::serialize(views, None).expect("it can be serialised")).expect("it can be written");
}

/// A row of `count` numbers on which quantisers go wrong: every seventh run of 32 is zero, has an outlier, consists of ties,
/// or has no negative number. The same for everyone who computes it in single precision.
pub(crate) fn hard_row(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut row: Vec<f32> = (0..count).map(|_| (uniform() + uniform() + uniform()) * 2.0).collect();
    for (number, run) in row.chunks_exact_mut(32).enumerate() {
        match number % 7 {
            3 => run.fill(0.0),
            4 => run[5] *= 100.0,
            5 => run.iter_mut().for_each(|number| *number = (*number * 4.0).round_ties_even() / 2.0),
            6 => run.iter_mut().for_each(|number| *number = number.abs()),
            _ => {}
        }
    }
    row
}

/// The sha256 of `bytes` as people write it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
