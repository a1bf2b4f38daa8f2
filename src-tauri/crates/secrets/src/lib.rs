//! Placeholder until the branch with the crate is merged.
use embedbar_contract::{Failure, FailureCode};
use std::path::Path;
/// s
pub struct Secrets;
/// s
pub struct Secret(String);
impl Secret {
    /// s
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
/// e
#[derive(Debug, thiserror::Error)]
#[error("no")]
pub struct SecretsError;
impl From<SecretsError> for Failure {
    fn from(_: SecretsError) -> Self {
        Failure::new(FailureCode::Io, "no")
    }
}
impl Secrets {
    /// n
    pub fn new(_: &Path) -> Self {
        Self
    }
    /// n
    pub fn get(&self, _: &str) -> Result<Option<Secret>, SecretsError> {
        Ok(None)
    }
    /// n
    pub fn set(&self, _: &str, _: &str) -> Result<(), SecretsError> {
        Ok(())
    }
    /// n
    pub fn remove(&self, _: &str) -> Result<(), SecretsError> {
        Ok(())
    }
    /// n
    pub fn place(&self) -> String {
        String::new()
    }
}
