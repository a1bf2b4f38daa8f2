//! The plan: every candidate with its verdict, and one choice.
//!
//! Candidates are listed in the order in which they are preferred; the choice is the first that may be used, is ready
//! and fits. What is loaded now counts as room, because it would make way. Something better than what is loaded must
//! fit with room to spare: between the two lies a band in which nothing changes, so that noise never moves the choice
//! to and fro.
//!
//! What is not here: when a change is made (see [`crate::Governor`]), or how.

use std::fmt::Write as _;

use embedbar_catalog::{Engine, Entry, Footprint, SourceWeights, Storage};
use embedbar_contract::Precision;

use crate::{
    Artefact, Backend, Candidate, Form, History, PrecisionWish, Purpose, Reading, Reserve, Standing, System,
    Thresholds, Unit, Wishes, text,
};

/// The largest weight file that the Neural Engine takes.
const NEURAL_ENGINE_FILE_BYTES: u64 = 1 << 31;

/// How fast a conversion reads its source where none was measured: assumed, with the comparison that follows it.
const CONVERSION_BYTES_PER_SECOND: f64 = 50e6;

/// What it takes to make a candidate that is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Making {
    /// Converting and comparing; the download, whose speed is not known here, is not in it.
    pub seconds: u64,
    /// What is written to the disk, the download included.
    pub disk_bytes: u64,
    /// What has to be downloaded first; 0 where the source is here.
    pub download_bytes: u64,
}

/// Why a candidate may not be used, whatever room there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Another precision was asked for.
    OtherPrecision(Precision),
    /// Another backend was asked for.
    OtherBackend,
    /// A program that names a model never gets another one.
    OtherModel,
    /// Smaller models were not allowed.
    SmallerModel,
    /// F32 is the exact mode, for those who ask for it.
    ExactMode,
    /// Metal's place is known once it was measured.
    MetalNotMeasured,
    /// 4-bit packages give wrong vectors on some Macs.
    NotCertifiedHere,
    /// Core ML without its units is slower than the processor's own path.
    CoreMlOnProcessor,
    /// Packages are interpreted here.
    Interpreted,
    /// The Neural Engine takes weight files of 2 GB at most.
    NeuralEngineFile {
        /// The largest file.
        bytes: u64,
    },
}

impl Refusal {
    /// Whether the user's explicit word is enough to use it all the same.
    fn yields_to_the_user(self) -> bool {
        match self {
            Self::MetalNotMeasured | Self::NotCertifiedHere | Self::CoreMlOnProcessor | Self::Interpreted => true,
            Self::OtherPrecision(_)
            | Self::OtherBackend
            | Self::OtherModel
            | Self::SmallerModel
            | Self::ExactMode
            | Self::NeuralEngineFile { .. } => false,
        }
    }

    fn sentence(self, wished: &str) -> String {
        match self {
            Self::OtherPrecision(precision) => format!("{precision} was asked for"),
            Self::OtherBackend => "another backend was asked for".to_owned(),
            Self::OtherModel => format!("a program that asks for {wished} gets {wished} or nothing"),
            Self::SmallerModel => format!("a smaller model than {wished} was not allowed"),
            Self::ExactMode => "the exact mode is used where it is asked for".to_owned(),
            Self::MetalNotMeasured => "Metal has not been measured on this machine".to_owned(),
            Self::NotCertifiedHere => "4-bit packages are used only where this Mac has certified them".to_owned(),
            Self::CoreMlOnProcessor => "the processor's own path is faster".to_owned(),
            Self::Interpreted => "interpreting a package is slow".to_owned(),
            Self::NeuralEngineFile { bytes } => format!(
                "its weight file of {} is larger than the {} that the Neural Engine takes (packages in chunks are not)",
                text::bytes(bytes),
                text::bytes(NEURAL_ENGINE_FILE_BYTES)
            ),
        }
    }
}

/// What the plan says about a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is ready, may be used and there is room.
    Fits,
    /// It may be used and there is room, but it has to be made first.
    CanBeMade(Making),
    /// There is no room.
    DoesNotFit {
        /// How much is missing; `None` where it is not a matter of bytes.
        missing_bytes: Option<u64>,
    },
    /// It may not be used.
    NotAllowed(Refusal),
    /// Its vectors are not near enough to those of its source.
    BelowFloor {
        /// How near they are; `None` where nobody has compared them.
        mean_cosine: Option<f64>,
        /// How near they have to be.
        floor: f64,
    },
    /// It is not there and cannot be made; the sentence says why.
    CannotBeMade,
}

/// A candidate with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Which.
    pub candidate: Candidate,
    /// The most it takes at any time, loading included; what it holds where it is loaded.
    pub needs_bytes: u64,
    /// What it takes while it runs: estimated by its shapes or, after the first load here, measured.
    pub running_bytes: u64,
    /// Of that, the estimate of what its largest batch takes.
    pub activations_bytes: u64,
    /// What it could have: what is free and what the present model gives back. `None` where it is not known.
    pub free_bytes: Option<u64>,
    /// Whether it is installed.
    pub ready: bool,
    /// What the plan says.
    pub verdict: Verdict,
    /// The verdict with its numbers.
    pub sentence: String,
    /// It is better than what is loaded and fits, though not with enough to spare to change to it.
    pub waits_for_room: bool,
}

impl Judged {
    /// Whether there is room for it and it may be used, be it ready or not.
    pub fn fits(&self) -> bool {
        matches!(self.verdict, Verdict::Fits | Verdict::CanBeMade(_))
    }

    fn is_eligible(&self) -> bool {
        self.verdict == Verdict::Fits && !self.waits_for_room
    }

    /// Whether the user's explicit word is enough to use it.
    fn yields_to_the_user(&self) -> bool {
        let verdict = match self.verdict {
            Verdict::Fits | Verdict::DoesNotFit { .. } | Verdict::BelowFloor { .. } => true,
            Verdict::NotAllowed(refusal) => refusal.yields_to_the_user(),
            Verdict::CanBeMade(_) | Verdict::CannotBeMade => false,
        };
        self.ready && verdict
    }
}

/// The remote endpoint's part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemotePlan {
    /// Its host.
    pub host: String,
    /// Whether it may stand in.
    pub allowed: bool,
    /// Why, or why not.
    pub sentence: String,
}

/// What to use.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// A candidate.
    Local {
        /// Its place among [`Plan::candidates`].
        index: usize,
        /// Set where it is used only because the user asked for it: what speaks against it, with the numbers.
        warning: Option<String>,
    },
    /// The remote endpoint: nothing that is ready fits, and the user allowed it.
    Remote,
    /// Nothing. That is no order to unload what is loaded: it stays until the governor says otherwise.
    Nothing {
        /// Why.
        reason: String,
    },
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every candidate, the most preferred first.
    pub candidates: Vec<Judged>,
    /// The remote endpoint, where there is one.
    pub remote: Option<RemotePlan>,
    /// What to use.
    pub choice: Choice,
    /// The place of the first candidate that is preferred to the choice, would fit and has only to be made.
    pub worth_making: Option<usize>,
    /// What stays free; `None` where the machine's memory is not known.
    pub reserve: Option<Reserve>,
    /// Why nothing large is loaded now, where that is so.
    pub shortage: Option<String>,
}

impl Plan {
    /// The candidate that was chosen.
    pub fn chosen(&self) -> Option<&Judged> {
        match self.choice {
            Choice::Local { index, .. } => self.candidates.get(index),
            Choice::Remote | Choice::Nothing { .. } => None,
        }
    }

    /// The place of `candidate`: the lower, the more preferred.
    pub fn rank(&self, candidate: &Candidate) -> Option<usize> {
        self.candidates.iter().position(|judged| judged.candidate == *candidate)
    }
}

/// Chooses.
///
/// `entries` are the wanted model and then the smaller ones that could stand in for it, the most preferred first;
/// without an entry nothing is chosen. The same arguments always give the same plan.
pub fn plan(
    wishes: &Wishes,
    entries: &[&Entry],
    artefacts: &[Artefact],
    reading: &Reading,
    history: &History,
    thresholds: &Thresholds,
) -> Plan {
    let planner = Planner {
        wishes,
        wished: entries.first().map_or("", |entry| entry.id.as_str()),
        artefacts,
        reading,
        history,
        thresholds,
        reserve: Reserve::of(reading, history, thresholds),
        shortage: reading.shortage(thresholds),
    };
    planner.plan(entries)
}

struct Planner<'a> {
    wishes: &'a Wishes,
    /// The id of the model that is wanted.
    wished: &'a str,
    artefacts: &'a [Artefact],
    reading: &'a Reading,
    history: &'a History,
    thresholds: &'a Thresholds,
    reserve: Option<Reserve>,
    shortage: Option<String>,
}

impl Planner<'_> {
    fn plan(self, entries: &[&Entry]) -> Plan {
        let mut candidates = Vec::new();
        for entry in entries {
            for (backend, precision) in self.order(entry) {
                candidates.push((*entry, Candidate { backend, model: entry.id.clone(), precision }));
            }
        }
        let mut candidates: Vec<Judged> =
            candidates.into_iter().map(|(entry, candidate)| self.judge(entry, candidate)).collect();
        let present = self.reading.present.as_ref();
        let rank =
            present.and_then(|present| candidates.iter().position(|judged| judged.candidate == present.candidate));
        self.ask_for_room_to_spare(&mut candidates, rank);
        let remote = self.remote();
        let choice = self.choose(&candidates, remote.as_ref(), rank);
        let before = match choice {
            Choice::Local { index, .. } => index,
            Choice::Remote | Choice::Nothing { .. } => candidates.len(),
        };
        let worth_making =
            candidates[..before].iter().position(|judged| matches!(judged.verdict, Verdict::CanBeMade(_)));
        Plan { candidates, remote, choice, worth_making, reserve: self.reserve, shortage: self.shortage }
    }

    /// Backends and precisions, the most preferred first.
    fn order(&self, entry: &Entry) -> Vec<(Backend, Precision)> {
        let packaged = [Precision::Fp16, Precision::Int8, Precision::FourBit];
        let mut order: Vec<(Backend, Precision)> = Vec::new();
        // On the processor FP16 is only read, never computed with: it is slower than INT8 and larger.
        let mut cpu = vec![Precision::Int8, Precision::Fp16, Precision::FourBit];
        match self.reading.system {
            System::Mac => {
                for precision in packaged {
                    order.extend([Unit::NeuralEngine, Unit::Gpu].map(|unit| (Backend::CoreMl(unit), precision)));
                }
            }
            System::Linux => {}
            System::SimulatedMac => cpu.sort_unstable(),
        }
        for precision in cpu {
            if self.reading.system == System::Mac {
                order.extend(self.with_metal(entry, precision));
            } else {
                order.push((Backend::Cpu, precision));
            }
        }
        order.push((Backend::Cpu, Precision::Fp32));
        let last = match self.reading.system {
            System::Mac => Some(Backend::CoreMl(Unit::Cpu)),
            System::Linux => Some(Backend::CoreMlInterpreted),
            System::SimulatedMac => None,
        };
        order.extend(last.into_iter().flat_map(|backend| packaged.map(|precision| (backend, precision))));
        order.retain(|(backend, precision)| {
            let is_there = || {
                self.artefacts.iter().any(|artefact| {
                    artefact.model == entry.id && artefact.precision == *precision && artefact.runs_on(*backend)
                })
            };
            let may_be_there = entry.architecture.makes(storage(*backend), *precision) || is_there();
            *precision == Precision::Fp32 || (may_be_there && entry.ladder.contains(precision))
        });
        order
    }

    /// The processor and Metal in one precision, the faster first by what was measured here.
    fn with_metal(&self, entry: &Entry, precision: Precision) -> [(Backend, Precision); 2] {
        let measured = |backend| {
            self.history
                .query_ms(&Candidate { backend, model: entry.id.clone(), precision })
                .filter(|ms| ms.is_finite())
        };
        let metal_first = match (measured(Backend::Metal), measured(Backend::Cpu)) {
            (Some(metal), Some(cpu)) => metal < cpu,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let both = [(Backend::Metal, precision), (Backend::Cpu, precision)];
        if metal_first { both } else { [both[1], both[0]] }
    }

    /// What would replace the present model by something better that takes more has to fit with room to spare, unless
    /// the user asked for it or the present one may not stay.
    fn ask_for_room_to_spare(&self, candidates: &mut [Judged], rank: Option<usize>) {
        let (Some(rank), Some(reserve), Some(room)) = (rank, self.reserve, self.reading.room_bytes()) else { return };
        let may_stay = matches!(candidates[rank].verdict, Verdict::Fits | Verdict::DoesNotFit { .. });
        if !may_stay || matches!(self.wishes.precision, PrecisionWish::Explicit(_)) {
            return;
        }
        let held = self.reading.held_bytes();
        for judged in candidates[..rank].iter_mut().filter(|judged| judged.needs_bytes > held) {
            let margin = self.thresholds.step_up_margin(judged.needs_bytes);
            let wanted = judged.needs_bytes.saturating_add(reserve.bytes).saturating_add(margin);
            if judged.verdict == Verdict::Fits && room < wanted {
                judged.waits_for_room = true;
                let margin = text::bytes(margin);
                let _ = write!(judged.sentence, ", but not with the {margin} to spare that a step up wants");
            }
        }
    }

    fn judge(&self, entry: &Entry, candidate: Candidate) -> Judged {
        let Candidate { backend, precision, .. } = candidate;
        let artefact = self.artefact(&candidate);
        let footprint = self.footprint(entry, &candidate, artefact);
        let present = self.reading.present.as_ref().filter(|present| present.candidate == candidate);
        let needs_bytes = present.map_or(footprint.peak_bytes(), |present| present.running_bytes);
        // What is loaded is ready, whatever became of its files.
        let ready = artefact.is_some() || present.is_some();
        let free_bytes = self.reading.room_bytes();

        let mut says = format!("{precision}, {backend}: ");
        if entry.id != self.wished {
            says.insert_str(0, &format!("{} ", entry.id));
        }
        let room = self.room(&footprint, needs_bytes, backend, present.is_some());
        let verdict = if let Some(refusal) = self.refusal(entry, &candidate, artefact, &footprint) {
            let _ = write!(says, "not used: {}", refusal.sentence(self.wished));
            Verdict::NotAllowed(refusal)
        } else if let Some((mean_cosine, floor)) = artefact.and_then(|artefact| self.below_floor(artefact, backend)) {
            let _ = match mean_cosine {
                Some(cosine) => write!(says, "its vectors' mean cosine {cosine:.4} is below the floor of {floor}"),
                None => write!(says, "its vectors have not been compared yet; the floor is {floor}"),
            };
            Verdict::BelowFloor { mean_cosine, floor }
        } else {
            says.push_str(&room.sentence);
            match room.found {
                Found::TooLittle { missing_bytes } => Verdict::DoesNotFit { missing_bytes },
                Found::Enough if ready => Verdict::Fits,
                Found::Enough => self.making(entry, &candidate, &mut says),
            }
        };
        let running_bytes = footprint.running_bytes();
        Judged {
            candidate,
            needs_bytes,
            running_bytes,
            activations_bytes: footprint.activations_bytes,
            free_bytes,
            ready,
            verdict,
            sentence: says,
            waits_for_room: false,
        }
    }

    /// The installed model that `candidate` would use, the best by its standing.
    fn artefact(&self, candidate: &Candidate) -> Option<&Artefact> {
        let usable = self.artefacts.iter().filter(|artefact| {
            artefact.model == candidate.model
                && artefact.precision == candidate.precision
                && artefact.runs_on(candidate.backend)
        });
        usable.min_by_key(|artefact| self.below_floor(artefact, candidate.backend).is_some())
    }

    fn footprint(&self, entry: &Entry, candidate: &Candidate, artefact: Option<&Artefact>) -> Footprint {
        let specialised =
            artefact.is_some_and(|artefact| matches!(artefact.form, Form::Package { specialised: true, .. }));
        let (precision, workload) = (candidate.precision, self.wishes.workload);
        let estimate = match candidate.backend {
            Backend::CoreMl(_) => entry.footprint(precision, Engine::CoreMl { specialised }, workload),
            Backend::Metal => entry.footprint(precision, Engine::Metal, workload),
            Backend::Cpu => entry.footprint(precision, Engine::Cpu, workload),
            Backend::CoreMlInterpreted => {
                let weights = entry.architecture.weights_bytes(Storage::Package, precision);
                let workload = workload.within(entry.recipe.max_tokens);
                Footprint::of_weights(weights, &entry.architecture, Engine::Cpu, workload)
            }
        };
        estimate.corrected(self.history.of(candidate).map(|measured| measured.running_bytes))
    }

    fn refusal(
        &self,
        entry: &Entry,
        candidate: &Candidate,
        artefact: Option<&Artefact>,
        footprint: &Footprint,
    ) -> Option<Refusal> {
        let Candidate { backend, precision, .. } = *candidate;
        if entry.id != self.wished {
            if self.wishes.purpose == Purpose::Api {
                return Some(Refusal::OtherModel);
            }
            if !self.wishes.smaller_models {
                return Some(Refusal::SmallerModel);
            }
        }
        if let Some(wanted) = self.wishes.only_precision().filter(|wanted| *wanted != precision) {
            return Some(Refusal::OtherPrecision(wanted));
        }
        if self.wishes.backend.is_some_and(|wanted| wanted != backend.name()) {
            return Some(Refusal::OtherBackend);
        }
        if precision == Precision::Fp32 && self.wishes.only_precision().is_none() {
            return Some(Refusal::ExactMode);
        }
        match backend {
            Backend::CoreMl(unit) => {
                let bytes = match artefact.map(|artefact| &artefact.form) {
                    Some(Form::Package { largest_file_bytes, .. }) => *largest_file_bytes,
                    _ => footprint.weights_bytes,
                };
                if unit == Unit::NeuralEngine && bytes > NEURAL_ENGINE_FILE_BYTES {
                    return Some(Refusal::NeuralEngineFile { bytes });
                }
                let repeated = artefact.is_some_and(|artefact| repeated_on(artefact, unit).is_some());
                if precision == Precision::FourBit && !repeated {
                    return Some(Refusal::NotCertifiedHere);
                }
                (unit == Unit::Cpu).then_some(Refusal::CoreMlOnProcessor)
            }
            Backend::Metal => self.history.query_ms(candidate).is_none().then_some(Refusal::MetalNotMeasured),
            Backend::CoreMlInterpreted => Some(Refusal::Interpreted),
            Backend::Cpu => None,
        }
    }

    /// The mean cosine and the floor that it is below; for Core ML what the unit itself gave counts where it was tried.
    fn below_floor(&self, artefact: &Artefact, backend: Backend) -> Option<(Option<f64>, f64)> {
        let (mean_cosine, floor) = match artefact.standing {
            Standing::Original => return None,
            Standing::Compared { mean_cosine, floor } => (Some(mean_cosine), floor),
            Standing::NotCompared => (None, usual_floor(artefact.precision)),
        };
        let floor = self.wishes.floor.unwrap_or(floor);
        let here = match backend {
            Backend::CoreMl(unit) => repeated_on(artefact, unit),
            _ => None,
        };
        // Both have to pass: the certificate, and its repetition where there is one. What is no number does not pass.
        let passes = |cosine: f64| cosine >= floor;
        let good = mean_cosine.is_some_and(passes) && here.is_none_or(passes);
        (!good).then(|| (here.filter(|here| !passes(*here)).or(mean_cosine), floor))
    }

    /// Whether there is room, and the numbers.
    fn room(&self, footprint: &Footprint, needs: u64, backend: Backend, is_present: bool) -> Room {
        let (Some(free), Some(reserve)) = (self.reading.room_bytes(), self.reserve) else {
            let sentence = format!("needs {}, and how much is free is not known", text::bytes(needs));
            return Room { found: Found::TooLittle { missing_bytes: None }, sentence };
        };
        let held = self.reading.present.as_ref().filter(|present| present.held_bytes > 0);
        let given_back = match held {
            Some(present) if is_present => format!(" with the {} that it holds", text::bytes(present.held_bytes)),
            Some(present) => format!(" once {} is unloaded", present.candidate),
            None => String::new(),
        };
        let wanted = needs.saturating_add(reserve.bytes);
        let numbers = format!("needs {}, {} is free{given_back}, {reserve}", text::bytes(needs), text::bytes(free));
        if wanted > free {
            let found = Found::TooLittle { missing_bytes: Some(wanted - free) };
            return Room { found, sentence: format!("{numbers}: does not fit") };
        }
        let running = footprint.running_bytes();
        let limit = self.reading.gpu_working_set_bytes.filter(|limit| backend.uses_gpu() && running > *limit);
        if let Some(limit) = limit {
            let found = Found::TooLittle { missing_bytes: Some(running - limit) };
            let (limit, running) = (text::bytes(limit), text::bytes(running));
            let sentence =
                format!("{numbers}, but the GPU takes {limit} at most and it runs with {running}: does not fit");
            return Room { found, sentence };
        }
        let gated = self.reading.held_bytes().saturating_add(self.thresholds.gated_load_bytes);
        if let Some(shortage) = self.shortage.as_ref().filter(|_| !is_present && needs > gated) {
            let gated = text::bytes(gated);
            let sentence = format!(
                "{numbers}, but {shortage}, and meanwhile nothing is loaded that needs more than {gated}: does not fit"
            );
            return Room { found: Found::TooLittle { missing_bytes: None }, sentence };
        }
        Room { found: Found::Enough, sentence: format!("{numbers}: fits") }
    }

    /// What it takes to make a candidate for which there would be room.
    fn making(&self, entry: &Entry, candidate: &Candidate, says: &mut String) -> Verdict {
        let storage = storage(candidate.backend);
        let of = |storage, precision| entry.architecture.weights_bytes(storage, precision);
        let made_bytes = of(storage, candidate.precision);
        let here = self.artefacts.iter().find(|artefact| {
            artefact.model == entry.id && artefact.form == Form::Checkpoint && artefact.precision <= candidate.precision
        });
        let (source_bytes, download_bytes) = match (here, entry.weights) {
            (Some(source), _) => (of(Storage::Gguf, source.precision), 0),
            (None, SourceWeights::Safetensors) => {
                let published = 2 * entry.parameters;
                (published, published)
            }
            (None, SourceWeights::Pickle) => {
                says.push_str("; it is not ready, and its repository has only a pickle, which is not opened");
                return Verdict::CannotBeMade;
            }
        };
        let rate = self.history.conversion_bytes_per_second.filter(|rate| *rate > 0.0);
        let seconds = source_bytes as f64 / rate.unwrap_or(CONVERSION_BYTES_PER_SECOND);
        let making = Making { seconds: seconds.ceil() as u64, disk_bytes: made_bytes + download_bytes, download_bytes };
        let Making { seconds, disk_bytes, .. } = making;
        let disk = text::bytes(disk_bytes);
        if let Some(free) = self.reading.disk_free_bytes.filter(|free| *free < disk_bytes) {
            let free = text::bytes(free);
            let _ = write!(says, "; it is not ready, and making it takes {disk} of the disk, of which {free} is free");
            return Verdict::CannotBeMade;
        }
        let _ = write!(says, "; it is not ready and can be made in about {seconds} s with {disk} of the disk");
        if download_bytes > 0 {
            let _ = write!(says, ", after a download of {}", text::bytes(download_bytes));
        }
        Verdict::CanBeMade(making)
    }

    fn remote(&self) -> Option<RemotePlan> {
        let host = self.wishes.remote_host.clone()?;
        let wished = self.wished;
        let (allowed, why) = if self.wishes.purpose == Purpose::Api {
            (false, format!("a program that asks for {wished} gets {wished} or nothing"))
        } else if self.wishes.is_explicit() || !self.wishes.steps_by_itself() {
            (false, "what runs here was chosen explicitly".to_owned())
        } else {
            (true, "needs no memory here: fits".to_owned())
        };
        Some(RemotePlan { sentence: format!("Remote, {host}: {why}"), host, allowed })
    }

    fn choose(&self, candidates: &[Judged], remote: Option<&RemotePlan>, rank: Option<usize>) -> Choice {
        if let Some(index) = candidates.iter().position(Judged::is_eligible) {
            return Choice::Local { index, warning: None };
        }
        if self.wishes.is_explicit() && !matches!(self.wishes.precision, PrecisionWish::Pinned(_)) {
            // What only lacks room comes before what should not be used at all, the least demanding first.
            let usable = candidates.iter().enumerate().filter(|(_, judged)| judged.yields_to_the_user());
            let least = usable.min_by_key(|(_, judged)| {
                let rule = !matches!(judged.verdict, Verdict::Fits | Verdict::DoesNotFit { .. });
                (rule, judged.needs_bytes)
            });
            if let Some((index, judged)) = least {
                let warning = format!("it is used because it was asked for, but {}", judged.sentence);
                return Choice::Local { index, warning: Some(warning) };
            }
        }
        if let Some(index) = rank.filter(|_| self.reserve.is_none()) {
            // Nothing is known about the memory: no reason to change anything.
            return Choice::Local { index, warning: None };
        }
        if remote.is_some_and(|remote| remote.allowed) {
            return Choice::Remote;
        }
        Choice::Nothing { reason: nothing(candidates) }
    }
}

struct Room {
    found: Found,
    sentence: String,
}

enum Found {
    Enough,
    /// How much is missing, where it is a matter of bytes.
    TooLittle {
        missing_bytes: Option<u64>,
    },
}

/// What holds the weights of a candidate on `backend`.
fn storage(backend: Backend) -> Storage {
    match backend {
        Backend::CoreMl(_) | Backend::CoreMlInterpreted => Storage::Package,
        Backend::Metal | Backend::Cpu => Storage::Gguf,
    }
}

/// Why nothing was chosen: the candidate that lacks least.
fn nothing(candidates: &[Judged]) -> String {
    let made = candidates.iter().find(|judged| matches!(judged.verdict, Verdict::CanBeMade(_)));
    let unfit = || {
        let unfit = candidates.iter().filter(|judged| matches!(judged.verdict, Verdict::DoesNotFit { .. }));
        unfit.min_by_key(|judged| (!judged.ready, judged.needs_bytes))
    };
    match made.or_else(unfit).or(candidates.first()) {
        Some(judged) => format!("nothing that may be used is ready and fits; the nearest is {}", judged.sentence),
        None => "no such model is known".to_owned(),
    }
}

fn repeated_on(artefact: &Artefact, unit: Unit) -> Option<f64> {
    match &artefact.form {
        Form::Package { repeated, .. } => repeated.get(&unit).copied(),
        Form::Checkpoint | Form::Gguf => None,
    }
}

/// What a certificate asks for where nobody says otherwise (`embedbar-certify`).
fn usual_floor(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 | Precision::Fp16 | Precision::Unknown => 0.999,
        Precision::Int8 => 0.99,
        Precision::FourBit => 0.95,
    }
}
