//! What an owner and its converter say to each other: a line of JSON each time, over the converter's standard input and output.
//!
//! The owner says [`ToConverter::Convert`] first and once; after that it may ask the converter to pause, go on or cancel at any
//! time. The end of its input tells the converter that the owner is gone. The converter says how far it is, at most about ten
//! times a second, and at the end one of [`FromConverter::Done`] and [`FromConverter::Failed`]. The first line carries the
//! owner's greeting, so that a converter of another build refuses instead of misreading it.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use embedbar_contract::{ConvertFormat, ConvertPrecision, Failure};

use crate::Hello;

/// From the owner.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToConverter {
    /// What to convert.
    Convert(Order),
    /// Wait at the next block.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Stop and leave nothing behind.
    Cancel,
}

/// One conversion.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// Who the owner is.
    pub owner: Hello,
    /// The checkpoint's folder.
    pub source: PathBuf,
    /// The file or package to make; its folder exists.
    pub target: PathBuf,
    /// What the matrices are stored as.
    pub precision: ConvertPrecision,
    /// What is made.
    pub format: ConvertFormat,
}

/// From the converter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromConverter {
    /// How far it is.
    Progress(Progress),
    /// The target is in its place; nothing follows.
    Done(Made),
    /// The target is as it was; nothing follows. A cancelled conversion fails with the code `cancelled`.
    Failed(Failure),
}

/// How far a conversion is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// What is being done, as a person reads it, such as `converting`.
    pub phase: String,
    /// What it is done to, such as a tensor's name; may be empty.
    pub item: String,
    /// Bytes that this phase has gone through. It begins anew when the new model is compared with its source.
    pub bytes_done: u64,
    /// Bytes that it goes through.
    pub bytes_total: u64,
}

/// What a conversion made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Made {
    /// Size of the source's weights.
    pub bytes_read: u64,
    /// Size of the target.
    pub bytes_written: u64,
    /// Its sha256.
    pub sha256: String,
    /// What a person should know about it, a sentence each.
    pub notes: Vec<String>,
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
    use embedbar_contract::{ConvertSystem, RecipeName};

    use super::*;
    use crate::Role;

    #[test]
    fn each_message_is_one_line_and_comes_back_from_it() {
        let order = Order {
            owner: Hello::ours(Role::Owner),
            source: "/models/a\nb".into(),
            target: "/models/x.mlpackage".into(),
            precision: ConvertPrecision::FourBit,
            format: ConvertFormat::Mlpackage { system: ConvertSystem::Macos15, recipe: RecipeName::Papr },
        };
        for message in [ToConverter::Convert(order), ToConverter::Pause, ToConverter::Cancel] {
            let line = to_line(&message).expect("its paths are UTF-8");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(from_line::<ToConverter>(&line).expect("our own line"), message);
        }
    }
}
