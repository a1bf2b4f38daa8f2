//! What a person is shown and agrees to: plain values, the same for a container and for a model in another program.
//!
//! `bytes` is what the other program says that it holds. It is never what was gained: Docker Desktop's virtual machine often keeps
//! what a container gave back, and only a reading of the machine before and after tells. What is not here: that reading.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A program that may hold memory.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Program {
    /// A container engine with Docker's API: Docker Desktop, OrbStack, Colima, Rancher Desktop, podman.
    Docker,
    /// Ollama.
    Ollama,
    /// LM Studio.
    LmStudio,
    /// The server of llama.cpp.
    LlamaServer,
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Docker => "Docker",
            Self::Ollama => "Ollama",
            Self::LmStudio => "LM Studio",
            Self::LlamaServer => "llama-server",
        })
    }
}

/// Something that another program would give back if it were asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Offer {
    /// Accepts it. Only to be given back as it is.
    pub id: String,
    /// Who holds it.
    pub program: Program,
    /// The name of the container or model, without control characters.
    pub name: String,
    /// More about it: a container's image; empty where there is none.
    pub detail: String,
    /// How much the program says that it holds, in bytes; `None` where it does not say.
    pub bytes: Option<u64>,
}

impl Offer {
    /// What accepting it does, as a sentence without a period.
    pub fn action(&self) -> String {
        match self.program {
            Program::Docker => {
                format!("Stop the container {}, which is started again afterwards", self.name)
            }
            program => format!("Ask {program} to unload {}; its next request loads it again", self.name),
        }
    }
}

/// Something that holds memory, or may, and is not offered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Note {
    /// Who holds it.
    pub program: Program,
    /// Why it is not offered, and what a person could do, as a sentence.
    pub text: String,
}

/// What the other programs of this machine hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Survey {
    /// What can be asked for, the largest first, those of unknown size last.
    pub offers: Vec<Offer>,
    /// What cannot.
    pub notes: Vec<Note>,
}

/// What came of an offer that was accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The offer's id.
    pub id: String,
    /// Who held it; `None` where the id belongs to no offer.
    pub program: Option<Program>,
    /// The name in the offer; empty where the id belongs to no offer.
    pub name: String,
    /// How much the program said that it held, in bytes. Not what was gained.
    pub held_bytes: Option<u64>,
    /// What was done.
    pub deed: Deed,
}

/// What was done about an offer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Deed {
    /// The program gave it back: it no longer lists it.
    Released,
    /// There was nothing to do: it is no longer offered, because it ended or was unloaded meanwhile.
    AlreadyGone,
    /// The program was asked, and has not shown yet that it did.
    Unconfirmed {
        /// Why that is not known, as a sentence.
        reason: String,
    },
    /// Nothing was done.
    Refused {
        /// Why not, as a sentence.
        reason: String,
    },
}
