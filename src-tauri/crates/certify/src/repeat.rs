//! A package's certificate once more, by what is going to run it.
//!
//! The certificate beside a package was made by this project's evaluator. Core ML rounds in other places, and in other ones
//! again on each processor, so the first load on a Mac embeds the probe set there and compares with the source's vectors, which
//! the certificate keeps. What falls below the certificate's floor is never used on that unit: the next one is tried. The result
//! lies beside the package and holds for this package, this unit and this version of the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use embedbar_contract::PromptKind;
use embedbar_engine::{ComputeUnit, Engine, How, is_package};
use embedbar_memory::system_version;
use serde::{Deserialize, Serialize};

use crate::{CertifyError, agreement, probes};
use embedbar_convert::certificate::{Agreement, Certificate, Verdict, beside, place};

/// The version of the form. A record of another version is made again.
const VERSION: u32 = 1;

/// Far above any real one.
const LARGEST: u64 = 1 << 20;

/// What one unit made of a package.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Repetition {
    /// The version of the form.
    pub version: u32,
    /// Whether the unit may run the package, and why not.
    pub verdict: Verdict,
    /// How near the vectors are to the source's.
    pub agreement: Agreement,
    /// [`ComputeUnit::name`].
    pub unit: String,
    /// The system and its version, whose compiler of models decides what is computed.
    pub system: String,
    /// The package, see [`Certificate::target_sha256`].
    pub target_sha256: String,
    /// Milliseconds that embedding the probe set took.
    pub milliseconds: f64,
}

impl Repetition {
    /// Where the record for a unit is.
    pub fn path(package: &Path, unit: ComputeUnit) -> PathBuf {
        beside(package, &format!(".{}.json", unit.name()))
    }

    /// The one beside the package, if it is about this package and this system. Any other, or a damaged one, is made again.
    fn beside(package: &Path, unit: ComputeUnit, certificate: &Certificate) -> Option<Self> {
        let path = Self::path(package, unit);
        if path.metadata().ok()?.len() > LARGEST {
            return None;
        }
        let found: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let same = found.version == VERSION
            && found.unit == unit.name()
            && found.system == system_version()
            && found.target_sha256 == certificate.target_sha256;
        same.then_some(found)
    }
}

/// Opens a model for use: a checkpoint as `how` says, a package that has a certificate only on a unit that passes it.
pub fn open(id: &str, path: &Path, how: &How) -> Result<Engine, CertifyError> {
    // The interpreter computes what the evaluator computed, and would take minutes to say so.
    let units: Vec<ComputeUnit> =
        ComputeUnit::all().iter().copied().filter(|unit| *unit != ComputeUnit::Interpreter).collect();
    if units.is_empty() || !is_package(path) {
        return Ok(Engine::open_as(id, path, how)?);
    }
    first_that_passes(path, &units, |unit| {
        let mut engine = Engine::open_on(id, path, unit)?;
        let repetition = repeat(&mut engine, path, unit)?;
        Ok((engine, repetition))
    })
}

/// What the first unit that passes has opened. One that cannot open the package is passed over too, unless no other can.
fn first_that_passes<E>(
    path: &Path,
    units: &[ComputeUnit],
    mut open: impl FnMut(ComputeUnit) -> Result<(E, Option<Repetition>), CertifyError>,
) -> Result<E, CertifyError> {
    let mut worst = None;
    for &unit in units {
        match open(unit) {
            Ok((engine, None | Some(Repetition { verdict: Verdict::Passed, .. }))) => return Ok(engine),
            Ok((_, Some(Repetition { verdict: Verdict::Quarantined(reason), .. }))) => {
                worst = Some(CertifyError::Unfit { path: path.to_path_buf(), unit, reason });
            }
            Err(error) => worst = worst.or(Some(error)),
        }
    }
    Err(worst.expect("every system has a unit. This is a bug."))
}

/// Compares the vectors of a loaded package with its certificate, or finds that this was done. `None`: it has no certificate, or
/// one for another probe set, and nothing is known.
pub fn repeat(engine: &mut Engine, package: &Path, unit: ComputeUnit) -> Result<Option<Repetition>, CertifyError> {
    let Some(certificate) = Certificate::beside(package)?.filter(|certificate| certificate.is_of(package)) else {
        return Ok(None);
    };
    if let Some(found) = Repetition::beside(package, unit, &certificate) {
        return Ok(Some(found));
    }
    let Some(source) = certificate.source_vectors().filter(|_| certificate.probes_sha256 == probes::sha256()) else {
        return Ok(None);
    };
    tracing::info!(package = %package.display(), %unit, "comparing with the certificate, once on this system");
    let started = Instant::now();
    let recipe = engine.own_recipe();
    let vectors = engine.embed(&probes::probes(), PromptKind::None, recipe)?.vectors;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    if vectors.iter().zip(&source).any(|(ours, theirs)| ours.len() != theirs.len()) {
        let problem = "its vectors have another width than the package's".to_owned();
        return Err(CertifyError::Certificate { path: Certificate::path(package), problem });
    }
    let agreement = agreement(&source, &vectors);
    let repetition = Repetition {
        version: VERSION,
        verdict: Verdict::of(&agreement, certificate.floor),
        agreement,
        unit: unit.name().to_owned(),
        system: system_version(),
        target_sha256: certificate.target_sha256,
        milliseconds,
    };
    tracing::info!(agreement = ?repetition.agreement, verdict = ?repetition.verdict, "compared");
    // A folder that cannot be written to costs the same comparison at the next load, and nothing else.
    let _ = place(&Repetition::path(package, unit), &repetition);
    Ok(Some(repetition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repetition(verdict: Verdict) -> Repetition {
        let agreement = Agreement { mean_cosine: 0.4, least_cosine: 0.1, top_10_overlap: 0.2 };
        let (unit, system, target_sha256) = (String::new(), String::new(), String::new());
        Repetition { version: VERSION, verdict, agreement, unit, system, target_sha256, milliseconds: 1.0 }
    }

    fn unfit() -> Repetition {
        repetition(Verdict::Quarantined("too far off".to_owned()))
    }

    const UNITS: [ComputeUnit; 3] = [ComputeUnit::NeuralEngine, ComputeUnit::Gpu, ComputeUnit::Cpu];

    #[test]
    fn a_unit_that_is_not_fit_gives_way_to_the_next_one() {
        let opened = first_that_passes(Path::new("x.mlpackage"), &UNITS, |unit| {
            Ok((unit, (unit == ComputeUnit::NeuralEngine).then(unfit)))
        });
        assert_eq!(opened.expect("the GPU passes"), ComputeUnit::Gpu);
        let passed =
            first_that_passes(Path::new("x.mlpackage"), &UNITS, |unit| Ok((unit, Some(repetition(Verdict::Passed)))));
        assert_eq!(passed.expect("the first passes"), ComputeUnit::NeuralEngine);
    }

    #[test]
    fn a_package_that_no_unit_may_run_is_an_error_that_says_why() {
        let refused = first_that_passes(Path::new("x.mlpackage"), &UNITS, |unit| Ok((unit, Some(unfit()))));
        let error = refused.expect_err("no unit passes").to_string();
        assert_eq!(error, "`x.mlpackage` is not used with Core ML on the processor: too far off");
        let broken = |_| Err(CertifyError::Certificate { path: "c".into(), problem: "it is cut short".to_owned() });
        let error = first_that_passes::<()>(Path::new("x.mlpackage"), &UNITS, broken).expect_err("nothing opens");
        assert!(matches!(error, CertifyError::Certificate { .. }));
    }
}
