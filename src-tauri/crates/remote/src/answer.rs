//! What a server's answer must be before a number of it is used.
//!
//! One vector for each text, each index once in any order, all of one width, which is the width that was asked for and that
//! came before; every number finite and not all of them 0. Numbers may come as JSON or as base64 of little-endian 32-bit
//! floats, which some servers send unasked. The vectors leave here **with length 1** (L2), whatever the server does.
//!
//! A pure function of bytes. What is not here: how the bytes came.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Said;
use crate::said::Cleaner;

/// More numbers than any model's vectors have.
pub(crate) const MOST_WIDTH: usize = 65_536;

/// The most of a wrong answer in which its message is looked for.
const MOST_SAID_BYTES: usize = 64 * 1024;

/// What is wrong with an answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// Not JSON, or not the JSON of embeddings.
    #[error("it is not a list of embeddings ({reason}); it begins with `{begins}`")]
    NotEmbeddings {
        /// Where it departs.
        reason: String,
        /// Its first characters.
        begins: String,
    },
    /// An error under a status that says that all is well.
    #[error("it is an error under a status of success{said}")]
    ErrorInside {
        /// Its own words.
        said: Said,
    },
    /// Another number of vectors than of texts.
    #[error("it has {got} vector(s) for {asked} text(s)")]
    Count {
        /// Texts.
        asked: usize,
        /// Vectors.
        got: usize,
    },
    /// The place of a text that was not sent.
    #[error("it has a vector for text {index}, and the last one is {last}")]
    IndexOutside {
        /// The index, from 0.
        index: u64,
        /// The last one.
        last: usize,
    },
    /// Two vectors for one text.
    #[error("it has two vectors for text {index}")]
    IndexTwice {
        /// The index, from 0.
        index: usize,
    },
    /// Vectors of several widths.
    #[error("its vectors differ in width: {first} numbers for the first text, {other} for text {index}")]
    WidthsDiffer {
        /// Of the first text.
        first: usize,
        /// Of another one.
        other: usize,
        /// Which, from 0.
        index: usize,
    },
    /// Not the width that was asked for.
    #[error("its vectors have {got} numbers, {asked} were asked for")]
    WidthNotAsked {
        /// What was asked for.
        asked: usize,
        /// What came.
        got: usize,
    },
    /// Not the width of before: another model answers now.
    #[error("its vectors have {got} numbers, before they had {before}: another model answers now")]
    WidthChanged {
        /// Of earlier answers.
        before: usize,
        /// Of this one.
        got: usize,
    },
    /// It names another model than before.
    #[error("it is from model `{got}`, before it was `{before}`")]
    ModelChanged {
        /// Of earlier answers.
        before: String,
        /// Of this one.
        got: String,
    },
    /// Infinite, not a number, or missing.
    #[error("the vector of text {index} has a place without a finite number")]
    NotFinite {
        /// Which text, from 0.
        index: usize,
    },
    /// Nothing but zeros, or no numbers at all.
    #[error("the vector of text {index} is nothing but zeros")]
    Zeros {
        /// Which text, from 0.
        index: usize,
    },
}

impl AnswerFault {
    /// What the reader can do, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::WidthNotAsked { .. } => {
                "This model may not shorten its vectors: leave `EMBEDBAR_REMOTE_DIMENSIONS` out, or set what it makes."
            }
            Self::WidthChanged { .. } | Self::ModelChanged { .. } => {
                "Name one exact model in `EMBEDBAR_REMOTE_MODEL`, and index again: vectors of two models cannot be compared."
            }
            Self::ErrorInside { .. } => "Check `EMBEDBAR_REMOTE_MODEL`; the server's own words say more.",
            Self::NotEmbeddings { .. } => {
                "Check that `EMBEDBAR_REMOTE_URL` is an embeddings server; it often ends in `/v1`."
            }
            _ => "The server is faulty: tell whoever runs it, or use another one.",
        }
    }
}

/// What an answer is measured by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected<'before> {
    /// Texts that were sent.
    pub(crate) texts: usize,
    /// The width that was asked for.
    pub(crate) dimensions: Option<NonZeroU32>,
    /// What came before.
    pub(crate) before: Option<&'before Seen>,
}

/// What is remembered of a server's answers, to notice that it changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Numbers of each vector.
    pub(crate) width: usize,
    /// The model that it names, where it names one.
    pub(crate) model: Option<String>,
}

/// An answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// In the order of the texts, each of length 1.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts, where the server counts them.
    pub(crate) tokens: Option<usize>,
    /// What to remember.
    pub(crate) seen: Seen,
}

#[derive(Deserialize)]
struct Body<'body> {
    data: Option<Vec<Item>>,
    model: Option<String>,
    // Not taken apart before it is known to be needed: an unknown value may be anything.
    #[serde(borrow)]
    usage: Option<&'body RawValue>,
    #[serde(borrow)]
    error: Option<&'body RawValue>,
}

#[derive(Deserialize)]
struct Item {
    index: u64,
    embedding: Numbers,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
}

/// Reads an answer to one request.
pub(crate) fn read(body: &[u8], expected: Expected<'_>, clean: Cleaner<'_>) -> Result<Answer, AnswerFault> {
    let not_embeddings = |reason: &str| AnswerFault::NotEmbeddings {
        reason: clean.text(reason),
        begins: clean.text(&String::from_utf8_lossy(&body[..body.len().min(MOST_SAID_BYTES)])),
    };
    let Body { data, model, usage, error } =
        serde_json::from_slice(body).map_err(|error| not_embeddings(&error.to_string()))?;
    let Some(data) = data else {
        return Err(match error {
            Some(_) => AnswerFault::ErrorInside { said: clean.said(&body[..body.len().min(MOST_SAID_BYTES)]) },
            None => not_embeddings("there is no `data`"),
        });
    };
    let mut vectors = in_order(data, expected.texts)?;
    let width = check_widths(&vectors, expected)?;
    for (index, vector) in vectors.iter_mut().enumerate() {
        normalise(vector, index)?;
    }
    let before = expected.before.and_then(|before| before.model.clone());
    let seen = match (before, model.map(|model| clean.text(&model))) {
        (Some(before), Some(got)) if before != got => return Err(AnswerFault::ModelChanged { before, got }),
        (before, got) => Seen { width, model: before.or(got) },
    };
    let tokens =
        usage.and_then(|usage| serde_json::from_str::<Usage>(usage.get()).ok()).map(|usage| usage.prompt_tokens);
    Ok(Answer { vectors, tokens, seen })
}

fn in_order(data: Vec<Item>, texts: usize) -> Result<Vec<Vec<f32>>, AnswerFault> {
    if data.len() != texts || texts == 0 {
        return Err(AnswerFault::Count { asked: texts, got: data.len() });
    }
    let mut places: Vec<Option<Vec<f32>>> = vec![None; texts];
    for Item { index, embedding } in data {
        let place = usize::try_from(index).ok().and_then(|index| places.get_mut(index));
        let Some(place) = place else { return Err(AnswerFault::IndexOutside { index, last: texts - 1 }) };
        if place.replace(embedding.0).is_some() {
            return Err(AnswerFault::IndexTwice { index: index as usize });
        }
    }
    // As many as places, none twice: every place has one.
    Ok(places.into_iter().flatten().collect())
}

fn check_widths(vectors: &[Vec<f32>], expected: Expected<'_>) -> Result<usize, AnswerFault> {
    let first = vectors.first().map_or(0, Vec::len);
    if let Some((index, other)) = vectors.iter().enumerate().find(|(_, vector)| vector.len() != first) {
        return Err(AnswerFault::WidthsDiffer { first, other: other.len(), index });
    }
    if let Some(asked) = expected.dimensions.map(|asked| asked.get() as usize).filter(|&asked| asked != first) {
        return Err(AnswerFault::WidthNotAsked { asked, got: first });
    }
    match expected.before {
        Some(before) if before.width != first => Err(AnswerFault::WidthChanged { before: before.width, got: first }),
        _ => Ok(first),
    }
}

/// Gives a vector the length 1. In 64 bits, where the square of no 32-bit number overflows or vanishes.
fn normalise(vector: &mut [f32], index: usize) -> Result<(), AnswerFault> {
    if !vector.iter().all(|number| number.is_finite()) {
        return Err(AnswerFault::NotFinite { index });
    }
    let length = vector.iter().map(|&number| f64::from(number) * f64::from(number)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err(AnswerFault::Zeros { index });
    }
    for number in vector {
        *number = (f64::from(*number) / length) as f32;
    }
    Ok(())
}

/// A vector in one of its two forms. Read number by number: the general way would keep each in 32 bytes meanwhile.
struct Numbers(Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Numbers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("numbers or their base64")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                // `null` is how JSON writes what is not a number.
                while let Some(number) = sequence.next_element::<Option<f32>>()? {
                    if numbers.len() == MOST_WIDTH {
                        return Err(A::Error::custom(format_args!("a vector has more than {MOST_WIDTH} numbers")));
                    }
                    numbers.push(number.unwrap_or(f32::NAN));
                }
                Ok(Numbers(numbers))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Numbers, E> {
                let bytes = STANDARD.decode(text).map_err(|_| E::custom("a vector is a text that is not base64"))?;
                let (numbers, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() || numbers.len() > MOST_WIDTH {
                    let length = bytes.len();
                    return Err(E::custom(format_args!("a vector in base64 has {length} bytes: no 32-bit numbers")));
                }
                Ok(Numbers(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read_json(body: &Value, expected: Expected<'_>) -> Result<Answer, AnswerFault> {
        read(body.to_string().as_bytes(), expected, Cleaner::default())
    }

    fn for_texts(texts: usize) -> Expected<'static> {
        Expected { texts, ..Expected::default() }
    }

    fn answer_with(vectors: &[(usize, &[f32])]) -> Value {
        let data: Vec<Value> =
            vectors.iter().map(|(index, vector)| json!({"index": index, "embedding": vector})).collect();
        json!({"object": "list", "data": data})
    }

    #[test]
    fn vectors_come_out_in_the_order_of_the_texts_and_with_length_one() {
        let mut body = answer_with(&[(1, &[0.0, -2.0]), (0, &[3.0, 4.0])]);
        body["usage"] = json!({"prompt_tokens": 7, "total_tokens": 7});
        body["model"] = json!("m-2");
        let answer = read_json(&body, for_texts(2)).expect("it is right");
        assert_eq!(answer.vectors, [[0.6, 0.8], [0.0, -1.0]]);
        assert_eq!(answer.tokens, Some(7));
        assert_eq!(answer.seen, Seen { width: 2, model: Some("m-2".to_owned()) });
    }

    #[test]
    fn numbers_may_come_as_base64_and_be_huge_or_tiny() {
        let text = STANDARD.encode([3.0_f32.to_le_bytes(), 4.0_f32.to_le_bytes()].concat());
        let body = json!({"data": [{"index": 0, "embedding": text}]});
        assert_eq!(read_json(&body, for_texts(1)).expect("it is right").vectors, [[0.6, 0.8]]);
        for scale in [f32::MAX, f32::MIN_POSITIVE] {
            let answer = read_json(&answer_with(&[(0, &[scale, 0.0])]), for_texts(1)).expect("it is right");
            assert_eq!(answer.vectors, [[1.0, 0.0]]);
        }
    }

    #[test]
    fn a_count_of_tokens_that_is_none_is_no_reason_to_refuse() {
        for usage in
            [json!(null), json!({}), json!({"prompt_tokens": "many"}), json!({"prompt_tokens": -1}), json!([[1]])]
        {
            let mut body = answer_with(&[(0, &[1.0])]);
            body["usage"] = usage;
            assert_eq!(read_json(&body, for_texts(1)).expect("it is right").tokens, None);
        }
    }

    #[test]
    fn every_departure_has_its_own_name() {
        let right: &[f32] = &[1.0, 2.0];
        let expect = |body: &Value, fault: &AnswerFault| {
            assert_eq!(&read_json(body, for_texts(2)).expect_err("it is wrong"), fault);
        };
        expect(&answer_with(&[(0, right)]), &AnswerFault::Count { asked: 2, got: 1 });
        expect(&answer_with(&[(0, right), (1, right), (2, right)]), &AnswerFault::Count { asked: 2, got: 3 });
        expect(&answer_with(&[(0, right), (0, right)]), &AnswerFault::IndexTwice { index: 0 });
        expect(&answer_with(&[(0, right), (2, right)]), &AnswerFault::IndexOutside { index: 2, last: 1 });
        let uneven = AnswerFault::WidthsDiffer { first: 2, other: 1, index: 1 };
        expect(&answer_with(&[(0, right), (1, &[1.0])]), &uneven);
        expect(&answer_with(&[(0, right), (1, &[0.0, -0.0])]), &AnswerFault::Zeros { index: 1 });
        expect(&answer_with(&[(0, &[]), (1, &[])]), &AnswerFault::Zeros { index: 0 });
        let with_null = json!({"data": [{"index": 0, "embedding": [1, null]}, {"index": 1, "embedding": [1, 2]}]});
        expect(&with_null, &AnswerFault::NotFinite { index: 0 });
        let infinite = STANDARD.encode(f32::INFINITY.to_le_bytes());
        let infinite = json!({"data": [{"index": 0, "embedding": infinite}, {"index": 1, "embedding": [1]}]});
        expect(&infinite, &AnswerFault::NotFinite { index: 0 });
        let beyond_32_bits = json!({"data": [{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1]}]});
        expect(&beyond_32_bits, &AnswerFault::NotFinite { index: 0 });
    }

    #[test]
    fn a_width_is_what_was_asked_for_and_what_came_before() {
        let body = answer_with(&[(0, &[1.0, 2.0])]);
        let asked = Expected { texts: 1, dimensions: NonZeroU32::new(3), before: None };
        assert_eq!(read_json(&body, asked), Err(AnswerFault::WidthNotAsked { asked: 3, got: 2 }));
        let before = Seen { width: 3, model: None };
        let changed = Expected { texts: 1, dimensions: None, before: Some(&before) };
        assert_eq!(read_json(&body, changed), Err(AnswerFault::WidthChanged { before: 3, got: 2 }));
    }

    #[test]
    fn a_model_that_is_named_stays_the_same() {
        let mut body = answer_with(&[(0, &[1.0])]);
        let before = Seen { width: 1, model: Some("m-1".to_owned()) };
        let expected = Expected { texts: 1, dimensions: None, before: Some(&before) };
        assert_eq!(read_json(&body, expected).expect("it names none").seen, before);
        body["model"] = json!("m-2");
        let fault = AnswerFault::ModelChanged { before: "m-1".to_owned(), got: "m-2".to_owned() };
        assert_eq!(read_json(&body, expected), Err(fault));
    }

    #[test]
    fn what_is_no_list_of_embeddings_is_shown_by_its_beginning() {
        for (body, says) in [
            ("", "EOF"),
            ("<html><title>502</title>", "it begins with `<html><title>502</title>`"),
            (r#"{"object":"list"}"#, "there is no 'data'"),
            (r#"{"data":[{"embedding":[1]}]}"#, "missing field 'index'"),
            (r#"{"data":[{"index":0,"embedding":[NaN]}]}"#, "expected value"),
            (r#"{"data":[{"index":0,"embedding":["1"]}]}"#, "invalid type"),
            (r#"{"data":[{"index":0,"embedding":"!!"}]}"#, "not base64"),
            (r#"{"data":[{"index":0,"embedding":"AAA="}]}"#, "2 bytes: no 32-bit numbers"),
            (r#"{"data":[{"index":-1,"embedding":[1]}]}"#, "invalid value"),
            (r#"{"error":{"message":"try later"}}"#, "it says: `try later`"),
        ] {
            let fault = read(body.as_bytes(), for_texts(1), Cleaner::default()).expect_err(body).to_string();
            assert!(fault.contains(says), "{body}: {fault}");
        }
        let wide = json!({"data": [{"index": 0, "embedding": vec![1; MOST_WIDTH + 1]}]});
        assert!(read_json(&wide, for_texts(1)).expect_err("it is too wide").to_string().contains("more than 65536"));
    }

    /// Texts of any number with vectors of one width, with their places mixed.
    fn shuffled() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<usize>)> {
        (1_usize..12, 1_usize..9).prop_flat_map(|(texts, width)| {
            let number = prop_oneof![-1e3_f32..1e3, -1e-30_f32..1e-30];
            let vector = prop::collection::vec(number, width);
            let order = Just((0..texts).collect::<Vec<_>>()).prop_shuffle();
            (prop::collection::vec(vector, texts), order)
        })
    }

    proptest! {
        #[test]
        fn any_order_and_either_form_give_the_same_unit_vectors((vectors, order) in shuffled(), base64: bool) {
            let item = |&index: &usize| {
                let vector: &[f32] = &vectors[index];
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                let embedding = if base64 { json!(STANDARD.encode(bytes)) } else { json!(vector) };
                json!({"index": index, "embedding": embedding})
            };
            let body = json!({"data": order.iter().map(item).collect::<Vec<_>>()});
            let zeros = vectors.iter().position(|vector| vector.iter().all(|&number| number == 0.0));
            match read_json(&body, for_texts(vectors.len())) {
                Ok(answer) => {
                    prop_assert_eq!(zeros, None);
                    for (vector, unit) in vectors.iter().zip(&answer.vectors) {
                        let length: f64 = vector.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>().sqrt();
                        for (number, scaled) in vector.iter().zip(unit) {
                            prop_assert!((f64::from(*scaled) * length - f64::from(*number)).abs() <= 1e-6 * length);
                        }
                    }
                }
                Err(fault) => prop_assert_eq!(Some(fault), zeros.map(|index| AnswerFault::Zeros { index })),
            }
        }

        #[test]
        fn arbitrary_bytes_are_an_answer_or_a_sentence(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let fault = read(&bytes, for_texts(1), Cleaner::default()).expect_err("no noise is an answer");
            prop_assert!(!fault.to_string().chars().any(char::is_control));
        }

        #[test]
        fn an_answer_with_one_byte_changed_is_an_answer_or_a_sentence(place: prop::sample::Index, byte: u8) {
            let mut body = answer_with(&[(0, &[1.0, 2.0]), (1, &[3.0, -4.0])]).to_string().into_bytes();
            let place = place.index(body.len());
            body[place] = byte;
            if let Ok(answer) = read(&body, for_texts(2), Cleaner::default()) {
                let sound = |vector: &Vec<f32>| vector.len() == answer.seen.width && vector.iter().all(|it| it.is_finite());
                prop_assert!(answer.vectors.len() == 2 && answer.vectors.iter().all(sound));
            }
        }
    }
}
