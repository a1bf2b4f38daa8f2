//! What a client program and the owner of a home say to each other over `owner.sock`.
//!
//! After the two greetings a client sends calls, each with a number of its own choosing, and gets one reply for each, in any
//! order. A client that has said [`ToOwner::Watch`] also gets every snapshot.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use embedbar_contract::{Failure, Snapshot};

use crate::Hello;

/// From a client.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToOwner {
    /// Who the client is.
    Hello(Hello),
    /// A command of the contract.
    Call {
        /// Comes back with the reply.
        id: u64,
        /// The command's name.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// Send snapshots from now on.
    Watch,
}

/// From the owner.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromOwner {
    /// Who the owner is.
    Hello(Hello),
    /// A call succeeded; what it gave is the payload, as JSON text.
    Reply {
        /// The call's number.
        id: u64,
    },
    /// A call failed.
    Failed {
        /// The call's number.
        id: u64,
        /// Why.
        failure: Failure,
    },
    /// The newest picture.
    Snapshot(Box<Snapshot>),
}
