//! The library's commands: what there is, getting more, testing it again, removing it, and having the SDK use it.
//!
//! What is not here: the work itself, which the jobs do ([`crate::jobs`]), what is known of a model ([`crate::inventory`]), and what
//! is on the disk (`embedbar-store`).

use std::path::Path;

use embedbar_contract::{
    ConvertFormat, ConvertRequest, Failure, FailureCode, InstallOffer, InstallRequest, Job, JobHold, ModelDetails,
    ModelInfo, ModelKind, Models, Removed, SdkKeep, SdkProposal,
};
use embedbar_convert::certificate::Certificate;
use embedbar_hub::HubClient;
use embedbar_settings::Written;
use embedbar_store::{Found, Model, Tally, model_in, read_card, read_origin};
use embedbar_wire::installer::{Done, Order};
use tokio::sync::watch;

use crate::app::App;
use crate::arrivals::{self, Download, Source, checked_name};
use crate::commands::blocking;
use crate::conversion::Conversion;
use crate::errand;
use crate::inventory::{Inventory, folder_of, kind_of};
use crate::jobs::{Ended, Files, Install, Verify, Wish, Work, megabytes};
use crate::keeping::Kept;

impl App {
    /// The models there are, those that are set aside and those whose files are gone at the end.
    pub(crate) async fn list_models(&self) -> Result<Models, Failure> {
        let inventory = self.inventory();
        blocking(move || {
            let mut all = Tally::default();
            let look = |found: &Found| {
                let (info, own) = inventory.look(found);
                all.merge(&own);
                info
            };
            let models: Vec<ModelInfo> = inventory.all().iter().map(look).collect();
            let own_bytes = models.iter().map(|model| model.own_bytes).sum();
            Models { models, total_bytes: all.bytes(), own_bytes }
        })
        .await
    }

    fn inventory(&self) -> Inventory {
        Inventory {
            library: self.library.clone(),
            home: self.home.clone(),
            chosen: self.active_model(),
            used: self.governing.last_used(),
        }
    }

    /// What something is, and what installing it would take.
    pub(crate) async fn offer_install(&self, source: &str) -> Result<InstallOffer, Failure> {
        let written = self.following.written();
        let mut offer = match Source::of(source, &written)? {
            Source::Path(path) => {
                let Done::Inspected(inspection) = self.inspect_path(&path).await? else {
                    return Err(Failure::internal("the installer has answered something else"));
                };
                let (name, kind, known) = (inspection.name.clone(), inspection.kind, inspection.known.clone());
                let offer = arrivals::offer(&self.library, path.display().to_string(), name, kind, known.as_deref());
                InstallOffer { inspection: Some(*inspection), ..offer }
            }
            Source::Hub(reference) => {
                let client = self.hub_client(&written).await?;
                let download = Download::look(&client, &self.hub, &written, &reference, None).await?;
                let known = download.known.map(|entry| entry.id.as_str());
                let (name, kind) = (download.name.clone(), download.kind());
                let offer = arrivals::offer(&self.library, source.trim().to_owned(), name, kind, known);
                InstallOffer { download: Some(download.offer(&client)), ..offer }
            }
        };
        let (gauge, root) = (self.gauge.clone(), self.home.root().to_owned());
        let disk = blocking(move || gauge.disk(&root)).await?;
        offer.disk_available_bytes = disk.map(|disk| disk.available_bytes);
        Ok(offer)
    }

    /// A client of the hub by what the followed file says.
    async fn hub_client(&self, written: &Written) -> Result<HubClient, Failure> {
        let (hub, written) = (self.hub.clone(), written.clone());
        // The system may be asked for the kept token.
        blocking(move || hub.client(&written)).await?
    }

    async fn inspect_path(&self, path: &Path) -> Result<Done, Failure> {
        let scratch = self.home.scratch().join(format!("look-{}", crate::hub::nonce()));
        let made = scratch.clone();
        blocking(move || std::fs::create_dir_all(made)).await?.map_err(|error| {
            Failure::new(FailureCode::Io, format!("`{}` cannot be made: {error}", scratch.display()))
                .hint("Check that the home is yours and that its disk is not full.")
        })?;
        let (_sender, mut wishes) = watch::channel(Wish::Go);
        let order = Order::Inspect { path: path.to_owned(), scratch: scratch.clone() };
        let done = errand::run(&self.installer, order, &mut wishes, |_| {}).await;
        blocking(move || drop(std::fs::remove_dir_all(scratch))).await?;
        done
    }

    /// Starts an installation that a person has said yes to; one that is `held` waits until they let it go on.
    pub(crate) async fn begin_install(&self, request: InstallRequest, held: bool) -> Result<Job, Failure> {
        let written = self.following.written();
        let (name, source, files) = match Source::of(&request.source, &written)? {
            Source::Path(path) => {
                // A name that nobody chose is the one that the files suggest.
                let name = match &request.name {
                    Some(name) => name.clone(),
                    None => match self.inspect_path(&path).await? {
                        Done::Inspected(inspection) => inspection.name,
                        _ => return Err(Failure::internal("the installer has answered something else")),
                    },
                };
                (name, path.display().to_string(), Files::Here(path))
            }
            Source::Hub(reference) => {
                let client = self.hub_client(&written).await?;
                let commit = request.commit.as_deref();
                let download = Download::look(&client, &self.hub, &written, &reference, commit).await?;
                agreed(&request, &download)?;
                let name = request.name.clone().unwrap_or_else(|| download.name.clone());
                (name, download.snapshot.repository.to_string(), Files::Hub(client, Box::new(download)))
            }
        };
        let name = checked_name(&name)?;
        let install = Box::new(Install { request: request.clone(), name, source, files, held });
        let job = self.agreed.begin(&request, || self.jobs.install(Work::Install(install)))?;
        if job.held && !held {
            // It was paused, and now it is asked for.
            self.hold_job(JobHold { id: job.id, held: false })?;
        }
        Ok(job)
    }

    /// Has an installation wait, or lets it go on.
    pub(crate) fn hold_job(&self, hold: JobHold) -> Result<(), Failure> {
        self.agreed.hold(hold, || self.jobs.hold(hold))
    }

    /// An installation has ended: what was wanted besides is begun.
    pub(crate) async fn installed(&self, ended: Ended) {
        let Ended { request, installed } = ended;
        let Some(id) = installed else { return };
        let is_active = self.active_model().id == id;
        if is_active {
            // Its worker holds the files that were replaced.
            self.recycle().await;
        }
        let folder = self.home.models().join(&id);
        for precision in request.ladder {
            let (source, format) = (folder.display().to_string(), ConvertFormat::Gguf);
            let wanted = ConvertRequest { source, precision, format, target: None, make_room: None };
            let (models, written) = (self.home.models(), self.following.written());
            let checked = blocking(move || Conversion::check(&wanted, &models, &written)).await;
            if let Err(failure) = checked.and_then(|it| it).and_then(|conversion| self.jobs.convert(conversion)) {
                tracing::warn!(model = id, %failure, "a precision cannot be made");
            }
        }
        self.changed.notify_one();
    }

    /// All that is known of one model.
    pub(crate) async fn model_details(&self, name: &str) -> Result<ModelDetails, Failure> {
        let (inventory, name) = (self.inventory(), name.to_owned());
        blocking(move || {
            let found = inventory.find(&name)?;
            let (folder, path) = (inventory.folder(&found), found.path());
            let certificate = match Certificate::beside(path) {
                Ok(Some(certificate)) if certificate.is_of(path) => Some(format!(
                    "its vectors agree with those of what it was made of to a mean cosine of {:.4}, where {} is asked for",
                    certificate.agreement.mean_cosine, certificate.floor
                )),
                _ => None,
            };
            let (model, _) = inventory.look(&found);
            Ok(ModelDetails { origin: read_origin(&folder), card: read_card(&folder), certificate, model })
        })
        .await?
    }

    /// Starts to test an installed model again.
    pub(crate) async fn begin_verify(&self, name: &str) -> Result<Job, Failure> {
        let (library, home, name) = (self.library.clone(), self.home.clone(), name.to_owned());
        let verify = blocking(move || {
            if let Some(aside) = library.set_aside().into_iter().find(|aside| aside.id == name) {
                let files = read_origin(&aside.folder).map(|origin| origin.files).unwrap_or_default();
                let path = model_in(&aside.folder).ok_or_else(|| {
                    Failure::new(FailureCode::ModelInvalid, format!("`{name}` is set aside and holds no model"))
                        .hint("Remove it and install it again.")
                })?;
                let model = Model { id: aside.id, path, bundled: false };
                return Ok(Verify { model, folder: aside.folder, files, aside: true });
            }
            let model = library.find(&name)?;
            let folder = folder_of(&library, &model, home.root());
            if !folder.starts_with(home.root()) {
                return Err(Failure::new(FailureCode::InvalidRequest, format!("`{name}` is not in the library"))
                    .hint("Install it first, or look at it with `embedbar inspect PATH`."));
            }
            let files = read_origin(&folder).map(|origin| origin.files).unwrap_or_default();
            Ok::<_, Failure>(Verify { model, folder, files, aside: false })
        })
        .await??;
        self.jobs.install(Work::Verify(verify))
    }

    /// Removes a model that is not in use.
    pub(crate) async fn remove_model(&self, name: &str) -> Result<Removed, Failure> {
        let refused = |why: &str, advice: &str| {
            Err(Failure::new(FailureCode::InvalidRequest, format!("`{name}` {why}")).hint(advice))
        };
        if name == embedbar_store::BUNDLED_ID {
            return refused("comes with Embedbar and cannot be removed", "It takes 25 MB; nothing else is kept of it.");
        }
        let is_aside = self.library.set_aside().iter().any(|aside| aside.id == name);
        if !is_aside && self.active_model().id == name {
            return refused("is the active model", "Make another one active first.");
        }
        let (library, name) = (self.library.clone(), name.to_owned());
        let removal = blocking(move || library.remove(&name)).await??;
        self.changed.notify_one();
        let mut folders: Vec<&Path> = removal.kept.iter().filter_map(|path| path.parent()).collect();
        folders.sort();
        folders.dedup();
        let kept = folders.iter().map(|folder| {
            let count = removal.kept.iter().filter(|path| path.parent() == Some(*folder)).count();
            format!("{count} files in `{}` stay: they are not Embedbar's", folder.display())
        });
        Ok(Removed { freed_bytes: removal.freed_bytes, kept: kept.collect() })
    }

    /// Shows a model's files in the file manager.
    pub(crate) async fn reveal_model(&self, name: &str) -> Result<(), Failure> {
        let (inventory, name) = (self.inventory(), name.to_owned());
        blocking(move || {
            let found = inventory.find(&name)?;
            let path = found.path();
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
            open::that_detached(folder).map_err(|error| {
                Failure::new(FailureCode::Io, format!("`{}` cannot be shown: {error}", folder.display()))
                    .hint("Check that a file manager is installed.")
            })
        })
        .await?
    }

    /// The lines with which the SDK uses a model.
    pub(crate) fn sdk_proposal(&self, name: &str) -> Result<SdkProposal, Failure> {
        let model = self.library.find(name)?;
        let file = self.following.file();
        let (lines, refused) = match sdk_lines(&model, self.home.root()) {
            Ok(lines) => (lines, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let shown = lines.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut proposal = SdkProposal {
            model: model.id,
            file: file.as_ref().map(|file| file.path().display().to_string()),
            lines: shown,
            changes: Vec::new(),
            refused,
        };
        if let Some(file) = file.filter(|_| proposal.refused.is_none()) {
            match Kept::of(&file, &borrowed(&lines)) {
                Ok(kept) => proposal.changes = kept.changes().to_vec(),
                Err(error) => proposal.refused = Some(error.to_string()),
            }
        }
        Ok(proposal)
    }

    /// Writes the SDK's lines into the followed file.
    pub(crate) async fn write_sdk_lines(&self, keep: &SdkKeep) -> Result<(), Failure> {
        let model = self.library.find(&keep.model)?;
        let refused = |why: String| Failure::new(FailureCode::InvalidRequest, why).hint("Edit the file yourself.");
        let lines = sdk_lines(&model, self.home.root()).map_err(refused)?;
        let file = self.following.file().ok_or_else(|| {
            Failure::new(FailureCode::NotFound, "no `.env` is followed")
                .hint("Follow the project's first: `embedbar env use PATH`, or drop its folder on the panel.")
        })?;
        let kept = Kept::of(&file, &borrowed(&lines))?;
        if let Some(settings) = self.following.write(&file, kept, &keep.changes)?.filter(|_| self.stays) {
            self.carry_out(&settings).await;
        }
        self.changed.notify_one();
        Ok(())
    }
}

/// Whether a person has said yes to what would be fetched.
fn agreed(request: &InstallRequest, download: &Download) -> Result<(), Failure> {
    let needed = download.quote.to_fetch;
    if needed == 0 {
        return Ok(());
    }
    let repository = &download.snapshot.repository;
    let (message, advice) = match request.agreed_bytes {
        None => (format!("`{repository}` has to be downloaded: {}", megabytes(needed)), "Say yes to that first."),
        Some(agreed) if agreed < needed => (
            format!("`{repository}` is {} to download, and the yes was to {}", megabytes(needed), megabytes(agreed)),
            "Look at it again.",
        ),
        Some(_) => return Ok(()),
    };
    Err(Failure::new(FailureCode::InvalidRequest, message).hint(advice))
}

/// What the SDK has to be told. It reads `true` and nothing else at its start, and resolves a relative path against whatever
/// folder it was started in.
fn sdk_lines(model: &Model, home: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let path = model.path.display().to_string();
    let on = |name| (name, "true".to_owned());
    let off = |name| (name, "false".to_owned());
    let kind = kind_of(&home.join("models").join(&model.id), model);
    match kind {
        ModelKind::CoreMlPackage => Ok(vec![
            on("PAPR_ONDEVICE_PROCESSING"),
            on("PAPR_ENABLE_COREML"),
            ("PAPR_COREML_MODEL", path),
            off("PAPR_ENABLE_MLX"),
        ]),
        ModelKind::Checkpoint => Ok(vec![
            on("PAPR_ONDEVICE_PROCESSING"),
            ("PAPR_EMBEDDING_MODEL", path),
            off("PAPR_ENABLE_COREML"),
            off("PAPR_ENABLE_MLX"),
        ]),
        ModelKind::MlxCheckpoint => {
            Err("the SDK's own MLX path never embeds; export the model as a Core ML package and use that".to_owned())
        }
        ModelKind::Gguf | ModelKind::CompiledCoreMl => {
            Err("the SDK reads no such files; export the model as a Core ML package and use that".to_owned())
        }
    }
}

fn borrowed<'a>(lines: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    lines.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
