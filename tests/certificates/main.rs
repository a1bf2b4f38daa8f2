//! Certificates of real weights, judged by the engine: it shares neither its encoders nor its readers of checkpoints with the
//! evaluator that made them.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use embedbar_certify::{
    Certificate, Certifier, CertifyError, Outcome, Phase, Repetition, Verdict, agreement, probes, repeat,
};
use embedbar_contract::{PromptKind, RecipeName};
use embedbar_convert::{ConvertError, Format, Job, Lengths, Package, Summary, System, TargetPrecision};
use embedbar_engine::{ComputeUnit, Engine};
use embedbar_tests::checkpoint;
use embedbar_tests::program::checkout;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

fn certified(job: &Job, floor: Option<f64>) -> Result<Outcome, CertifyError> {
    Certifier::new(floor).convert(job, &mut |_| GO_ON)
}

fn by_the_engine(path: &Path, recipe: RecipeName) -> Vec<Vec<f32>> {
    let mut engine = Engine::open("model", path).expect("it opens");
    engine.embed(&probes(), PromptKind::None, recipe).expect("it embeds").vectors
}

fn package(source: &Path, target: PathBuf, precision: TargetPrecision, package: Package) -> Job {
    Job { format: Format::Package(package), ..Job::new(source, target, precision) }
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it can be listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_evaluator_gives_the_engines_vectors_of_each_family() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (model, recipe) in [
        ("bert-small", RecipeName::Native),
        ("xlm-roberta-small", RecipeName::Native),
        ("nomic-bert-small", RecipeName::Native),
        ("qwen3-small", RecipeName::Native),
        ("qwen3-small", RecipeName::Papr),
    ] {
        let source = checkout().join("tests/truth").join(model);
        let job = match recipe {
            RecipeName::Native => {
                Job::new(&source, folder.path().join(model).with_extension("gguf"), TargetPrecision::Fp16)
            }
            RecipeName::Papr => {
                let target = folder.path().join("papr").join("model.mlpackage");
                fs::create_dir_all(target.parent().expect("a folder")).expect("it can be made");
                package(&source, target, TargetPrecision::Fp16, Package::papr(System::MacOs14))
            }
        };
        let job = Job { target: own_folder(&job.target, model), ..job };
        let Outcome { certificate, .. } = certified(&job, Some(0.0)).expect("it is converted");
        let kept = certificate.source_vectors().expect("they are kept");
        let found = agreement(&by_the_engine(&source, recipe), &kept);
        assert!(found.least_cosine > 0.999_99, "{model}, {recipe:?}: {found:?}");
    }
}

/// The same file in a folder of its own, so that no tokenizer is another model's.
fn own_folder(target: &Path, model: &str) -> PathBuf {
    let folder = target.parent().expect("a folder").join(format!("of-{model}"));
    fs::create_dir_all(&folder).expect("it can be made");
    folder.join(target.file_name().expect("a name"))
}

#[test]
fn certificates_of_real_weights_say_what_the_engine_finds() {
    let name = "certificates_of_real_weights_say_what_the_engine_finds";
    let Some(source) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wanted = by_the_engine(&source, RecipeName::Native);
    let mut found: BTreeMap<String, Certificate> = BTreeMap::new();
    for precision in [TargetPrecision::Fp16, TargetPrecision::Int8, TargetPrecision::FourBit] {
        let target = folder.path().join(format!("{precision:?}.gguf"));
        let outcome = certified(&Job::new(&source, &target, precision), None).expect("it passes");
        let certificate = Certificate::beside(&target).expect("it can be read").expect("it is there");
        assert_eq!(certificate.target_sha256, outcome.certificate.target_sha256);
        assert!(certificate.is_of(&target));
        assert_eq!(certificate.verdict, Verdict::Passed);
        assert!(certificate.probes >= 200);
        assert_eq!(certificate.target_sha256, checkpoint::sha256(&target).expect("it can be read"));
        let engines = agreement(&wanted, &by_the_engine(&target, RecipeName::Native));
        let stated = certificate.agreement;
        assert!((engines.mean_cosine - stated.mean_cosine).abs() < 2e-3, "{precision:?}: {engines:?}, {stated:?}");
        assert!(
            (engines.top_10_overlap - stated.top_10_overlap).abs() < 0.02,
            "{precision:?}: {engines:?}, {stated:?}"
        );
        found.insert(format!("{precision:?}"), certificate);
    }
    assert!(found["Fp16"].agreement.mean_cosine > found["Int8"].agreement.mean_cosine);
    assert!(found["Int8"].agreement.mean_cosine > found["FourBit"].agreement.mean_cosine);
}

#[test]
fn packages_of_real_weights_pass_their_self_test_and_their_floor() {
    let name = "packages_of_real_weights_pass_their_self_test_and_their_floor";
    let Some(source) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut certifier = Certifier::new(None);
    for system in [System::MacOs13, System::MacOs15] {
        for precision in [TargetPrecision::Fp16, TargetPrecision::Int8, TargetPrecision::FourBit] {
            let target = folder.path().join(format!("{system:?}-{precision:?}.mlpackage"));
            let job = package(&source, target, precision, Package::native(system));
            let mut evaluated = 0;
            let outcome = certifier
                .convert(&job, &mut |step| {
                    evaluated += usize::from(step.phase == Phase::EvaluatingSource);
                    GO_ON
                })
                .expect("it passes");
            let Certificate { agreement, self_test, floor, .. } = &outcome.certificate;
            assert!(agreement.mean_cosine >= *floor && *floor > 0.9, "{precision:?}: {agreement:?}");
            assert_eq!((self_test.width, self_test.evaluator.as_str()), (384, "Core ML (interpreted, slow)"));
            assert!(self_test.least_cosine > 0.9999, "{self_test:?}");
            let first = (system, precision) == (System::MacOs13, TargetPrecision::Fp16);
            assert_eq!(evaluated > 0, first, "the source's vectors are computed once");
        }
    }
}

#[test]
fn a_model_in_several_packages_is_judged_as_the_one_that_it_is() {
    let name = "a_model_in_several_packages_is_judged_as_the_one_that_it_is";
    let Some(source) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut certifier = Certifier::new(None);
    let mut certified = |name: &str, chunk_bytes: Option<u64>| {
        let chunks = Package { chunk_bytes, ..Package::native(System::MacOs14) };
        let job = package(&source, folder.path().join(name), TargetPrecision::Int8, chunks);
        certifier.convert(&job, &mut |_| GO_ON).expect("it passes")
    };
    let (whole, chain) = (certified("whole.mlpackage", None), certified("chain.mlpackage", Some(14_000_000)));
    let paths: Vec<&Path> = chain.summary.packages.iter().map(|package| package.path.as_path()).collect();
    assert!(paths.len() > 1 && paths.iter().all(|path| path.is_dir()), "{paths:?}");
    assert_eq!(chain.certificate.agreement, whole.certificate.agreement);
    assert!(chain.certificate.self_test.least_cosine > 0.9999);
}

#[test]
fn matrices_that_lost_most_are_raised_until_the_floor_is_reached() {
    let name = "matrices_that_lost_most_are_raised_until_the_floor_is_reached";
    let Some(source) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for target in ["model.gguf", "model.mlpackage"] {
        let target = folder.path().join(target);
        let mut job = Job::new(&source, &target, TargetPrecision::FourBit);
        if target.extension().is_some_and(|suffix| suffix == "mlpackage") {
            job.format = Format::Package(Package::native(System::MacOs14));
        }
        let plain = certified(&job, Some(0.0)).expect("any is accepted");
        assert!(plain.certificate.raised.is_empty());
        let reached = plain.certificate.agreement.mean_cosine;
        let floor = reached + (1.0 - reached) / 3.0;
        let raised = certified(&job, Some(floor)).expect("enough is raised");
        let parts = &raised.certificate.raised;
        let matrices = plain.summary.tensors.iter().filter(|tensor| tensor.is_four_bit()).count();
        assert!(!parts.is_empty() && parts.len() < matrices, "{} of {matrices}", parts.len());
        assert!(raised.certificate.agreement.mean_cosine >= floor);
        for tensor in &raised.summary.tensors {
            assert!(!(parts.contains(&tensor.part) && tensor.is_four_bit()), "{} was raised", tensor.part);
        }
        assert!(raised.summary.bytes_written > plain.summary.bytes_written);
    }
}

#[test]
fn what_does_not_pass_is_set_aside_and_the_old_model_stays() {
    let source = checkout().join("tests/truth/bert-small");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["model.gguf", "model.mlpackage"] {
        let folder = folder.path().join(name.replace('.', "-"));
        fs::create_dir(&folder).expect("it can be made");
        let target = folder.join(name);
        let mut job = Job::new(&source, &target, TargetPrecision::Int8);
        if name == "model.mlpackage" {
            job.format = Format::Package(Package::native(System::MacOs14));
        }
        certified(&job, Some(0.0)).expect("any is accepted");
        let before = Certificate::beside(&target).expect("it can be read");
        let error = certified(&job, Some(1.0)).expect_err("8 bits are not 16");
        let CertifyError::BelowFloor { aside, .. } = &error else { panic!("{error}") };
        assert_eq!(Certificate::beside(&target).expect("it can be read"), before);
        assert!(before.expect("it is there").is_of(&target));
        let reason = Certificate::beside(aside).expect("it can be read").expect("it is there");
        assert!(matches!(&reason.verdict, Verdict::Quarantined(reason) if reason.contains("floor of 1")));
        let quarantined = format!("{name}.quarantined");
        let certificates = [name, quarantined.as_str()].map(|name| format!("{name}.certificate.json"));
        let mut wanted = vec![name.to_owned(), quarantined, "tokenizer.json".to_owned()];
        wanted.extend(certificates);
        wanted.sort();
        assert_eq!(names(&folder), wanted);
        assert!(embedbar_contract::Failure::from(error).hint.is_some_and(|hint| hint.contains("--floor 0.9")));
    }
}

#[test]
fn cancelling_in_any_phase_leaves_nothing_behind() {
    let source = checkout().join("tests/truth/qwen3-small");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let phases = [
        (Phase::Converting, "gguf"),
        (Phase::ReadingBack, "gguf"),
        (Phase::EvaluatingTarget, "gguf"),
        (Phase::TestingTarget, "mlpackage"),
        (Phase::EvaluatingSource, "gguf"),
        (Phase::FindingWorst, "gguf"),
    ];
    for (phase, format) in phases {
        let mut job = Job::new(&source, folder.path().join("model").with_extension(format), TargetPrecision::FourBit);
        if format == "mlpackage" {
            job.format = Format::Package(Package::native(System::MacOs14));
        }
        let mut met = false;
        let stop = &mut |step: embedbar_certify::Progress| {
            met |= step.phase == phase;
            if step.phase == phase { ControlFlow::Break(()) } else { GO_ON }
        };
        let error = Certifier::new(Some(1.0)).convert(&job, stop).expect_err("it is cancelled");
        assert!(met, "{phase:?} was not met");
        assert!(matches!(error, CertifyError::Convert(ConvertError::Cancelled { .. })), "{phase:?}: {error}");
        assert!(names(folder.path()).is_empty(), "{phase:?}: {:?}", names(folder.path()));
    }
}

/// On a Mac the unit is Core ML's; here it is the interpreter, which is another program than the evaluator too.
#[test]
fn a_package_is_compared_again_by_what_runs_it_once() {
    let source = checkout().join("tests/truth/bert-small");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = folder.path().join("model.mlpackage");
    let lengths = NonZeroUsize::new(48).expect("it is not 0").into();
    let job = package(
        &source,
        target.clone(),
        TargetPrecision::Int8,
        Package { lengths, ..Package::native(System::MacOs14) },
    );
    let certificate = certified(&job, Some(0.9)).expect("it passes").certificate;
    let unit = ComputeUnit::all()[0];
    let mut engine = Engine::open_on("model", &target, unit).expect("it opens");
    let mut again = || repeat(&mut engine, &target, unit).expect("it can be compared").expect("there is a certificate");

    let first = again();
    assert_eq!(first.verdict, Verdict::Passed);
    assert!((first.agreement.mean_cosine - certificate.agreement.mean_cosine).abs() < 1e-3, "{:?}", first.agreement);
    let record = Repetition::path(&target, unit);
    let written = fs::read_to_string(&record).expect("it is written down");
    let known = |again: &Repetition, first: &Repetition| {
        // Numbers in decimals may come back a last place off.
        again.verdict == first.verdict && (again.milliseconds - first.milliseconds).abs() < 1e-6
    };
    assert!(known(&again(), &first), "what is known is computed again");

    // Another version of the system compiles models otherwise.
    let unlike = Repetition { system: "macOS 13".to_owned(), milliseconds: 0.0, ..first.clone() };
    fs::write(&record, serde_json::to_string(&unlike).expect("it becomes JSON")).expect("it can be written");
    assert!(again().milliseconds > 0.0);
    // A damaged record counts for nothing.
    fs::write(&record, &written[..written.len() / 2]).expect("it can be written");
    assert_eq!(again().verdict, Verdict::Passed);

    // A unit that computes something else: the same package beside another model's vectors.
    fs::remove_file(&record).expect("it is there");
    let path = Certificate::path(&target);
    let text = fs::read_to_string(&path).expect("it is there");
    let mut strange: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let other = Job {
        target: folder.path().join("other.gguf"),
        format: Format::Gguf,
        pooling: Some(embedbar_convert::Pooling::Last),
        ..job.clone()
    };
    let other = certified(&other, Some(0.9)).expect("it passes").certificate;
    strange["source_vectors"] = serde_json::to_value(other.source_vectors).expect("it becomes JSON");
    strange["floor"] = 0.999_9.into();
    fs::write(&path, strange.to_string()).expect("it can be written");
    let unfit = again();
    assert!(matches!(&unfit.verdict, Verdict::Quarantined(reason) if reason.contains("below the floor of 0.9999")));
    assert!(known(&again(), &unfit), "a unit that is not fit stays so until the package or the system changes");
}

/// The checkpoint in `source` with the weights of a package in the place of its own, in single precision, in `folder`.
fn with_the_weights_of(package: &embedbar_mil::Package, summary: &Summary, source: &Path, folder: &Path) {
    let file = fs::read(source.join("model.safetensors")).expect("it can be read");
    let theirs = SafeTensors::deserialize(&file).expect("it is one");
    let mut numbers: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, tensor) in theirs.tensors() {
        numbers.insert(name, (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
    }
    for tensor in &summary.tensors {
        let weight = package.weight(&tensor.name).expect("the package has it");
        let mut expanded = vec![0.0; weight.shape().iter().product()];
        weight.read(0, &mut expanded).expect("it can be read");
        let (dtype, shape, bytes) = numbers.get_mut(&tensor.source).expect("the source has it");
        let expanded: Vec<u8> = expanded.iter().flat_map(|number| number.to_le_bytes()).collect();
        if expanded.len() == shape.iter().product::<usize>() * size_of::<f32>() {
            (*dtype, *bytes) = (Dtype::F32, expanded);
            continue;
        }
        // A table of positions ends in the package where its longest text ends, and of the types of tokens one is used.
        assert!(["position", "token_type"].iter().any(|it| tensor.part.contains(it)), "{}", tensor.part);
        assert_eq!(*dtype, Dtype::F32, "rows are put among rows of the same type");
        bytes[..expanded.len()].copy_from_slice(&expanded);
    }
    let numbers: Vec<_> = numbers.into_iter().collect();
    let views = numbers.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as before"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).expect("it can be written");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json"]
    {
        fs::copy(source.join(name), folder.join(name)).expect("it can be copied");
    }
    fs::create_dir(folder.join("1_Pooling")).expect("it can be made");
    fs::copy(source.join("1_Pooling/config.json"), folder.join("1_Pooling/config.json")).expect("it can be copied");
}

/// The engine shares neither encoders nor weights' readers with the interpreter, and nothing with the writer.
#[test]
fn a_package_computes_what_its_own_weights_say() {
    let name = "a_package_computes_what_its_own_weights_say";
    let Some(minilm) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let qwen3 = checkout().join("tests/truth/qwen3-small");
    for (source, recipe) in [
        (minilm.as_path(), RecipeName::Native),
        (qwen3.as_path(), RecipeName::Native),
        (qwen3.as_path(), RecipeName::Papr),
    ] {
        let model = source.display();
        for (precision, system) in [
            (TargetPrecision::Fp16, System::MacOs13),
            (TargetPrecision::Int8, System::MacOs14),
            (TargetPrecision::FourBit, System::MacOs14),
            (TargetPrecision::FourBit, System::MacOs15),
        ] {
            let short = Lengths::from(NonZeroUsize::new(40).expect("it is not 0"));
            let folder = tempfile::tempdir().expect("a temporary folder");
            let target = folder.path().join("model.mlpackage");
            let kind = match recipe {
                RecipeName::Native => Package { lengths: short.clone(), ..Package::native(system) },
                RecipeName::Papr => Package::papr(system),
            };
            let job = package(source, target.clone(), precision, kind);
            let summary = embedbar_convert::convert(&job, &mut |_| GO_ON).expect("it is converted");
            let made = embedbar_mil::Package::open(&target).expect("it opens");
            let expanded = folder.path().join("expanded");
            fs::create_dir(&expanded).expect("it can be made");
            with_the_weights_of(&made, &summary, source, &expanded);
            let texts = probes();
            let vectors = |path: &Path| {
                let mut engine = Engine::open("model", path).expect("it opens");
                engine.embed(&texts[..4], PromptKind::None, recipe).expect("it embeds").vectors.concat()
            };
            let pairs = vectors(&target).into_iter().zip(vectors(&expanded));
            let most = pairs.map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0_f32, f32::max);
            // The tables of angles are in half precision in a package and not in the engine; `tests/package/check.py` puts the
            // package's own in their place and allows 1e-4.
            let bound = if source == qwen3 { 5e-4 } else { 1e-4 };
            assert!(most < bound, "{model}, {recipe:?}, {precision:?}, {system:?}: {most:e}");
            // Against the source itself, half precision loses little.
            if precision == TargetPrecision::Fp16 {
                let pairs = vectors(&target).into_iter().zip(vectors(source));
                let most = pairs.map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0_f32, f32::max);
                assert!(most < 1e-3, "{model}, {recipe:?}: {most:e}");
            }
        }
    }
}
