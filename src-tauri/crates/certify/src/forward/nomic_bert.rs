//! NomicBERT: as BERT, with rotary positions, a gated feed-forward layer and no biases. Texts are no longer than the training's,
//! as a target says to read them.

use embedbar_convert::NomicBert;

use super::layers::{Attention, add, add_bias, layer_norm, rotate, silu};
use super::{Pass, Pooled, spans};
use crate::CertifyError;

pub(super) fn run(
    pass: &mut Pass<'_>,
    model: &NomicBert,
    texts: &[Vec<u32>],
    pooled: &mut Pooled,
) -> Result<(), CertifyError> {
    let &NomicBert { width, inner, heads, theta, .. } = model;
    let (head, spans) = (width / heads, spans(texts));
    let mut x = pass.tokens("embeddings.word_embeddings.weight", texts, width)?;
    add_bias(&mut x, &pass.rows("embeddings.token_type_embeddings.weight", 0, width)?);
    norm(pass, model, "emb_ln", &mut x)?;
    for layer in 0..model.layers {
        let part = |name: &str| format!("encoder.layers.{layer}.{name}");
        let attended = {
            let mut each = [(); 3].map(|()| vec![0.0; x.len()]);
            pass.multiply(&part("attn.Wqkv.weight"), &x, width, 3 * width, |rows, product| {
                for (token, product) in product.chunks_exact(rows.len()).enumerate() {
                    for (row, &number) in rows.clone().zip(product) {
                        each[row / width][token * width + row % width] = number;
                    }
                }
            })?;
            let [queries, keys, values] = &mut each;
            rotate(queries, width, head, theta, &spans);
            rotate(keys, width, head, theta, &spans);
            Attention { queries, keys, values, heads, groups: heads, head, causal: false }.attend(&spans)
        };
        let output = pass.linear(&part("attn.out_proj.weight"), &attended, width, width)?;
        drop(attended);
        add(&mut x, &output);
        norm(pass, model, &part("norm1"), &mut x)?;
        let mut gated = pass.linear(&part("mlp.fc12.weight"), &x, width, inner)?;
        pass.multiply(&part("mlp.fc11.weight"), &x, width, inner, |rows, up| {
            for (gate, up) in gated.chunks_exact_mut(inner).zip(up.chunks_exact(rows.len())) {
                gate[rows.clone()].iter_mut().zip(up).for_each(|(gate, up)| *gate = silu(*gate) * up);
            }
        })?;
        let output = pass.linear(&part("mlp.fc2.weight"), &gated, inner, width)?;
        drop(gated);
        add(&mut x, &output);
        norm(pass, model, &part("norm2"), &mut x)?;
        pooled.layer(layer, &x);
    }
    Ok(())
}

fn norm(pass: &Pass<'_>, model: &NomicBert, part: &str, x: &mut [f32]) -> Result<(), CertifyError> {
    let gamma = pass.rows(&format!("{part}.weight"), 0, model.width)?;
    let beta = pass.rows(&format!("{part}.bias"), 0, model.width)?;
    layer_norm(x, &gamma, &beta, model.epsilon);
    Ok(())
}
