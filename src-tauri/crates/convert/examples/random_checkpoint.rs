//! Writes a checkpoint with the exact shapes of Qwen3-Embedding and random weights, a few megabytes at a time.
//!
//! `cargo run --release -p embedbar-convert --example random_checkpoint -- 4b|0.6b[:LAYERS] FOLDER TOKENIZER`; a number of layers
//! makes a model with fewer of them. The weights are normally distributed as real ones nearly are, so that quantisers
//! have the same work; the same arguments give the same bytes. Such a model says nothing about quality.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use half::bf16;
use serde_json::{Map, Value, json};

struct Sizes {
    layers: usize,
    width: usize,
    inner: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
}

const HEAD: usize = 128;
/// The standard deviation of the matrices.
const SPREAD: f64 = 0.02;
/// Bytes written at a time.
const STEP: usize = 4 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: random_checkpoint 4b|0.6b[:LAYERS] FOLDER TOKENIZER";
    let which = arguments.next().ok_or(usage)?;
    let folder = PathBuf::from(arguments.next().ok_or(usage)?);
    let tokenizer = arguments.next().ok_or(usage)?;
    let (name, layers) = which.split_once(':').map_or((which.as_str(), None), |(name, layers)| (name, Some(layers)));
    let whole = match name {
        "4b" => Sizes { layers: 36, width: 2560, inner: 9728, heads: 32, kv_heads: 8, vocabulary: 151_665 },
        "0.6b" => Sizes { layers: 28, width: 1024, inner: 3072, heads: 16, kv_heads: 8, vocabulary: 151_669 },
        _ => return Err(usage.into()),
    };
    let sizes = Sizes { layers: layers.map_or(Ok(whole.layers), str::parse)?, ..whole };
    fs::create_dir_all(&folder)?;
    fs::copy(tokenizer, folder.join("tokenizer.json"))?;
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&configuration(&sizes))?)?;
    write_weights(&folder.join("model.safetensors"), &tensors(&sizes))
}

fn configuration(sizes: &Sizes) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "attention_bias": false,
        "num_hidden_layers": sizes.layers, "hidden_size": sizes.width, "intermediate_size": sizes.inner,
        "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads, "head_dim": HEAD,
        "vocab_size": sizes.vocabulary, "max_position_embeddings": 40_960, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
        "rope_scaling": null, "use_sliding_window": false, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    })
}

fn tensors(sizes: &Sizes) -> Vec<(String, Vec<usize>)> {
    let Sizes { width, inner, .. } = *sizes;
    let (queries, keys) = (sizes.heads * HEAD, sizes.kv_heads * HEAD);
    let mut tensors = vec![("embed_tokens.weight".to_owned(), vec![sizes.vocabulary, width])];
    for layer in 0..sizes.layers {
        for (part, shape) in [
            ("input_layernorm", vec![width]),
            ("mlp.down_proj", vec![width, inner]),
            ("mlp.gate_proj", vec![inner, width]),
            ("mlp.up_proj", vec![inner, width]),
            ("post_attention_layernorm", vec![width]),
            ("self_attn.k_norm", vec![HEAD]),
            ("self_attn.k_proj", vec![keys, width]),
            ("self_attn.o_proj", vec![width, queries]),
            ("self_attn.q_norm", vec![HEAD]),
            ("self_attn.q_proj", vec![queries, width]),
            ("self_attn.v_proj", vec![keys, width]),
        ] {
            tensors.push((format!("layers.{layer}.{part}.weight"), shape));
        }
    }
    tensors.push(("norm.weight".to_owned(), vec![width]));
    tensors
}

fn write_weights(path: &std::path::Path, tensors: &[(String, Vec<usize>)]) -> Result<(), Box<dyn Error>> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let bytes = 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(STEP, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut random = Random::new();
    for (_, shape) in tensors {
        if shape.len() == 1 {
            // Norms are near 1, as those of a trained model.
            let ones = bf16::ONE.to_le_bytes().repeat(shape[0]);
            file.write_all(&ones)?;
        } else {
            random.write(shape.iter().product(), &mut file)?;
        }
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Normally distributed numbers from a table of quantiles and a generator of uniform ones.
struct Random {
    quantiles: Vec<[u8; 2]>,
    state: u64,
}

impl Random {
    fn new() -> Self {
        let steps = f64::from(u16::MAX) + 1.0;
        let quantile = |index: u16| bf16::from_f64(SPREAD * normal_quantile((f64::from(index) + 0.5) / steps));
        Self {
            quantiles: (0..=u16::MAX).map(|index| quantile(index).to_le_bytes()).collect(),
            state: 0x2545_f491_4f6c_dd1d,
        }
    }

    fn write(&mut self, count: usize, out: &mut impl Write) -> std::io::Result<()> {
        let mut left = count;
        let mut bytes = Vec::with_capacity(STEP);
        while left > 0 {
            bytes.clear();
            while bytes.len() < STEP && left > 0 {
                // xorshift64*, four numbers from each step.
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                let uniform = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
                for part in 0..left.min(4) {
                    bytes.extend_from_slice(&self.quantiles[usize::from((uniform >> (16 * part)) as u16)]);
                }
                left -= left.min(4);
            }
            out.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// The normal distribution's quantile function by bisection of its distribution function, which is integrated by Simpson's rule:
/// slow, short, and called 65,536 times in all.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if normal_share(middle) < share { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

fn normal_share(x: f64) -> f64 {
    const STEPS: usize = 64;
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let step = x / STEPS as f64;
    let inside: f64 =
        (1..STEPS).map(|index| density(step * index as f64) * if index.is_multiple_of(2) { 2.0 } else { 4.0 }).sum();
    0.5 + step / 3.0 * (density(0.0) + inside + density(x))
}
