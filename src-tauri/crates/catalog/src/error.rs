//! What can be wrong with an entry.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A file is no TOML, lacks something or says something that the schema does not know.
    #[error("the catalogue's `{file}` cannot be read: {problem}")]
    Malformed {
        /// The file's name.
        file: String,
        /// Where and why.
        problem: String,
    },
    /// A file contradicts itself.
    #[error("the catalogue's `{file}` contradicts itself: {problem}")]
    Contradiction {
        /// The file's name.
        file: String,
        /// What and the numbers.
        problem: String,
    },
    /// Two entries go by one name.
    #[error("`{name}` is a name of both `{one}` and `{other}`")]
    SharedName {
        /// The name, in lower case.
        name: String,
        /// An entry's id.
        one: String,
        /// Another's.
        other: String,
    },
}
