//! A simulated machine in the place of this one: a committed trace is played, models and their memory are real.
//!
//! What the others use follows the trace; the model that is loaded comes on top with the size of its file. The machine is made
//! as small beside the bundled model as a real one is beside a large model, and the planner's thresholds with it; the program
//! and the tokenizer, which are nothing beside a large model and would drown a small one, are left out. Every reading says that
//! it is simulated. What is not here: anything that decides.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use embedbar_catalog::{Catalogue, Storage};
use embedbar_contract::{DiskReading, Failure, FailureCode, MemoryReading, Precision, ProgramMemory};
use embedbar_memory::Machine;
use embedbar_planner::trace::{Trace, TraceMachine};
use embedbar_planner::{System, Thresholds};
use embedbar_store::BUNDLED_ID;

/// The fastest that a trace may be played: a reading takes some milliseconds.
const FASTEST: f64 = 240.0;

/// The machine that everything is decided for: this one, or a simulated one.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// What kind of machine it is.
    pub(crate) system: System,
    /// The planner's numbers for it.
    pub(crate) thresholds: Thresholds,
    /// Seconds of the machine that pass in one of ours.
    pub(crate) speed: f64,
    started: Instant,
    /// What the loaded model takes on a simulated machine.
    loaded_bytes: Arc<AtomicU64>,
}

impl World {
    /// This machine.
    pub(crate) fn real() -> Self {
        let system = if cfg!(target_os = "macos") { System::Mac } else { System::Linux };
        Self {
            system,
            thresholds: Thresholds::default(),
            speed: 1.0,
            started: Instant::now(),
            loaded_bytes: Arc::default(),
        }
    }

    /// Its time.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed().mul_f64(self.speed)
    }

    /// Tells a simulated machine what the loaded model takes.
    pub(crate) fn set_loaded_bytes(&self, bytes: u64) {
        self.loaded_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether it is a simulated one.
    pub(crate) fn is_simulated(&self) -> bool {
        self.system == System::SimulatedMac
    }
}

/// Which machine to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    name: String,
    machine: TraceMachine,
    speed: f64,
}

impl Simulation {
    /// The committed trace called `name`, played `speed` times as fast as it was recorded.
    pub fn new(name: &str, speed: f64) -> Result<Self, Failure> {
        let trace = Trace::builtin(name).ok_or_else(|| {
            let known: Vec<&str> = Trace::names().collect();
            Failure::new(FailureCode::NotFound, format!("there is no trace `{name}`"))
                .hint(format!("There are {}.", known.join(", ")))
        })?;
        if !(speed > 0.0 && speed <= FASTEST) {
            return Err(Failure::new(FailureCode::InvalidRequest, format!("`{speed}` is no speed for a trace"))
                .hint(format!("Give a number above 0, at most {FASTEST}.")));
        }
        let entry =
            Catalogue::builtin().find(BUNDLED_ID).expect("the bundled model is in the catalogue. This is a bug.");
        let widest = entry.architecture.weights_bytes(Storage::Gguf, Precision::Fp16);
        let factor = TraceMachine::factor_for(trace, widest);
        Ok(Self { name: name.to_owned(), machine: TraceMachine::new(trace.clone()).scaled(factor), speed })
    }

    /// The one that `EMBEDBAR_SIMULATE` names, at `EMBEDBAR_SIMULATE_SPEED` times its speed; for programs without a command line.
    pub fn from_environment() -> Result<Option<Self>, Failure> {
        let Ok(name) = std::env::var("EMBEDBAR_SIMULATE") else { return Ok(None) };
        let speed = std::env::var("EMBEDBAR_SIMULATE_SPEED").unwrap_or_else(|_| "1".to_owned());
        let speed = speed.parse().map_err(|_| {
            Failure::new(FailureCode::InvalidRequest, format!("`EMBEDBAR_SIMULATE_SPEED={speed}` is no number"))
        })?;
        Self::new(&name, speed).map(Some)
    }

    /// The world to decide in, and its machine, which reads the worker's memory from `real`.
    pub(crate) fn start(self, real: Box<dyn Machine>) -> (World, Box<dyn Machine>) {
        let world = World {
            system: System::SimulatedMac,
            thresholds: Thresholds::default().scaled(self.machine.factor()),
            speed: self.speed,
            started: Instant::now(),
            loaded_bytes: Arc::default(),
        };
        let label = if (self.speed - 1.0).abs() < f64::EPSILON {
            self.name
        } else {
            format!("{}, {} times as fast", self.name, self.speed)
        };
        let machine = SimulatedMachine { label, machine: self.machine, world: world.clone(), real };
        (world, Box::new(machine))
    }
}

struct SimulatedMachine {
    label: String,
    machine: TraceMachine,
    world: World,
    real: Box<dyn Machine>,
}

impl Machine for SimulatedMachine {
    fn read(&mut self, worker: Option<u32>) -> MemoryReading {
        let real = self.real.read(worker);
        MemoryReading {
            own_bytes: real.own_bytes,
            simulated: Some(self.label.clone()),
            ..self.machine.reading(self.world.now(), worker.map(|_| self.world.loaded_bytes.load(Ordering::Relaxed)))
        }
    }

    fn programs(&mut self) -> Option<Vec<ProgramMemory>> {
        None // the trace knows how much, not who
    }

    fn disk(&self, folder: &Path) -> Option<DiskReading> {
        self.real.disk(folder)
    }
}
