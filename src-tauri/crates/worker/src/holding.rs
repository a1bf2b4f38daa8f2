//! What a worker holds: a model that runs here, or a connection to a server on the network. Both answer the same way.

use embedbar_contract::{BackendName, Failure, FailureCode, PromptKind, RecipeName};
use embedbar_engine::{Engine, Urgency, with_urgency};
use embedbar_remote::{Endpoint, RemoteEmbedder};
use embedbar_wire::worker::{BatchSize, Embed, Embedded, Lane, Loaded, RemoteSource};

/// Asked once at the load: a server says nothing about its vectors before it has made one.
const FIRST_TEXT: &str = "Embedbar is ready.";

/// What answers.
pub(crate) enum Holding {
    Model(Box<Engine>),
    Server { embedder: Box<RemoteEmbedder>, dims: usize },
}

/// Vectors end to end, and what goes with them.
pub(crate) struct Answer {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) embedded: Embedded,
}

impl Holding {
    /// Connects to a server. A text is sent to it: whoever asked for this has a person's word.
    pub(crate) fn connect(source: &RemoteSource) -> Result<Self, Failure> {
        let endpoint: Endpoint = serde_json::from_str(&source.0)
            .map_err(|_| Failure::internal("the owner described a server in a way that is not understood"))?;
        let embedder = RemoteEmbedder::open(endpoint)?;
        let first = embedder.embed(&[FIRST_TEXT.to_owned()])?;
        let dims = first.vectors.first().map_or(0, Vec::len);
        Ok(Self::Server { embedder: Box::new(embedder), dims })
    }

    pub(crate) fn loaded(&self) -> Loaded {
        match self {
            Self::Model(engine) => Loaded {
                generation: engine.generation(engine.own_recipe()),
                dims: engine.dims(),
                max_tokens: engine.max_tokens(),
                backend: engine.backend(),
            },
            Self::Server { embedder, dims } => Loaded {
                generation: embedder.endpoint().generation(),
                dims: *dims,
                max_tokens: 0, // a server does not say
                backend: BackendName::Remote,
            },
        }
    }

    pub(crate) fn embed(&mut self, request: &Embed) -> Result<Answer, Failure> {
        match self {
            Self::Model(engine) => {
                engine.divide_batches(match request.batches {
                    BatchSize::Full => 1,
                    BatchSize::Quarter => 4,
                });
                let urgency = match request.lane {
                    Lane::Query => Urgency::UserInitiated,
                    Lane::Bulk => Urgency::Utility,
                };
                let embed = || engine.embed(&request.texts, request.prompt, request.recipe);
                let batch = with_urgency(urgency, embed)?;
                let embedded = Embedded {
                    tokens: batch.tokens,
                    truncated: batch.truncated,
                    generation: engine.generation(request.recipe),
                    tokenize_ms: batch.tokenize_ms,
                    forward_ms: batch.forward_ms,
                };
                Ok(Answer { vectors: batch.vectors, embedded })
            }
            Self::Server { embedder, .. } => ask(embedder, request),
        }
    }
}

/// A server applies its own recipe to the text as it is; which prompts its model has, nobody here knows.
fn ask(embedder: &RemoteEmbedder, request: &Embed) -> Result<Answer, Failure> {
    if request.recipe != RecipeName::Native {
        return Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("a server on the network does not know the recipe `{}`", request.recipe),
        )
        .hint("Ask for the native recipe, or use a model on this machine."));
    }
    if request.prompt != PromptKind::None {
        tracing::debug!("the prompt of a model behind a server is not known, so the text is sent as it is");
    }
    let batch = embedder.embed(&request.texts)?;
    let embedded = Embedded {
        tokens: shares(batch.tokens.unwrap_or(0), &request.texts),
        truncated: vec![None; request.texts.len()],
        generation: embedder.endpoint().generation(),
        tokenize_ms: 0.0,
        forward_ms: batch.milliseconds,
    };
    Ok(Answer { vectors: batch.vectors, embedded })
}

/// A server counts the tokens of a request, not of a text: they are shared out by length.
fn shares(tokens: usize, texts: &[String]) -> Vec<usize> {
    let bytes: usize = texts.iter().map(String::len).sum();
    let mut given = 0;
    let mut before = 0;
    let share = |text: &String| {
        before += text.len();
        let until = (tokens * before).checked_div(bytes).unwrap_or(0);
        let own = until - given;
        given = until;
        own
    };
    texts.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shared_out_by_length_and_none_is_lost() {
        let texts = ["ab".to_owned(), String::new(), "abcd".to_owned()];
        assert_eq!(shares(9, &texts), [3, 0, 6]);
        assert_eq!(shares(10, &texts).iter().sum::<usize>(), 10);
        assert_eq!(shares(0, &[String::new()]), [0]);
    }
}
