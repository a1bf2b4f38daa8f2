//! What the hub says about a repository: what a person wants to see before saying yes.
//!
//! Strangers wrote it: every word is cleaned and cut. What is not here: the card's text.

use serde_json::Value;

use crate::error::cleaned;
use crate::{HubError, RepositoryId};

/// The most tags that are kept.
const MOST_TAGS: usize = 64;

/// A repository, in the hub's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// Which one.
    pub repository: RepositoryId,
    /// What the revision stands for, 40 hexadecimal digits.
    pub commit: String,
    /// Such as `apache-2.0`; of a licence that has no short name the name that the card gives. `None`: nobody said.
    pub licence: Option<String>,
    /// Where its text is, if the card says so.
    pub licence_link: Option<String>,
    /// Whether its conditions must be accepted before files are given out.
    pub gated: Gate,
    /// Such as `sentence-transformers`, `mlx`, `gguf`.
    pub library: Option<String>,
    /// What it is for, such as `feature-extraction`.
    pub pipeline: Option<String>,
    /// The rest.
    pub tags: Vec<String>,
}

/// Whether files are given to everybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// They are.
    Open,
    /// To those who accepted the conditions.
    Automatic,
    /// To those whom the owners let in.
    Manual,
}

impl Description {
    /// Reads the answer of the interface for one revision.
    pub(crate) fn of(repository: &RepositoryId, commit: String, answer: &Value) -> Result<Self, HubError> {
        if answer["disabled"].as_bool() == Some(true) {
            let said = "the hub has disabled this repository".to_owned();
            return Err(HubError::Forbidden { repository: repository.to_string(), said });
        }
        let word = |value: &Value| value.as_str().map(cleaned).filter(|word| !word.trim().is_empty());
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(word).take(MOST_TAGS).collect()
        };
        let card = &answer["cardData"];
        let tags = words(&answer["tags"]);
        let short = match &card["license"] {
            Value::Array(_) => Some(words(&card["license"]).join(", ")).filter(|text| !text.is_empty()),
            value => word(value),
        };
        let short = short.or_else(|| tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned));
        let licence = match short.as_deref() {
            Some("other") => word(&card["license_name"]).or(short),
            _ => short,
        };
        let gated = match &answer["gated"] {
            Value::String(how) if how == "manual" => Gate::Manual,
            Value::String(_) | Value::Bool(true) => Gate::Automatic,
            _ => Gate::Open,
        };
        Ok(Self {
            repository: repository.clone(),
            commit,
            licence,
            licence_link: word(&card["license_link"]),
            gated,
            library: word(&answer["library_name"]),
            pipeline: word(&answer["pipeline_tag"]),
            tags,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(answer: &Value) -> Description {
        Description::of(&"o/n".parse().expect("an id"), "c".repeat(40), answer).expect("a description")
    }

    #[test]
    fn the_licence_is_found_wherever_the_hub_puts_it() {
        for (answer, expected) in [
            (json!({"cardData": {"license": "apache-2.0"}}), Some("apache-2.0")),
            (json!({"cardData": {"license": ["mit", "apache-2.0"]}}), Some("mit, apache-2.0")),
            (json!({"tags": ["x", "license:mit"]}), Some("mit")),
            (json!({"cardData": {"license": "other", "license_name": "gemma\n"}}), Some("gemma")),
            (json!({"cardData": {"license": "other"}}), Some("other")),
            (json!({"cardData": null}), None),
            (json!([1, 2]), None),
        ] {
            assert_eq!(read(&answer).licence.as_deref(), expected, "{answer}");
        }
    }

    #[test]
    fn gates_are_told_apart_and_a_disabled_repository_is_an_error() {
        for (gated, expected) in [
            (json!(false), Gate::Open),
            (json!(null), Gate::Open),
            (json!("auto"), Gate::Automatic),
            (json!(true), Gate::Automatic),
            (json!("manual"), Gate::Manual),
        ] {
            assert_eq!(read(&json!({"gated": gated})).gated, expected);
        }
        let id = "o/n".parse().expect("an id");
        assert!(Description::of(&id, String::new(), &json!({"disabled": true})).is_err());
    }

    #[test]
    fn long_and_hostile_words_are_cut() {
        let found =
            read(&json!({"tags": vec!["t"; 1000], "library_name": "a\u{1b}[31m".repeat(1000), "pipeline_tag": 7}));
        assert_eq!(found.tags.len(), MOST_TAGS);
        assert!(found.library.is_some_and(|word| word.len() <= 200 && !word.contains('\u{1b}')));
        assert_eq!(found.pipeline, None);
    }
}
