//! A conversion that was asked for, checked before there is a job: what it reads, what it makes and where.
//!
//! What is not here: running it, and whether the checkpoint can be converted, which is for the converter to say.

use std::fs;
use std::path::{Path, PathBuf};

use embedbar_contract::{
    ConvertFormat, ConvertPrecision, ConvertRequest, ConvertSystem, Failure, FailureCode, Precision, RecipeName,
};
use embedbar_settings::Written;
use embedbar_store::is_model_id;
use embedbar_wire::converter::Order;

/// A conversion that can be tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conversion {
    /// What it is called in lists.
    pub(crate) title: String,
    /// The checkpoint's folder.
    pub(crate) source: PathBuf,
    /// The file or package to make.
    pub(crate) target: PathBuf,
    /// The target's folder, where it is made for it and goes again where nothing comes of it.
    pub(crate) own_folder: Option<PathBuf>,
    pub(crate) precision: ConvertPrecision,
    pub(crate) format: ConvertFormat,
}

impl Conversion {
    /// Checks a request; `models` is the folder of the home's models. It looks at the disk.
    /// `written` is what the followed `.env` says, by which the hub's cache is found.
    pub(crate) fn check(request: &ConvertRequest, models: &Path, written: &Written) -> Result<Self, Failure> {
        let source = source(&request.source, models, written)?;
        let name = source_name(&request.source)?;
        let (precision, format) = (request.precision, request.format);
        let title = format!("{name} to {} {}", Precision::from(precision), format_name(format));
        if let Some(target) = &request.target {
            let target = given_target(target, format)?;
            return Ok(Self { title, source, target, own_folder: None, precision, format });
        }
        // Each has a folder of its own, because the tokenizer lies beside the model.
        let name = format!("{name}-{}", variant(precision, format));
        let folder = models.join(&name);
        let target = folder.join(format!("{name}.{}", format.suffix()));
        Ok(Self { title, source, target, own_folder: Some(folder), precision, format })
    }

    /// What the converter is told.
    pub(crate) fn order(&self) -> Order {
        Order {
            source: self.source.clone(),
            target: self.target.clone(),
            precision: self.precision,
            format: self.format,
        }
    }

    /// Makes the target's folder, where it has one of its own.
    pub(crate) fn make_folder(&self) -> Result<(), Failure> {
        let Some(folder) = &self.own_folder else { return Ok(()) };
        fs::create_dir_all(folder).map_err(|error| {
            Failure::new(FailureCode::Io, format!("the folder `{}` cannot be made: {error}", folder.display()))
                .hint("Check that the home is yours and that its disk is not full.")
        })
    }

    /// Removes what a conversion that came to nothing may have left, whatever ended it.
    pub(crate) fn remove_debris(&self) {
        embedbar_convert::sweep_target(&self.target);
        if let Some(folder) = &self.own_folder {
            // Only an empty folder goes: an older model stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Removes what conversions of an earlier life were killed over, in the home's models folder and in the folders of the models.
pub(crate) fn sweep(models: &Path) {
    embedbar_convert::sweep(models);
    for entry in fs::read_dir(models).into_iter().flatten().flatten() {
        // A link leads to a folder that is not ours.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            embedbar_convert::sweep(&entry.path());
            // One that is empty now was made for the model that never came; a hidden one is being filled.
            if !entry.file_name().to_string_lossy().starts_with('.') {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The checkpoint's folder: an installed model's, one in the hub's cache, or a path.
fn source(named: &str, models: &Path, written: &Written) -> Result<PathBuf, Failure> {
    let installed = models.join(named);
    if is_model_id(named) && installed.join("config.json").is_file() {
        return Ok(installed);
    }
    if !named.starts_with('/') && named.contains('/') {
        return crate::hub::downloaded(named, written);
    }
    let folder = crate::commands::existing(named)?;
    if folder.join("config.json").is_file() {
        return Ok(folder);
    }
    Err(Failure::new(FailureCode::NotFound, format!("`{named}` is not a checkpoint: it has no `config.json`")).hint(
        "Name the folder with `config.json`, `tokenizer.json` and the safetensors files, or a model's id such as \
         `Qwen/Qwen3-Embedding-0.6B`.",
    ))
}

/// What the source is called, fit for a file name of a model that is listed.
fn source_name(named: &str) -> Result<&str, Failure> {
    let name = named.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_start_matches('.');
    // A model that is called after its precision is made into one that is called after another.
    let name = ["-fp32", "-fp16"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    if name.is_empty() {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("`{named}` has no name to call a model by"))
            .hint("Say where the converted model is to be."));
    }
    Ok(name)
}

/// What tells models of one source apart.
fn variant(precision: ConvertPrecision, format: ConvertFormat) -> String {
    let precision = match precision {
        ConvertPrecision::Fp16 => "fp16",
        ConvertPrecision::Int8 => "int8",
        ConvertPrecision::FourBit => "4bit",
    };
    let ConvertFormat::Mlpackage { system, recipe } = format else { return precision.to_owned() };
    let system = match system {
        ConvertSystem::Macos13 => "macos13",
        ConvertSystem::Macos14 => "macos14",
        ConvertSystem::Macos15 => "macos15",
    };
    match recipe {
        RecipeName::Native => format!("{precision}-{system}"),
        RecipeName::Papr => format!("{precision}-{system}-papr"),
    }
}

fn format_name(format: ConvertFormat) -> String {
    match format {
        ConvertFormat::Gguf => "GGUF".to_owned(),
        ConvertFormat::Mlpackage { recipe: RecipeName::Native, .. } => "Core ML".to_owned(),
        ConvertFormat::Mlpackage { recipe, .. } => format!("Core ML, recipe {recipe}"),
    }
}

/// A target that was named.
fn given_target(named: &str, format: ConvertFormat) -> Result<PathBuf, Failure> {
    let (target, suffix) = (PathBuf::from(named), format.suffix());
    let refused = |problem: String| Failure::new(FailureCode::InvalidRequest, format!("`{named}` {problem}"));
    if !target.is_absolute() {
        return Err(refused("is not an absolute path".to_owned()).hint("Give the whole path, beginning with `/`."));
    }
    if target.extension().is_none_or(|found| found != suffix) {
        return Err(refused(format!("does not end in `.{suffix}`")).hint("Choose a name that says what is made."));
    }
    if !target.parent().is_some_and(Path::is_dir) {
        return Err(refused("would be in a folder that is not there".to_owned()).hint("Make the folder first."));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(folder: &Path) -> PathBuf {
        let source = folder.join("My-Model");
        fs::create_dir_all(&source).expect("it can be made");
        fs::write(source.join("config.json"), "{}").expect("it can be written");
        source
    }

    fn request(source: &Path, format: ConvertFormat) -> ConvertRequest {
        let source = source.display().to_string();
        ConvertRequest { source, precision: ConvertPrecision::Int8, format, target: None, make_room: None }
    }

    const PAPR: ConvertFormat = ConvertFormat::Mlpackage { system: ConvertSystem::Macos15, recipe: RecipeName::Papr };

    #[test]
    fn each_variant_of_a_model_has_a_folder_of_its_own() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = checkpoint(folder.path());
        let models = folder.path().join("models");
        let check = |format| {
            Conversion::check(&request(&source, format), &models, &Written::default()).expect("it can be tried")
        };
        let gguf = check(ConvertFormat::Gguf);
        assert_eq!(gguf.target, models.join("My-Model-int8/My-Model-int8.gguf"));
        assert_eq!(gguf.title, "My-Model to INT8 GGUF");
        let package = check(PAPR);
        assert_eq!(package.target, models.join("My-Model-int8-macos15-papr/My-Model-int8-macos15-papr.mlpackage"));
        assert!(!models.exists(), "nothing is made before there is a job");
        gguf.make_folder().expect("it can be made");
        assert!(gguf.target.parent().is_some_and(Path::is_dir));
        gguf.remove_debris();
        assert!(!models.join("My-Model-int8").exists());
    }

    #[test]
    fn what_cannot_be_tried_is_refused_with_advice() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = checkpoint(folder.path());
        let refused = |request: &ConvertRequest| {
            let failure = Conversion::check(request, folder.path(), &Written::default()).expect_err("it is refused");
            assert!(failure.hint.is_some(), "{failure}");
            failure
        };
        let with = |source: &str, target: Option<&str>| ConvertRequest {
            target: target.map(str::to_owned),
            ..request(Path::new(source), ConvertFormat::Gguf)
        };
        let good = source.to_str().expect("UTF-8");
        for (source, target, code) in [
            ("nobody/has-downloaded-this", None, FailureCode::NotFound),
            ("relative", None, FailureCode::InvalidRequest),
            ("/no/such/folder", None, FailureCode::NotFound),
            (folder.path().to_str().expect("UTF-8"), None, FailureCode::NotFound),
            (good, Some("x.gguf"), FailureCode::InvalidRequest),
            (good, Some("/tmp/x.mlpackage"), FailureCode::InvalidRequest),
            (good, Some("/no/such/folder/x.gguf"), FailureCode::InvalidRequest),
        ] {
            assert_eq!(refused(&with(source, target)).code, code, "{source} {target:?}");
        }
        let target = folder.path().join("x.gguf").display().to_string();
        let conversion =
            Conversion::check(&with(good, Some(&target)), folder.path(), &Written::default()).expect("it can be tried");
        assert_eq!((conversion.target.display().to_string(), conversion.own_folder), (target, None));
    }

    #[test]
    fn the_sweep_removes_what_was_being_made_and_no_model() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let models = folder.path().join("models");
        let elsewhere = folder.path().join("elsewhere");
        let write = |path: PathBuf| {
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, "12345").expect("it can be written");
        };
        for name in ["new/.new.gguf.partial", "old/.old.gguf.partial", "old/old.gguf", ".flat.mlpackage.partial/Data/x"]
        {
            write(models.join(name));
        }
        write(elsewhere.join(".mine.partial"));
        std::os::unix::fs::symlink(&elsewhere, models.join("link")).expect("it can be made");
        sweep(&models);
        let mut left: Vec<_> = fs::read_dir(&models).expect("it is there").flatten().map(|it| it.file_name()).collect();
        left.sort();
        assert_eq!(left, ["link", "old"]);
        let old: Vec<_> = fs::read_dir(models.join("old")).expect("it is there").flatten().collect();
        assert_eq!(old.len(), 1, "the model itself: {old:?}");
        assert!(elsewhere.join(".mine.partial").exists());
        sweep(&folder.path().join("none"));
    }
}
