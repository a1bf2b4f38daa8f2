//! `embedbar converter`: one conversion for an owner; the one place that knows what a conversion is made of.

use embedbar_certify::{Certifier, Outcome};
use embedbar_contract::{ConvertFormat, ConvertPrecision, ConvertSystem, Failure, RecipeName};
use embedbar_convert::{Format, Job, Package, System, TargetPrecision};
use embedbar_wire::converter::{Made, Order};
use embedbar_wire::errand::Progress;

use crate::convert::sentence;
use crate::errand::{self, Watch};

pub(crate) fn run() -> anyhow::Result<()> {
    errand::run(|order: Order, progress| carry_out(&order, progress))
}

fn carry_out(order: &Order, progress: Watch) -> Result<Made, Failure> {
    let job = job(order);
    let Outcome { summary, certificate, .. } = Certifier::new(None).convert(&job, &mut |step| progress(told(step)))?;
    let mut notes = vec![sentence(&certificate)];
    notes.extend(crate::convert::notes(&summary));
    Ok(Made {
        bytes_read: summary.bytes_read,
        bytes_written: summary.bytes_written,
        notes,
        sha256: summary.output_sha256,
    })
}

fn told(step: embedbar_certify::Progress) -> Progress {
    let phase = step.phase.sentence().to_owned();
    Progress { phase, item: step.tensor, bytes_done: step.bytes_done, bytes_total: step.bytes_total }
}

fn job(order: &Order) -> Job {
    let precision = match order.precision {
        ConvertPrecision::Fp16 => TargetPrecision::Fp16,
        ConvertPrecision::Int8 => TargetPrecision::Int8,
        ConvertPrecision::FourBit => TargetPrecision::FourBit,
    };
    let format = match order.format {
        ConvertFormat::Gguf => Format::Gguf,
        ConvertFormat::Mlpackage { system, recipe: RecipeName::Native } => Format::Package(Package::native(of(system))),
        ConvertFormat::Mlpackage { system, recipe: RecipeName::Papr } => Format::Package(Package::papr(of(system))),
    };
    Job { format, ..Job::new(&order.source, &order.target, precision) }
}

fn of(system: ConvertSystem) -> System {
    match system {
        ConvertSystem::Macos13 => System::MacOs13,
        ConvertSystem::Macos14 => System::MacOs14,
        ConvertSystem::Macos15 => System::MacOs15,
    }
}
