//! What this machine has shown so far, kept from one start to the next: what models really took, and what everything else
//! usually uses.
//!
//! A damaged or newer file is no reason not to start: it is left alone, and nothing is remembered until it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use embedbar_contract::Precision;
use embedbar_planner::{Backend, Candidate, History, Measured, Unit, UsualUse};
use serde::{Deserialize, Serialize};

/// The version of the file.
const VERSION: u64 = 1;

/// Between two samples of what the others use.
const SAMPLE_EVERY: Duration = Duration::from_mins(5);

/// Between two notes that a model is in use.
const USED_EVERY: Duration = Duration::from_mins(10);

/// How long a sample counts.
const SAMPLES_FOR: Duration = Duration::from_hours(7 * 24);

/// Fewer are no habit: two hours of running.
const ENOUGH_SAMPLES: usize = 24;

/// What is kept, and where.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// `None` where nothing is to be written.
    file: Option<PathBuf>,
    content: Content,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Content {
    measured: Vec<Record>,
    use_samples: VecDeque<Sample>,
    conversion_bytes_per_second: Option<f64>,
    /// When each model answered last, in seconds since 1970, by its id.
    #[serde(default)]
    used: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Record {
    backend: BackendKey,
    model: String,
    precision: Precision,
    running_bytes: u64,
    query_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum BackendKey {
    CoreMlNeuralEngine,
    CoreMlGpu,
    CoreMlCpu,
    Metal,
    Cpu,
    CoreMlInterpreted,
}

/// Of everything but Embedbar's worker.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Sample {
    /// Seconds since 1970.
    at: u64,
    used_bytes: u64,
}

impl Remembered {
    /// Of a machine that is not this one: nothing is read and nothing written.
    pub(crate) fn nothing() -> Self {
        Self { file: None, content: Content::default() }
    }

    pub(crate) fn open(file: PathBuf) -> Self {
        match embedbar_records::read(&file, VERSION) {
            Ok(content) => Self { file: Some(file), content: content.unwrap_or_default() },
            Err(error) => {
                tracing::warn!(%error, "what this machine has shown so far is not known");
                Self::nothing()
            }
        }
    }

    /// For the planner.
    pub(crate) fn history(&self) -> History {
        let measured = self.content.measured.iter().map(|record| Measured {
            candidate: record.candidate(),
            running_bytes: record.running_bytes,
            query_ms: record.query_ms,
        });
        History {
            measured: measured.collect(),
            usual_use: self.usual_use(),
            conversion_bytes_per_second: self.content.conversion_bytes_per_second,
        }
    }

    /// A candidate took so much after its load, and a warm query took so long.
    pub(crate) fn measured(&mut self, candidate: &Candidate, running_bytes: u64, query_ms: Option<f64>) {
        let record = Record {
            backend: BackendKey::of(candidate.backend),
            model: candidate.model.clone(),
            precision: candidate.precision,
            running_bytes,
            query_ms,
        };
        self.content.measured.retain(|known| known.candidate() != *candidate);
        self.content.measured.push(record);
        self.write();
    }

    /// A conversion read and wrote so fast, its comparison included.
    pub(crate) fn converted(&mut self, bytes_per_second: f64) {
        self.content.conversion_bytes_per_second = Some(bytes_per_second);
        self.write();
    }

    /// A model has answered. Most calls change nothing.
    pub(crate) fn used(&mut self, now: SystemTime, id: &str) {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return };
        let before = self.content.used.get(id).copied().unwrap_or(0);
        if now.as_secs().abs_diff(before) >= USED_EVERY.as_secs() {
            self.content.used.insert(id.to_owned(), now.as_secs());
            self.write();
        }
    }

    /// When each model answered last, in seconds since 1970, by its id.
    pub(crate) fn last_used(&self) -> BTreeMap<String, u64> {
        self.content.used.clone()
    }

    /// Everything but the worker uses so much now. Most calls change nothing.
    pub(crate) fn others_use(&mut self, now: SystemTime, used_bytes: u64) {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return };
        let samples = &mut self.content.use_samples;
        // A clock that was set back is no reason to wait for it.
        let soon =
            |sample: &Sample| now.as_secs().checked_sub(sample.at).is_some_and(|age| age < SAMPLE_EVERY.as_secs());
        if samples.back().is_some_and(soon) {
            return;
        }
        let oldest = now.as_secs().saturating_sub(SAMPLES_FOR.as_secs());
        samples.retain(|sample| (oldest..=now.as_secs()).contains(&sample.at));
        samples.push_back(Sample { at: now.as_secs(), used_bytes });
        self.write();
    }

    /// The 90th percentile, once there is enough to speak of a habit.
    fn usual_use(&self) -> Option<UsualUse> {
        let mut used: Vec<u64> = self.content.use_samples.iter().map(|sample| sample.used_bytes).collect();
        if used.len() < ENOUGH_SAMPLES {
            return None;
        }
        used.sort_unstable();
        used.get((used.len() - 1) * 9 / 10).map(|&used_bytes| UsualUse { used_bytes })
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = embedbar_records::write(file, VERSION, &self.content) {
            tracing::warn!(%error, "what this machine has shown could not be kept");
        }
    }
}

impl Record {
    fn candidate(&self) -> Candidate {
        Candidate { backend: self.backend.backend(), model: self.model.clone(), precision: self.precision }
    }
}

impl BackendKey {
    fn of(backend: Backend) -> Self {
        match backend {
            Backend::CoreMl(Unit::NeuralEngine) => Self::CoreMlNeuralEngine,
            Backend::CoreMl(Unit::Gpu) => Self::CoreMlGpu,
            Backend::CoreMl(Unit::Cpu) => Self::CoreMlCpu,
            Backend::Metal => Self::Metal,
            Backend::Cpu => Self::Cpu,
            Backend::CoreMlInterpreted => Self::CoreMlInterpreted,
        }
    }

    fn backend(self) -> Backend {
        match self {
            Self::CoreMlNeuralEngine => Backend::CoreMl(Unit::NeuralEngine),
            Self::CoreMlGpu => Backend::CoreMl(Unit::Gpu),
            Self::CoreMlCpu => Backend::CoreMl(Unit::Cpu),
            Self::Metal => Backend::Metal,
            Self::Cpu => Backend::Cpu,
            Self::CoreMlInterpreted => Backend::CoreMlInterpreted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        Candidate { backend: Backend::CoreMl(Unit::Gpu), model: "m".to_owned(), precision: Precision::FourBit }
    }

    fn after(minutes: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_mins(1_000_000 + minutes)
    }

    #[test]
    fn what_was_measured_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("history.json");
        let mut one = Remembered::open(file.clone());
        assert_eq!(one.history(), History::default());
        one.measured(&candidate(), 5, None);
        one.measured(&candidate(), 7, Some(3.5));
        one.converted(9e6);
        let history = Remembered::open(file).history();
        assert_eq!(history.measured, [Measured { candidate: candidate(), running_bytes: 7, query_ms: Some(3.5) }]);
        assert_eq!(history.conversion_bytes_per_second, Some(9e6));
    }

    #[test]
    fn a_habit_is_the_ninetieth_percentile_of_a_week_and_needs_two_hours() {
        let mut one = Remembered::nothing();
        for minute in 0..=(ENOUGH_SAMPLES as u64 - 1) * 5 {
            assert_eq!(one.history().usual_use, None);
            one.others_use(after(minute), minute / 5 + 1);
        }
        // 1 to 24, of which the 90th percentile is the 21st (by the definition that takes a sample below it).
        assert_eq!(one.history().usual_use, Some(UsualUse { used_bytes: 21 }));
        // A week later all of that is gone.
        one.others_use(after(7 * 24 * 60 + 200), 1);
        assert_eq!(one.history().usual_use, None);
    }

    #[test]
    fn when_a_model_answered_last_is_known_to_ten_minutes() {
        let mut one = Remembered::nothing();
        for minute in [0, 9, 10, 15] {
            one.used(after(minute), "m");
        }
        let seconds = after(10).duration_since(UNIX_EPOCH).expect("it is later").as_secs();
        assert_eq!(one.last_used(), BTreeMap::from([("m".to_owned(), seconds)]));
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("history.json");
        let newer = br#"{"version": 2, "what": "is not known here"}"#;
        std::fs::write(&file, newer).expect("it can be written");
        let mut one = Remembered::open(file.clone());
        one.measured(&candidate(), 5, None);
        assert_eq!(std::fs::read(&file).expect("it is there"), newer);
    }
}
