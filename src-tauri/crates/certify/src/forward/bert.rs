//! BERT and XLM-R: attention, sum, norm, feed-forward, sum, norm.

use embedbar_convert::{Activation, Bert};

use super::layers::{Attention, add, add_bias, gelu, gelu_tanh, layer_norm};
use super::{Pass, Pooled, spans};
use crate::CertifyError;
use crate::weights::POSITIONS;

pub(super) fn run(
    pass: &mut Pass<'_>,
    model: &Bert,
    texts: &[Vec<u32>],
    pooled: &mut Pooled,
) -> Result<(), CertifyError> {
    let (width, spans) = (model.width, spans(texts));
    let mut x = pass.tokens("embeddings.word_embeddings.weight", texts, width)?;
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let positions = pass.rows(POSITIONS, 0, longest * width)?;
    let first_type = pass.rows("embeddings.token_type_embeddings.weight", 0, width)?;
    for span in &spans {
        add(&mut x[span.start * width..span.end * width], &positions[..span.len() * width]);
    }
    add_bias(&mut x, &first_type);
    norm(pass, model, "embeddings.LayerNorm", &mut x)?;
    for layer in 0..model.layers {
        let part = |name: &str| format!("encoder.layer.{layer}.{name}");
        let attended = {
            let queries = linear(pass, &part("attention.self.query"), &x, width, width)?;
            let keys = linear(pass, &part("attention.self.key"), &x, width, width)?;
            let values = linear(pass, &part("attention.self.value"), &x, width, width)?;
            let (heads, head) = (model.heads, width / model.heads);
            let (queries, keys, values) = (&queries, &keys, &values);
            Attention { queries, keys, values, heads, groups: heads, head, causal: false }.attend(&spans)
        };
        let output = linear(pass, &part("attention.output.dense"), &attended, width, width)?;
        drop(attended);
        add(&mut x, &output);
        norm(pass, model, &part("attention.output.LayerNorm"), &mut x)?;
        let mut inner = linear(pass, &part("intermediate.dense"), &x, width, model.inner)?;
        let activation = match model.activation {
            Activation::Gelu => gelu,
            Activation::GeluTanh => gelu_tanh,
            Activation::Relu => |number: f32| number.max(0.0),
        };
        for number in &mut inner {
            *number = activation(*number);
        }
        let output = linear(pass, &part("output.dense"), &inner, model.inner, width)?;
        drop(inner);
        add(&mut x, &output);
        norm(pass, model, &part("output.LayerNorm"), &mut x)?;
        pooled.layer(layer, &x);
    }
    Ok(())
}

fn linear(pass: &mut Pass<'_>, part: &str, x: &[f32], width: usize, outputs: usize) -> Result<Vec<f32>, CertifyError> {
    let mut out = pass.linear(&format!("{part}.weight"), x, width, outputs)?;
    add_bias(&mut out, &pass.rows(&format!("{part}.bias"), 0, outputs)?);
    Ok(out)
}

fn norm(pass: &Pass<'_>, model: &Bert, part: &str, x: &mut [f32]) -> Result<(), CertifyError> {
    let gamma = pass.rows(&format!("{part}.weight"), 0, model.width)?;
    let beta = pass.rows(&format!("{part}.bias"), 0, model.width)?;
    layer_norm(x, &gamma, &beta, model.epsilon);
    Ok(())
}
