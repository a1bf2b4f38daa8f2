//! The first frame of every conversation.

use serde::{Deserialize, Serialize};

use embedbar_contract::{Failure, FailureCode};

/// A fingerprint of the wire types that this program was built with.
pub const BUILD: &str = env!("EMBEDBAR_BUILD");

/// Who is speaking.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Owns a home.
    Owner,
    /// Holds a model for an owner.
    Worker,
    /// Asks an owner.
    Client,
}

/// Says who is speaking and in which dialect.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// Who is speaking.
    pub role: Role,
    /// The program's version, for people.
    pub version: String,
    /// The fingerprint of the wire types, for programs.
    pub build: String,
}

impl Hello {
    /// This program's own.
    pub fn ours(role: Role) -> Self {
        Self { role, version: env!("CARGO_PKG_VERSION").to_owned(), build: BUILD.to_owned() }
    }

    /// Whether the other side is what we expect and speaks as we do.
    pub fn check(&self, expected: Role) -> Result<(), Failure> {
        if self.role != expected {
            return Err(Failure::new(
                FailureCode::OwnerMismatch,
                format!("expected a program in the role `{expected:?}`, found `{:?}`", self.role),
            ));
        }
        if self.build != BUILD {
            return Err(Failure::new(
                FailureCode::OwnerMismatch,
                format!(
                    "the other program is Embedbar {} (build `{}`), this one is {} (build `{BUILD}`)",
                    self.version,
                    self.build,
                    env!("CARGO_PKG_VERSION")
                ),
            )
            .hint("Quit the other program, or build both from the same sources."));
        }
        Ok(())
    }
}
