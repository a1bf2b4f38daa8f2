//! The `.env` that is followed: what it says, what it means, what is wrong with it, and how it changes.
//!
//! ```text
//! file ─► document ─► written ─────────► settings ─► (lifecycle)
//!          bytes,      what the user      what it
//!          spans       wrote, by name     means
//!            │
//!            ├─► lint ─► edit ─► file     findings, mends that touch no other byte
//!            └── watch                    a save becomes one event
//! trust, followed: which file may change anything, and which one is listened to
//! ```
//!
//! [`variables`] declares every name once; the lint, the settings and the README's table are made from it. python-dotenv's
//! reading is the truth for values, because it is what the SDK's scripts use. There are libraries that read such files
//! (dotenvy, adotenv); none of them is python-dotenv to the letter and keeps every byte, and both are needed here.
//!
//! What is not here: any decision about models or memory, any change of this process's environment, any network.

mod describe;
mod document;
mod edit;
mod error;
mod file;
mod followed;
mod lint;
mod python;
mod secret;
mod settings;
mod trust;
pub mod variables;
mod watch;
mod world;
mod written;

pub use describe::Described;
pub use document::{Binding, Breakage, Content, Document, Line, Newline, Quote, Unparsed, UnparsedReason, Value};
pub use edit::{ChangedLine, Edit, apply, changed_lines, comment_out, set};
pub use error::SettingsError;
pub use file::{ContentHash, EnvFile, MOST_BYTES};
pub use followed::Followed;
pub use lint::{Code, Finding, Fix, Fixed, Severity, fix_all, lint};
pub use secret::{Secret, is_secret, shown};
pub use settings::{
    BackendWish, ComputeUnits, Difference, Fallback, IdleWish, LastGood, Layers, ModelWish, Offered, Origin, Problem,
    Remote, Resolved, SdkReading, Settings, Wish, differences, resolve,
};
pub use trust::{Trust, Verdict};
pub use variables::variables_table;
pub use watch::{FileEvent, Patience, Watch};
pub use world::{Disk, World};
pub use written::{Entry, Written};
