//! Machines, models and installed artefacts for the tests.

use std::collections::BTreeMap;

use embedbar_catalog::{Catalogue, Entry, Storage};
use embedbar_contract::Precision::{self, FourBit, Fp16, Int8};
use embedbar_contract::{MemoryReading, Pressure};
use embedbar_planner::{
    Artefact, Backend, Candidate, Form, History, Plan, Present, Reading, Standing, System, Thresholds, Unit, Wishes,
};

pub(crate) fn gb(amount: f64) -> u64 {
    (amount * f64::from(1 << 30)) as u64
}

pub(crate) fn entry(name: &str) -> &'static Entry {
    Catalogue::builtin().find(name).unwrap_or_else(|| panic!("`{name}` is in the catalogue"))
}

pub(crate) fn candidate(model: &str, precision: Precision, backend: Backend) -> Candidate {
    Candidate { backend, model: entry(model).id.clone(), precision }
}

pub(crate) fn reading(system: System, total: f64, free: f64) -> Reading {
    let memory = MemoryReading {
        total_bytes: Some(gb(total)),
        available_bytes: Some(gb(free)),
        pressure: Some(Pressure::Normal),
        swap_out_bytes_per_second: Some(0.0),
        ..MemoryReading::default()
    };
    Reading::new(system, memory)
}

pub(crate) fn holding(mut reading: Reading, candidate: Candidate, held: f64) -> Reading {
    reading.present = Some(Present { candidate, held_bytes: gb(held), running_bytes: gb(held) });
    reading
}

pub(crate) fn under(mut reading: Reading, pressure: Pressure) -> Reading {
    reading.memory.pressure = Some(pressure);
    reading
}

pub(crate) fn standing(precision: Precision) -> Standing {
    match precision {
        Int8 => Standing::Compared { mean_cosine: 0.999, floor: 0.99 },
        FourBit => Standing::Compared { mean_cosine: 0.97, floor: 0.95 },
        _ => Standing::Original,
    }
}

pub(crate) fn gguf(model: &str, precision: Precision) -> Artefact {
    let model = entry(model).id.clone();
    Artefact { model, precision, form: Form::Gguf, standing: standing(precision) }
}

pub(crate) fn checkpoint(model: &str) -> Artefact {
    let model = entry(model).id.clone();
    Artefact { model, precision: Fp16, form: Form::Checkpoint, standing: Standing::Original }
}

pub(crate) fn package(model: &str, precision: Precision, specialised: bool, repeated: &[(Unit, f64)]) -> Artefact {
    let entry = entry(model);
    let largest_file_bytes = entry.architecture.weights_bytes(Storage::Package, precision);
    let repeated: BTreeMap<Unit, f64> = repeated.iter().copied().collect();
    let form = Form::Package { specialised, largest_file_bytes, repeated };
    Artefact { model: entry.id.clone(), precision, form, standing: standing(precision) }
}

pub(crate) fn ggufs(model: &str) -> Vec<Artefact> {
    [Fp16, Int8, FourBit].map(|precision| gguf(model, precision)).to_vec()
}

/// GGUF files and packages in every precision.
pub(crate) fn everything(model: &str) -> Vec<Artefact> {
    let packages = [Fp16, Int8, FourBit].map(|precision| package(model, precision, false, &[]));
    ggufs(model).into_iter().chain(packages).collect()
}

pub(crate) fn planned(wishes: &Wishes, model: &str, artefacts: &[Artefact], reading: &Reading) -> Plan {
    planned_with(wishes, &[model], artefacts, reading, &History::default())
}

pub(crate) fn planned_with(
    wishes: &Wishes,
    models: &[&str],
    artefacts: &[Artefact],
    reading: &Reading,
    history: &History,
) -> Plan {
    let entries: Vec<&Entry> = models.iter().map(|model| entry(model)).collect();
    embedbar_planner::plan(wishes, &entries, artefacts, reading, history, &Thresholds::default())
}

/// What was chosen, if a model was.
pub(crate) fn chosen(plan: &Plan) -> Option<(Precision, Backend)> {
    plan.chosen().map(|judged| (judged.candidate.precision, judged.candidate.backend))
}
