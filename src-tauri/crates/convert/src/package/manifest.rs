//! `Manifest.json`: which files a package consists of. Its identifiers follow from the model, so that the same model has the
//! same manifest.

use sha2::{Digest, Sha256};

/// Paths inside a package.
pub(crate) mod path {
    /// Which files there are.
    pub(crate) const MANIFEST: &str = "Manifest.json";
    /// The program.
    pub(crate) const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
    /// The arrays.
    pub(crate) const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
}

/// The manifest of the package whose `model.mlmodel` is `model`.
pub(crate) fn manifest(model: &[u8]) -> String {
    let (program, weights) = (identifier("model", model), identifier("weights", model));
    let item = |description: &str, name: &str, path: &str| {
        format!(
            r#"{{
            "author": "com.apple.CoreML",
            "description": "CoreML Model {description}",
            "name": "{name}",
            "path": "com.apple.CoreML/{path}"
        }}"#
        )
    };
    format!(
        r#"{{
    "fileFormatVersion": "1.0.0",
    "itemInfoEntries": {{
        "{program}": {},
        "{weights}": {}
    }},
    "rootModelIdentifier": "{program}"
}}
"#,
        item("Specification", "model.mlmodel", "model.mlmodel"),
        item("Weights", "weights", "weights"),
    )
}

/// A UUID of version 8 (RFC 9562: made from whatever one likes), here from a sha256.
fn identifier(item: &str, model: &[u8]) -> String {
    let hash = Sha256::new().chain_update(item).chain_update([0]).chain_update(model).finalize();
    let mut bytes: [u8; 16] = hash[..16].try_into().expect("a sha256 has 32 bytes. This is a bug.");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = format!("{:032x}", u128::from_be_bytes(bytes));
    [&number[..8], &number[8..12], &number[12..16], &number[16..20], &number[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_manifest_lists_both_items_and_its_root_is_the_program() {
        let text = manifest(b"model");
        assert_eq!(text, manifest(b"model"));
        let json: Value = serde_json::from_str(&text).expect("it is JSON");
        let root = json["rootModelIdentifier"].as_str().expect("it is a text");
        assert_eq!(json["itemInfoEntries"].as_object().expect("it is a map").len(), 2);
        assert_eq!(json["itemInfoEntries"][root]["path"], "com.apple.CoreML/model.mlmodel");
    }

    #[test]
    fn identifiers_have_the_form_of_a_uuid_and_depend_on_the_model() {
        let one = identifier("model", b"1");
        assert_eq!((one.len(), &one[14..15]), (36, "8"));
        assert!(one.chars().all(|it| it == '-' || it.is_ascii_digit() || ('a'..='f').contains(&it)), "{one}");
        assert_ne!(one, identifier("model", b"2"));
        assert_ne!(one, identifier("weights", b"1"));
    }
}
