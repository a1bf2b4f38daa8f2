//! The list of commands, and the two ways to carry one out: here ([`dispatch`]) or elsewhere ([`Remote`]).

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

#[allow(clippy::wildcard_imports, reason = "the command list names most of the types")]
use crate::library::*;
#[allow(clippy::wildcard_imports, reason = "likewise")]
use crate::types::*;
use crate::{Failure, FailureCode};

/// A stream of snapshots; slow readers skip to the newest.
pub trait Updates: Send {
    /// Waits for a snapshot newer than the last one returned; `None` when the application has ended.
    fn next(&mut self) -> impl Future<Output = Option<Snapshot>> + Send;
}

/// A reply as JSON text.
pub type ReplyJson = Box<RawValue>;

/// Carries one call to an application that lives elsewhere.
pub trait Connection: Send + Sync {
    /// Sends `method` with `params` and waits for the reply.
    fn call(&self, method: &'static str, params: Value) -> impl Future<Output = Result<ReplyJson, Failure>> + Send;
}

/// An application behind a [`Connection`].
#[derive(Clone, Debug)]
pub struct Remote<C>(
    /// How to reach it.
    pub C,
);

macro_rules! commands {
    ($( $(#[doc = $doc:literal])+ $name:ident($params:ty) -> $reply:ty; )+) => {
        /// What an application can be asked to do.
        pub trait Commands: Send + Sync {
            $( $(#[doc = $doc])+ fn $name(&self, params: $params) -> impl Future<Output = Result<$reply, Failure>> + Send; )+
        }

        /// The names of all commands, in the order of their declaration.
        pub const METHODS: &[&str] = &[$(stringify!($name)),+];

        /// Carries out the command called `method`, for transports that have JSON in their hands.
        pub async fn dispatch(application: &impl Commands, method: &str, params: Value) -> Result<ReplyJson, Failure> {
            match method {
                $( stringify!($name) => encode(&application.$name(decode(method, params)?).await?), )+
                _ => Err(Failure::new(FailureCode::InvalidRequest, format!("there is no command `{method}`"))),
            }
        }

        impl<C: Connection> Commands for Remote<C> {
            $( async fn $name(&self, params: $params) -> Result<$reply, Failure> {
                decode_reply(stringify!($name), &self.0.call(stringify!($name), encode_params(&params)?).await?)
            } )+
        }

        /// `(name, documentation, parameter type, reply type)` of each command, for the generated TypeScript.
        pub(crate) fn signatures(config: &ts_rs::Config) -> Vec<(&'static str, String, String, String)> {
            use ts_rs::TS;
            vec![$( (stringify!($name), [$($doc),+].join("\n"), <$params>::name(config), <$reply>::name(config)) ),+]
        }

        /// Shows every parameter and reply type to `visitor`.
        pub(crate) fn visit_types(visitor: &mut impl ts_rs::TypeVisitor) {
            $( visitor.visit::<$params>(); visitor.visit::<$reply>(); )+
        }
    };
}

commands! {
    /// The whole picture, once.
    snapshot(Empty) -> Snapshot;
    /// Vectors for texts; loads the model where it is not loaded.
    embed(EmbedRequest) -> Embeddings;
    /// Starts to index folders or files; progress comes with the snapshots.
    index(IndexRequest) -> Job;
    /// Takes a folder out of the index; the folder itself is not touched.
    forget(FolderChoice) -> Empty;
    /// Finds passages by words and by meaning.
    search(SearchRequest) -> SearchResults;
    /// Opens an indexed file with the person's own program.
    open(OpenRequest) -> Empty;
    /// Starts to convert a checkpoint, or gives the job that is at it already; progress comes with the snapshots.
    convert(ConvertRequest) -> Job;
    /// Asks a job to stop. What was indexed is kept; of a conversion nothing is left; a download goes on from there when it is
    /// asked for again.
    cancel(JobId) -> Empty;
    /// Pauses or resumes bulk work: indexing, conversions and downloads.
    pause(PauseRequest) -> Empty;
    /// Has one installation wait, or lets it go on from where it was. The next in line goes ahead meanwhile, unless the model is being
    /// placed or tested already.
    hold(JobHold) -> Empty;
    /// The models there are, those that are set aside at the end.
    models(Empty) -> Models;
    /// What a path, a link or a repository of the hub is, and what installing it would take. Nothing is fetched but lists.
    inspect(InspectRequest) -> InstallOffer;
    /// Starts to install a model, or gives the job that is at it already; progress comes with the snapshots.
    install(InstallRequest) -> Job;
    /// Limits how fast models are downloaded, from now on.
    limit_downloads(DownloadLimit) -> Empty;
    /// How fast models are downloaded at most.
    download_limit(Empty) -> DownloadLimit;
    /// All that is known of one model.
    show_model(ModelChoice) -> ModelDetails;
    /// Starts to compare a model with what it was when it came, and to test it again.
    verify(ModelChoice) -> Job;
    /// Removes a model. Files that are somebody else's stay.
    remove(ModelChoice) -> Removed;
    /// Shows a model's files in the file manager.
    reveal(ModelChoice) -> Empty;
    /// The lines with which the Papr SDK uses a model.
    sdk_lines(ModelChoice) -> SdkProposal;
    /// Writes these lines into the followed `.env`; no other byte of it changes.
    keep_sdk_lines(SdkKeep) -> EnvState;
    /// Whether the hub gets a token.
    token(Empty) -> TokenStatus;
    /// Keeps a token for the hub, or forgets it.
    set_token(TokenRequest) -> TokenStatus;
    /// Makes a model active and waits until it answers.
    activate(ModelChoice) -> ModelState;
    /// The followed `.env`, if one is followed.
    env(Empty) -> EnvState;
    /// Follows a `.env` and no other, or none any more. An unknown file changes nothing before it is approved.
    follow(EnvChoice) -> EnvState;
    /// Lets the followed `.env` change what runs with these variables, and no others.
    approve_env(EnvApproval) -> EnvState;
    /// Mends one finding in the followed `.env`; no other byte of it changes.
    mend_env(EnvMend) -> EnvState;
    /// Writes the model that was chosen elsewhere into the followed `.env`; no other byte of it changes.
    keep_in_env(EnvKeep) -> EnvState;
    /// Allows or refuses the server on the network that the followed `.env` names; nothing is sent to it before.
    allow_remote(RemoteAnswer) -> Empty;
    /// A fresh reading of the machine's memory.
    memory(Empty) -> MemoryReading;
    /// Who holds memory on this machine, and the room on the home's disk.
    machine(Empty) -> MachineOverview;
    /// The gauge's history.
    memory_history(Empty) -> MemoryHistory;
    /// Gives back what can honestly be given back, with a receipt.
    cleanup(CleanupRequest) -> CleanupReceipt;
    /// What other programs hold and would give back, within a second.
    offers(Empty) -> Offers;
    /// Accepts offers; containers that are stopped are started again by `start_again`, or at the next start.
    accept_offers(OfferChoice) -> OfferReceipt;
    /// Starts the containers again that Embedbar has stopped, and no others.
    start_again(Empty) -> OfferReceipt;
}

fn encode(value: &impl Serialize) -> Result<ReplyJson, Failure> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Failure::internal(format!("a reply cannot be written as JSON: {error}")))
}

fn encode_params(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::internal(format!("parameters cannot be written as JSON: {error}")))
}

fn decode<T: DeserializeOwned>(method: &str, value: Value) -> Result<T, Failure> {
    // A command without parameters may be called with none at all.
    let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
    serde_json::from_value(value).map_err(|error| {
        Failure::new(FailureCode::InvalidRequest, format!("the parameters of `{method}` are wrong: {error}"))
    })
}

fn decode_reply<T: DeserializeOwned>(method: &str, reply: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(reply.get()).map_err(|error| {
        Failure::new(FailureCode::OwnerMismatch, format!("the reply to `{method}` is not understood: {error}"))
            .hint("Another version of Embedbar is running on this home; quit it and try again.")
    })
}
