//! Qwen3: norm, attention, sum, norm, gated feed-forward, sum; a final norm after the last layer.

use embedbar_convert::Qwen3;

use super::layers::{Attention, add, rms_norm, rotate, silu};
use super::{Pass, Pooled, spans};
use crate::CertifyError;

pub(super) fn run(
    pass: &mut Pass<'_>,
    model: &Qwen3,
    texts: &[Vec<u32>],
    pooled: &mut Pooled,
) -> Result<(), CertifyError> {
    let &Qwen3 { width, inner, heads, groups, head, theta, .. } = model;
    let spans = spans(texts);
    let mut x = pass.tokens("embed_tokens.weight", texts, width)?;
    for layer in 0..model.layers {
        let part = |name: &str| format!("layers.{layer}.{name}.weight");
        let attended = {
            let normed = norm(pass, model, &part("input_layernorm"), &x)?;
            let mut turned = |name: &str, heads: usize| -> Result<Vec<f32>, CertifyError> {
                let all = heads * head;
                let mut rows = pass.linear(&part(&format!("self_attn.{name}_proj")), &normed, width, all)?;
                let gamma = pass.rows(&part(&format!("self_attn.{name}_norm")), 0, head)?;
                rms_norm(&mut rows, &gamma, model.epsilon);
                rotate(&mut rows, all, head, theta, &spans);
                Ok(rows)
            };
            let (queries, keys) = (turned("q", heads)?, turned("k", groups)?);
            let values = pass.linear(&part("self_attn.v_proj"), &normed, width, groups * head)?;
            drop(normed);
            let (queries, keys, values) = (&queries, &keys, &values);
            Attention { queries, keys, values, heads, groups, head, causal: true }.attend(&spans)
        };
        add_product(pass, &part("self_attn.o_proj"), &attended, heads * head, &mut x, width)?;
        drop(attended);
        let gated = {
            let normed = norm(pass, model, &part("post_attention_layernorm"), &x)?;
            let mut gate = pass.linear(&part("mlp.gate_proj"), &normed, width, inner)?;
            pass.multiply(&part("mlp.up_proj"), &normed, width, inner, |rows, up| {
                for (gate, up) in gate.chunks_exact_mut(inner).zip(up.chunks_exact(rows.len())) {
                    let gate = &mut gate[rows.clone()];
                    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = silu(*gate) * up);
                }
            })?;
            gate
        };
        add_product(pass, &part("mlp.down_proj"), &gated, inner, &mut x, width)?;
        drop(gated);
        if layer + 1 == model.layers {
            x = norm(pass, model, "norm.weight", &x)?;
        }
        pooled.layer(layer, &x);
    }
    Ok(())
}

fn add_product(
    pass: &mut Pass<'_>,
    part: &str,
    x: &[f32],
    width: usize,
    sum: &mut [f32],
    outputs: usize,
) -> Result<(), CertifyError> {
    pass.multiply(part, x, width, outputs, |rows, product| {
        for (sum, product) in sum.chunks_exact_mut(outputs).zip(product.chunks_exact(rows.len())) {
            add(&mut sum[rows.clone()], product);
        }
    })
}

fn norm(pass: &Pass<'_>, model: &Qwen3, part: &str, x: &[f32]) -> Result<Vec<f32>, CertifyError> {
    let gamma = pass.rows(part, 0, model.width)?;
    let mut normed = x.to_vec();
    rms_norm(&mut normed, &gamma, model.epsilon);
    Ok(normed)
}
