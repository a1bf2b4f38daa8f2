//! BERT, NomicBERT and Qwen3 written down from their definitions in f64, one text at a time, nothing fast.

use crate::make::{Model, Numbers};

/// One vector per token.
type States = Vec<Vec<f64>>;

struct Weights<'a>(&'a Model);

impl Weights<'_> {
    fn tensor(&self, name: &str) -> &Numbers {
        self.0.tensors.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.tensor(name).values.iter().map(|&value| f64::from(value)).collect()
    }

    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let width = self.tensor(name).shape[1];
        self.vector(name)[row * width..(row + 1) * width].to_vec()
    }

    fn linear(&self, name: &str, states: &States) -> States {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.0.tensors.get(&format!("{name}.bias"));
        let (out, input) = (weight.shape[0], weight.shape[1]);
        let apply = |state: &Vec<f64>| {
            (0..out)
                .map(|row| {
                    let products =
                        (0..input).map(|column| f64::from(weight.values[row * input + column]) * state[column]);
                    products.sum::<f64>() + bias.map_or(0.0, |bias| f64::from(bias.values[row]))
                })
                .collect()
        };
        states.iter().map(apply).collect()
    }

    fn layer_norm(&self, name: &str, states: &States) -> States {
        let (weight, bias) = (self.vector(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let apply = |state: &Vec<f64>| {
            let count = state.len() as f64;
            let mean = state.iter().sum::<f64>() / count;
            let variance = state.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let scale = 1.0 / (variance + 1e-12).sqrt();
            state.iter().enumerate().map(|(at, value)| (value - mean) * scale * weight[at] + bias[at]).collect()
        };
        states.iter().map(apply).collect()
    }

    fn rms_norm(&self, name: &str, state: &[f64]) -> Vec<f64> {
        let weight = self.vector(&format!("{name}.weight"));
        let square = state.iter().map(|value| value * value).sum::<f64>() / state.len() as f64;
        let scale = 1.0 / (square + 1e-6).sqrt();
        state.iter().zip(weight).map(|(value, weight)| value * scale * weight).collect()
    }

    fn number(&self, key: &str) -> usize {
        self.0.config[key].as_u64().unwrap() as usize
    }
}

fn add(a: &States, b: &States) -> States {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// By a series, which is exact enough below 6 and has no rival above.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn attention(q: &States, k: &States, v: &States, (heads, groups): (usize, usize), causal: bool) -> States {
    let width = q[0].len() / heads;
    let token = |query: usize| {
        let mut out = Vec::new();
        for head in 0..heads {
            let group = head / (heads / groups);
            let seen = if causal { query + 1 } else { q.len() };
            let dot = |key: usize| -> f64 {
                (0..width).map(|at| q[query][head * width + at] * k[key][group * width + at]).sum()
            };
            let scores: Vec<f64> = (0..seen).map(|key| (dot(key) / (width as f64).sqrt()).exp()).collect();
            let total: f64 = scores.iter().sum();
            out.extend(
                (0..width).map(|at| (0..seen).map(|key| scores[key] / total * v[key][group * width + at]).sum::<f64>()),
            );
        }
        out
    };
    (0..q.len()).map(token).collect()
}

/// The hidden states after each layer.
pub(crate) fn bert(model: &Model, ids: &[u32]) -> Vec<States> {
    let weights = Weights(model);
    let embed = |(position, &id): (usize, &u32)| -> Vec<f64> {
        let token = weights.row("embeddings.word_embeddings.weight", id as usize);
        let place = weights.row("embeddings.position_embeddings.weight", position);
        let kind = weights.row("embeddings.token_type_embeddings.weight", 0);
        token.iter().zip(place).zip(kind).map(|((token, place), kind)| token + place + kind).collect()
    };
    let mut x = weights.layer_norm("embeddings.LayerNorm", &ids.iter().enumerate().map(embed).collect());
    let heads = weights.number("num_attention_heads");
    let mut all = Vec::new();
    for layer in 0..weights.number("num_hidden_layers") {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let [q, k, v] =
            ["query", "key", "value"].map(|part| weights.linear(&name(&format!("attention.self.{part}")), &x));
        let attended = weights.linear(&name("attention.output.dense"), &attention(&q, &k, &v, (heads, heads), false));
        x = weights.layer_norm(&name("attention.output.LayerNorm"), &add(&attended, &x));
        let mut up = weights.linear(&name("intermediate.dense"), &x);
        up.iter_mut().flatten().for_each(|value| *value *= 0.5 * (1.0 + erf(*value / 2.0_f64.sqrt())));
        x = weights.layer_norm(&name("output.LayerNorm"), &add(&weights.linear(&name("output.dense"), &up), &x));
        all.push(x.clone());
    }
    all
}

/// The hidden states after each layer.
pub(crate) fn nomic_bert(model: &Model, ids: &[u32]) -> Vec<States> {
    let weights = Weights(model);
    let heads = weights.number("n_head");
    let width = weights.number("n_embd") / heads;
    let trained = weights.number("max_trained_positions");
    let mut base = 1000.0_f64;
    if ids.len() > trained {
        let growth = 2.0 * ids.len() as f64 / trained as f64 - 1.0;
        base *= growth.powf(width as f64 / (width as f64 - 2.0));
    }
    let turned = |states: &[Vec<f64>]| -> States {
        let turned = |(position, state): (usize, &Vec<f64>)| {
            state.chunks(width).flat_map(|head| rotate(head, position, base)).collect()
        };
        states.iter().enumerate().map(turned).collect()
    };
    let embed = |&id: &u32| -> Vec<f64> {
        let token = weights.row("embeddings.word_embeddings.weight", id as usize);
        let kind = weights.row("embeddings.token_type_embeddings.weight", 0);
        token.iter().zip(kind).map(|(token, kind)| token + kind).collect()
    };
    let mut x = weights.layer_norm("emb_ln", &ids.iter().map(embed).collect());
    let mut all = Vec::new();
    for layer in 0..weights.number("n_layer") {
        let name = |part: &str| format!("encoder.layers.{layer}.{part}");
        let mixed = weights.linear(&name("attn.Wqkv"), &x);
        let part = |number: usize| -> States {
            mixed.iter().map(|row| row[number * heads * width..][..heads * width].to_vec()).collect()
        };
        let attended = attention(&turned(&part(0)), &turned(&part(1)), &part(2), (heads, heads), false);
        x = weights.layer_norm(&name("norm1"), &add(&weights.linear(&name("attn.out_proj"), &attended), &x));
        let mut up = weights.linear(&name("mlp.fc11"), &x);
        let gate = weights.linear(&name("mlp.fc12"), &x);
        for (up, gate) in up.iter_mut().flatten().zip(gate.iter().flatten()) {
            *up *= gate / (1.0 + (-gate).exp());
        }
        x = weights.layer_norm(&name("norm2"), &add(&weights.linear(&name("mlp.fc2"), &up), &x));
        all.push(x.clone());
    }
    all
}

/// The hidden states after each layer, the last after the final norm.
pub(crate) fn qwen3(model: &Model, ids: &[u32]) -> Vec<States> {
    let weights = Weights(model);
    let (heads, groups) = (weights.number("num_attention_heads"), weights.number("num_key_value_heads"));
    let width = weights.number("head_dim");
    let layers = weights.number("num_hidden_layers");
    let each = |name: String, states: &States| -> States {
        states.iter().map(|state| weights.rms_norm(&name, state)).collect()
    };
    let turn = |name: String, states: &States| -> States {
        let turned = |(position, state): (usize, &Vec<f64>)| {
            state.chunks(width).flat_map(|head| rotate(&weights.rms_norm(&name, head), position, 10_000.0)).collect()
        };
        states.iter().enumerate().map(turned).collect()
    };
    let mut x: States = ids.iter().map(|&id| weights.row("embed_tokens.weight", id as usize)).collect();
    let mut all = Vec::new();
    for layer in 0..layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let normed = each(name("input_layernorm"), &x);
        let [q, k, v] = ["q", "k", "v"].map(|part| weights.linear(&name(&format!("self_attn.{part}_proj")), &normed));
        let (q, k) = (turn(name("self_attn.q_norm"), &q), turn(name("self_attn.k_norm"), &k));
        x = add(&weights.linear(&name("self_attn.o_proj"), &attention(&q, &k, &v, (heads, groups), true)), &x);
        let normed = each(name("post_attention_layernorm"), &x);
        let mut gate = weights.linear(&name("mlp.gate_proj"), &normed);
        let up = weights.linear(&name("mlp.up_proj"), &normed);
        for (gate, up) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        x = add(&weights.linear(&name("mlp.down_proj"), &gate), &x);
        all.push(if layer + 1 == layers { each("norm".to_owned(), &x) } else { x.clone() });
    }
    all
}

/// Rotary positions, halves paired.
fn rotate(head: &[f64], position: usize, base: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let angle = |at: usize| position as f64 * base.powf(-(at as f64) / half as f64);
    let first = (0..half).map(|at| head[at] * angle(at).cos() - head[at + half] * angle(at).sin());
    let second = (0..half).map(|at| head[at + half] * angle(at).cos() + head[at] * angle(at).sin());
    first.chain(second).collect()
}

/// The mean over tokens.
pub(crate) fn mean(states: &States) -> Vec<f64> {
    let sum = |at: usize| states.iter().map(|state| state[at]).sum::<f64>() / states.len() as f64;
    (0..states[0].len()).map(sum).collect()
}

/// The mean over the last four layers of the mean over tokens.
pub(crate) fn mean_of_last_four(layers: &[States]) -> Vec<f64> {
    let last = &layers[layers.len().saturating_sub(4)..];
    mean(&last.iter().map(mean).collect())
}

/// Scaled to length 1.
pub(crate) fn normalized(vector: &[f64]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter().map(|value| (value / norm) as f32).collect()
}
