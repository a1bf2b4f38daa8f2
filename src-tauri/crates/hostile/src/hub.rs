//! What people and servers say of models at the hub.

use std::path::{Component, Path};

use embedbar_hub::{Chosen, Digest, FilePath, Reference, RepositoryId, choice, is_commit, parsers};
use reqwest::Url;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn repository() -> RepositoryId {
    "owner/name".parse().expect("it has the form of an id")
}

/// Asserts that a text can be joined to a folder and stays in it.
fn assert_below(text: &str) {
    let plain = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    assert!(plain && !text.is_empty() && !text.contains(['\\', '\0', ':']), "`{text}` leads elsewhere");
}

/// A name, a link or a path that somebody wrote: what is accepted stays below its folder and means the same when it is read again.
pub fn hub_names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = FilePath::new(text) {
        assert_below(path.as_str());
    }
    if let Ok(repository) = text.parse::<RepositoryId>() {
        assert_below(repository.as_str());
        assert_below(&repository.folder());
        assert!(!repository.folder().contains('/'));
    }
    if let Some(digest) = Digest::parse(text) {
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
    }
    if let Ok(chosen) = Chosen::new(text.lines()) {
        let path = FilePath::new("onnx/model.onnx").expect("it is a path");
        let _ = chosen.wants(&path);
    }
    for endpoint in ["https://huggingface.co", "http://127.0.0.1:8080/mirror"] {
        let endpoint = Url::parse(endpoint).expect("it is an address");
        let Ok(reference) = Reference::parse(text, &endpoint) else { continue };
        assert_below(reference.repository.as_str());
        assert_below(reference.revision());
        if let Some(wish) = &reference.wish {
            assert_below(wish);
        }
        // A revision with a `/` or an `@`, or a wish with an `@`, can only be said by a link.
        let sayable = |text: Option<&String>| text.is_none_or(|text| !text.contains(['@', ':', '/']));
        let wish_ends = reference.wish.as_ref().is_some_and(|wish| wish.ends_with(char::is_whitespace));
        if sayable(reference.revision.as_ref()) && sayable(reference.wish.as_ref()) && !wish_ends {
            let again = Reference::parse(&reference.to_string(), &endpoint);
            assert_eq!(again.ok().as_ref(), Some(&reference), "`{reference}` is what it says");
        }
    }
    let _ = is_commit(text);
}

/// A wish on the first line, then a listing as the cache keeps it, or an answer about the repository.
pub fn hub_listing(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (wish, text) = (String::from_utf8_lossy(&bytes[..end]), bytes.get(end + 1..).unwrap_or_default());
    if let Some(Ok(description)) = parsers::description(text, &repository(), COMMIT) {
        let words = [&description.licence, &description.licence_link, &description.library, &description.pipeline];
        let words = words.into_iter().flatten().chain(&description.tags);
        assert!(words.flat_map(|word| word.chars()).all(|it| !it.is_control()), "what strangers say is cleaned");
    }
    let Some(Ok(snapshot)) = parsers::listing(text, &repository(), COMMIT) else { return };
    assert!(snapshot.size() >= snapshot.files.iter().map(|file| file.size).max().unwrap_or(0));
    let candidates = choice::candidates();
    for file in &snapshot.files {
        assert_below(file.path.as_str());
        let _ = candidates.wants(&file.path);
    }
    for wish in [None, Some(wish.as_ref())] {
        match choice::choose(&snapshot.files, wish) {
            Ok(choice) => {
                assert!(!choice.files.is_empty());
                for path in &choice.files {
                    assert!(snapshot.files.iter().any(|file| file.path == *path), "`{path}` is in the listing");
                    let pickle = [".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"];
                    let ends = |end: &&str| path.as_str().to_lowercase().ends_with(*end);
                    assert!(choice.kind == choice::Kind::Package || !pickle.iter().any(ends), "`{path}`");
                }
            }
            Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
        }
    }
}

/// The journal of a download: what it calls written lies in the file, in order, and nothing twice.
pub fn hub_journal(bytes: &[u8]) {
    let first = bytes.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = first.unwrap_or_default().split(' ').skip(1);
    let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(1 << 20);
    let digest = words.next().and_then(Digest::parse).unwrap_or(Digest::Git([0; 20]));
    let mut end = 0;
    for extent in parsers::journal(bytes, size, digest) {
        assert!(extent.start >= end && extent.end > extent.start && extent.end <= size, "{extent:?} of {size}");
        end = extent.end;
    }
}
