//! What an owner and a child say to each other that does one long piece of work: a line of JSON each time, over the child's
//! standard input and output.
//!
//! The owner says [`ToChild::Begin`] first and once; after that it may ask the child to pause, go on or cancel at any time. The
//! end of its input tells the child that the owner is gone. The child says how far it is, at most about ten times a second, and
//! at the end one of [`FromChild::Done`] and [`FromChild::Failed`]. The first line carries the owner's greeting, so that a child
//! of another build refuses instead of misreading it.
//!
//! What the work is and what comes of it is for [`crate::converter`] and [`crate::installer`] to say.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use embedbar_contract::Failure;

use crate::Hello;

/// From the owner.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToChild<Order> {
    /// What to do.
    Begin(Begin<Order>),
    /// Wait at the next block.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Stop and leave nothing behind.
    Cancel,
}

/// The first line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Begin<Order> {
    /// Who the owner is.
    pub owner: Hello,
    /// What to do.
    pub order: Order,
}

/// From the child.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromChild<Done> {
    /// How far it is.
    Progress(Progress),
    /// It is done; nothing follows.
    Done(Done),
    /// Everything is as it was; nothing follows. Cancelled work fails with the code `cancelled`.
    Failed(Failure),
}

/// How far the work is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// What is being done, as a person reads it, such as `converting`.
    pub phase: String,
    /// What it is done to, such as a tensor's name; may be empty.
    pub item: String,
    /// Bytes that this phase has gone through. It begins anew with each phase.
    pub bytes_done: u64,
    /// Bytes that it goes through.
    pub bytes_total: u64,
}

/// A message as its line, with the end of the line. Fails where a path is not UTF-8.
pub fn to_line(message: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    Ok(line)
}

/// The message that a line holds.
pub fn from_line<T: DeserializeOwned>(line: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(line)
}

#[cfg(test)]
mod tests {
    use embedbar_contract::{ConvertFormat, ConvertPrecision, ConvertSystem, RecipeName};

    use super::*;
    use crate::Role;
    use crate::converter::Order;

    #[test]
    fn each_message_is_one_line_and_comes_back_from_it() {
        let order = Order {
            source: "/models/a\nb".into(),
            target: "/models/x.mlpackage".into(),
            precision: ConvertPrecision::FourBit,
            format: ConvertFormat::Mlpackage { system: ConvertSystem::Macos15, recipe: RecipeName::Papr },
        };
        let begin = ToChild::Begin(Begin { owner: Hello::ours(Role::Owner), order });
        for message in [begin, ToChild::Pause, ToChild::Cancel] {
            let line = to_line(&message).expect("its paths are UTF-8");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(from_line::<ToChild<Order>>(&line).expect("our own line"), message);
        }
    }
}
