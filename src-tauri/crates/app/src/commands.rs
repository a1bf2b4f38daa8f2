//! The contract's commands, carried out here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use embedbar_catalog::Catalogue;
use embedbar_contract::{
    CleanupReceipt, CleanupRequest, Commands, ConvertRequest, DownloadLimit, EmbedRequest, Embedding, Embeddings,
    Empty, EnvApproval, EnvChoice, EnvKeep, EnvMend, EnvState, Failure, FailureCode, FolderChoice, Generation,
    IndexRequest, InspectRequest, InstallOffer, InstallRequest, Job, JobHold, JobId, MachineOverview, MemoryHistory,
    MemoryReading, ModelChoice, ModelDetails, ModelState, Models, OfferChoice, OfferReceipt, Offers, OpenRequest,
    PauseRequest, Precision, PromptKind, QueryKind, RemoteAnswer, Removed, SdkKeep, SdkProposal, SearchRequest,
    SearchResults, Snapshot, TokenRequest, TokenStatus,
};
use embedbar_documents::QueryVector;
use embedbar_lifecycle::{Answer, Lane};

use crate::app::App;
use crate::cleanup;
use crate::conversion::Conversion;
use crate::governing::{Governing, Wanted};
use crate::keeping::Choice;
use crate::neighbours;
use crate::queries::Cost;

/// When a program may ask again for a model that something smaller stands in for: the governor waits for minutes of calm.
const STAND_IN_FOR: Duration = Duration::from_mins(1);
/// When a program may ask again for a model that is being replaced.
const SWAP_FOR: Duration = Duration::from_secs(2);

impl Commands for App {
    async fn snapshot(&self, _: Empty) -> Result<Snapshot, Failure> {
        let index = self.index.clone();
        let summary = blocking(move || index.summary()).await??;
        Ok(self.picture(summary))
    }

    async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, Failure> {
        if request.texts.is_empty() {
            return Ok(Embeddings::default());
        }
        let asked = Asked::of(request.model.as_deref())?;
        self.offer(&asked)?;
        // The model may be replaced while the texts wait.
        let (governing, wanted) = (self.governing.clone(), asked);
        let guard = Arc::new(move |answers: &Generation| check(&governing, &wanted, answers));
        let answer = self.lifecycle.embed_guarded(request.texts, request.prompt, request.recipe, guard).await?;
        let tokens = answer.tokens.iter().sum();
        self.governing.answered(tokens, answer.timing.forward, request.keep_alive_seconds.map(Duration::from_secs));
        self.record(Cost {
            kind: QueryKind::Embed,
            label: String::new(),
            tokens,
            embedding: answer.timing,
            search_ms: None,
            total_ms: answer.timing.total,
            generation: Some(answer.generation.clone()),
        });
        Ok(embeddings(answer))
    }

    async fn index(&self, request: IndexRequest) -> Result<Job, Failure> {
        let mut last = None;
        for path in request.paths {
            last = Some(self.jobs.index(existing(&path)?)?);
        }
        last.ok_or_else(|| {
            Failure::new(FailureCode::InvalidRequest, "there is no folder to index")
                .hint("Name at least one folder or file.")
        })
    }

    async fn forget(&self, choice: FolderChoice) -> Result<Empty, Failure> {
        let (index, path) = (self.index.clone(), PathBuf::from(&choice.path));
        let known = blocking(move || index.forget(&path)).await??;
        self.set_index_changed();
        if known {
            Ok(Empty {})
        } else {
            Err(Failure::new(FailureCode::NotFound, format!("the index has no folder `{}`", choice.path))
                .hint("Give the path as the list of folders shows it."))
        }
    }

    async fn search(&self, request: SearchRequest) -> Result<SearchResults, Failure> {
        let arrived = Instant::now();
        let query = request.query.trim().to_owned();
        if query.is_empty() {
            return Err(
                Failure::new(FailureCode::InvalidRequest, "the query is empty").hint("Type what you are looking for.")
            );
        }
        let recipe = self.recipe.of(&self.lifecycle.state().borrow());
        let embedded = self.lifecycle.embed(vec![query.clone()], PromptKind::Query, recipe, Lane::Query).await;
        let (answer, mut degraded) = match embedded {
            Ok(answer) => (Some(answer), None),
            // Words can be searched without a model.
            Err(failure) => (None, Some(failure.message)),
        };
        if let Some(answer) = &answer {
            tracing::info!("Embedding generation took: {:.3}s", answer.timing.total / 1e3);
            self.governing.answered(answer.tokens.iter().sum(), answer.timing.forward, None);
        }
        let searching = Instant::now();
        let (index, request) =
            (self.index.clone(), SearchRequest { query: query.clone(), limit: request.limit.clamp(1, 200) });
        let (found, answer) = blocking(move || {
            let vector = answer.as_ref().and_then(|answer| {
                answer.vectors.first().map(|vector| QueryVector { vector, generation: &answer.generation })
            });
            (index.search(&request, vector), answer)
        })
        .await?;
        let found = found?;
        if degraded.is_none() {
            degraded = found.meaning.degraded();
        }
        let (search_ms, total_ms) = (milliseconds(searching), milliseconds(arrived));
        tracing::info!("search latency: {total_ms:.0} ms");
        let embedding_ms = answer.as_ref().map(|answer| answer.timing).unwrap_or_default();
        let generation = answer.as_ref().map(|answer| answer.generation.clone());
        self.record(Cost {
            kind: QueryKind::Search,
            label: query.clone(),
            tokens: answer.as_ref().map_or(0, |answer| answer.tokens.iter().sum()),
            embedding: embedding_ms,
            search_ms: Some(search_ms),
            total_ms,
            generation: generation.clone(),
        });
        Ok(SearchResults {
            query,
            hits: found.hits,
            generation,
            degraded,
            searched_chunks: found.searched_chunks,
            embedding_ms,
            search_ms,
            total_ms,
        })
    }

    async fn open(&self, request: OpenRequest) -> Result<Empty, Failure> {
        let (index, path) = (self.index.clone(), PathBuf::from(&request.path));
        if !blocking(move || index.holds(&path)).await?? {
            return Err(Failure::new(FailureCode::NotFound, format!("`{}` is not in the index", request.path))
                .hint("Only files that a search can find are opened."));
        }
        let path = existing(&request.path)?;
        blocking(move || open::that_detached(&path)).await?.map_err(|error| {
            Failure::new(FailureCode::Io, format!("`{}` cannot be opened: {error}", request.path))
                .hint("Check that a program is set for files of this kind.")
        })?;
        Ok(Empty {})
    }

    async fn convert(&self, request: ConvertRequest) -> Result<Job, Failure> {
        let (models, written) = (self.home.models(), self.following.written());
        let room = request.make_room.clone();
        let conversion = blocking(move || Conversion::check(&request, &models, &written)).await??;
        let Some(ids) = room else { return self.jobs.convert(conversion) };
        // Stop, clean up, convert, start again: the list of what was stopped is on the disk before anything stops.
        neighbours::accept(self, &OfferChoice { ids }).await?;
        cleanup::run(self, false).await;
        let job = self.jobs.convert(conversion);
        // Also where there is no job after all.
        self.others.start_again_after(self.snapshots(), job.as_ref().ok().map(|job| job.id));
        job
    }

    async fn cancel(&self, id: JobId) -> Result<Empty, Failure> {
        self.jobs.cancel(id)?;
        // At once: its turn may not come before the program ends.
        self.agreed.remove(id.id);
        Ok(Empty {})
    }

    async fn pause(&self, request: PauseRequest) -> Result<Empty, Failure> {
        tracing::info!(paused = request.paused, "bulk work");
        self.jobs.set_paused(request.paused);
        Ok(Empty {})
    }

    async fn hold(&self, hold: JobHold) -> Result<Empty, Failure> {
        self.hold_job(hold)?;
        Ok(Empty {})
    }

    async fn models(&self, _: Empty) -> Result<Models, Failure> {
        self.list_models().await
    }

    async fn inspect(&self, request: InspectRequest) -> Result<InstallOffer, Failure> {
        self.offer_install(&request.source).await
    }

    async fn install(&self, request: InstallRequest) -> Result<Job, Failure> {
        self.begin_install(request, false).await
    }

    async fn limit_downloads(&self, limit: DownloadLimit) -> Result<Empty, Failure> {
        self.hub.limit(limit);
        self.agreed.set_limit(self.hub.limit_now());
        Ok(Empty {})
    }

    async fn download_limit(&self, _: Empty) -> Result<DownloadLimit, Failure> {
        Ok(self.hub.limit_now())
    }

    async fn show_model(&self, choice: ModelChoice) -> Result<ModelDetails, Failure> {
        self.model_details(&choice.model).await
    }

    async fn verify(&self, choice: ModelChoice) -> Result<Job, Failure> {
        self.begin_verify(&choice.model).await
    }

    async fn remove(&self, choice: ModelChoice) -> Result<Removed, Failure> {
        self.remove_model(&choice.model).await
    }

    async fn reveal(&self, choice: ModelChoice) -> Result<Empty, Failure> {
        self.reveal_model(&choice.model).await?;
        Ok(Empty {})
    }

    async fn sdk_lines(&self, choice: ModelChoice) -> Result<SdkProposal, Failure> {
        self.sdk_proposal(&choice.model)
    }

    async fn keep_sdk_lines(&self, keep: SdkKeep) -> Result<EnvState, Failure> {
        self.write_sdk_lines(&keep).await?;
        self.env(Empty {}).await
    }

    async fn token(&self, _: Empty) -> Result<TokenStatus, Failure> {
        let (hub, written) = (self.hub.clone(), self.following.written());
        blocking(move || hub.token_status(&written)).await?
    }

    async fn set_token(&self, request: TokenRequest) -> Result<TokenStatus, Failure> {
        let (hub, written) = (self.hub.clone(), self.following.written());
        blocking(move || {
            hub.set_token(request.token.as_deref())?;
            hub.token_status(&written)
        })
        .await?
    }

    async fn activate(&self, choice: ModelChoice) -> Result<ModelState, Failure> {
        let model = self.library.find(&choice.model)?;
        let wanted = Wanted::exactly(&model);
        let choice = Choice::of(&model.id, &wanted);
        let state = self.make_active(model).await?;
        self.governing.want(wanted);
        self.following.chose(choice);
        self.changed.notify_one();
        Ok(state)
    }

    async fn env(&self, _: Empty) -> Result<EnvState, Failure> {
        Ok(EnvState { env: self.following.status(), known: self.following.known() })
    }

    async fn follow(&self, choice: EnvChoice) -> Result<EnvState, Failure> {
        let path = choice.path.map(PathBuf::from);
        if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
            return Err(Failure::new(
                FailureCode::InvalidRequest,
                format!("`{}` is not an absolute path", path.display()),
            )
            .hint("Give the whole path, beginning with `/`."));
        }
        self.following.follow(path.as_deref())?;
        self.changed.notify_one();
        self.env(Empty {}).await
    }

    async fn approve_env(&self, approval: EnvApproval) -> Result<EnvState, Failure> {
        if let Some(settings) = self.following.approve(&approval.variables)?.filter(|_| self.stays) {
            self.carry_out(&settings).await;
        }
        self.env(Empty {}).await
    }

    async fn mend_env(&self, mend: EnvMend) -> Result<EnvState, Failure> {
        self.following.mend(&mend.code, mend.line)?;
        self.changed.notify_one();
        self.env(Empty {}).await
    }

    async fn keep_in_env(&self, keep: EnvKeep) -> Result<EnvState, Failure> {
        if let Some(settings) = self.following.keep(&keep.changes)? {
            self.carry_out(&settings).await;
        }
        self.changed.notify_one();
        self.env(Empty {}).await
    }

    async fn allow_remote(&self, answer: RemoteAnswer) -> Result<Empty, Failure> {
        self.remote.answer(&answer)?;
        self.changed.notify_one();
        if let Some(settings) = self.following.settings().filter(|_| self.stays) {
            self.carry_out(&settings).await;
        }
        Ok(Empty {})
    }

    async fn memory(&self, _: Empty) -> Result<MemoryReading, Failure> {
        Ok(self.read_memory())
    }

    async fn machine(&self, _: Empty) -> Result<MachineOverview, Failure> {
        let (gauge, home) = (self.gauge.clone(), self.home.root().to_owned());
        // Some milliseconds for every large process.
        blocking(move || gauge.overview(&home)).await
    }

    async fn memory_history(&self, _: Empty) -> Result<MemoryHistory, Failure> {
        Ok(self.gauge.history())
    }

    async fn cleanup(&self, request: CleanupRequest) -> Result<CleanupReceipt, Failure> {
        Ok(cleanup::run(self, request.dry_run).await)
    }

    async fn offers(&self, _: Empty) -> Result<Offers, Failure> {
        self.others.survey().await
    }

    async fn accept_offers(&self, choice: OfferChoice) -> Result<OfferReceipt, Failure> {
        neighbours::accept(self, &choice).await
    }

    async fn start_again(&self, _: Empty) -> Result<OfferReceipt, Failure> {
        neighbours::start_again(self).await
    }
}

impl App {
    fn record(&self, cost: Cost) {
        self.queries.lock().expect("nobody panics while they hold the queries. This is a bug.").record(cost);
        self.changed.notify_one();
    }

    /// The model that answers; the one that was chosen where none is loaded.
    pub(crate) fn active_model(&self) -> embedbar_store::Model {
        let answers = match &*self.lifecycle.state().borrow() {
            ModelState::Ready { generation, .. } => Some(generation.model.clone()),
            _ => None,
        };
        let chosen = self.chosen_model();
        let other = answers.filter(|id| *id != chosen.id).and_then(|id| self.library.find(&id).ok());
        other.unwrap_or(chosen)
    }

    /// Whether a request for this model may wait for an answer.
    fn offer(&self, asked: &Asked) -> Result<(), Failure> {
        match &*self.lifecycle.state().borrow() {
            ModelState::Ready { generation, .. } => check(&self.governing, asked, generation),
            // What is going to be loaded is checked when it has answered.
            _ => Ok(()),
        }
    }

    fn chosen_model(&self) -> embedbar_store::Model {
        self.chosen.lock().expect("nobody panics while they hold the choice. This is a bug.").clone()
    }
}

/// Whether this generation is what was asked for.
fn check(governing: &Governing, asked: &Asked, answers: &Generation) -> Result<(), Failure> {
    if let Some(why) = governing.stands_in(&answers.model) {
        return Err(Failure::new(FailureCode::Loading, why)
            .hint("It answers Embedbar's own search only. Try again later, or close something large.")
            .retry_after(STAND_IN_FOR));
    }
    if asked.is(answers) {
        return Ok(());
    }
    let message = format!("`{asked}` was asked for, and `{}` in {} answers", answers.model, answers.precision);
    let wanted = governing.wanted();
    // What the user wants is coming back; anything else has to be chosen by them.
    if asked.is_model(&wanted.model) && asked.precision.is_none() {
        return Err(Failure::new(FailureCode::Loading, message)
            .hint("Another model is taking its place at the moment. Try again.")
            .retry_after(SWAP_FOR));
    }
    Err(Failure::new(FailureCode::NotFound, message)
        .hint("Choose it in the menu bar or in the `.env` first, or ask without a model's name."))
}

/// A model that a program asks for by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Asked {
    model: Option<String>,
    precision: Option<Precision>,
}

impl Asked {
    fn of(name: Option<&str>) -> Result<Self, Failure> {
        let Some(name) = name else { return Ok(Self::default()) };
        let Some((model, precision)) = name.rsplit_once(':') else {
            return Ok(Self { model: Some(name.to_owned()), precision: None });
        };
        let Some(precision) = Precision::of_word(precision) else {
            return Err(Failure::new(FailureCode::InvalidRequest, format!("`{precision}` is no precision"))
                .hint("After the model's name and a colon comes `fp32`, `fp16`, `int8` or `4bit`."));
        };
        Ok(Self { model: Some(model.to_owned()), precision: Some(precision) })
    }

    fn is(&self, answers: &Generation) -> bool {
        self.is_model(&answers.model) && self.precision.is_none_or(|precision| precision == answers.precision)
    }

    /// Whether `id`, an installed model's or the catalogue's, is of the model that was asked for.
    fn is_model(&self, id: &str) -> bool {
        let Some(asked) = &self.model else { return true };
        let catalogue = Catalogue::builtin();
        let same =
            catalogue.find(asked).zip(catalogue.installed(id)).is_some_and(|(one, (other, _))| one.id == other.id);
        asked == id || same
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.model.as_deref().unwrap_or("the active model"))?;
        self.precision.map_or(Ok(()), |precision| write!(formatter, " in {precision}"))
    }
}

pub(crate) fn embeddings(answer: Answer) -> Embeddings {
    let Answer { vectors, tokens, truncated, generation, timing } = answer;
    let items = vectors
        .into_iter()
        .zip(tokens)
        .zip(truncated)
        .map(|((embedding, tokens), truncated)| Embedding {
            dims: embedding.len(),
            embedding,
            tokens,
            truncated,
            generation: generation.clone(),
            timing_ms: timing,
        })
        .collect();
    Embeddings { items }
}

/// An absolute path of something that is there.
pub(crate) fn existing(path: &str) -> Result<PathBuf, Failure> {
    let given = Path::new(path);
    if !given.is_absolute() {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("`{path}` is not an absolute path"))
            .hint("Give the whole path, beginning with `/`."));
    }
    given.canonicalize().map_err(|error| {
        Failure::new(FailureCode::NotFound, format!("cannot open `{path}`: {error}"))
            .hint("Check the path and that you may read it.")
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Runs what blocks on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal(format!("a command panicked: {error}")))
}
