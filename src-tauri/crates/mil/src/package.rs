//! A package on disk, opened: its model decoded, its weight files found and open. Judging it ([`crate::lint`]) and running it
//! ([`crate::Program`]) are elsewhere; a package that is badly made opens as long as it can be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;

use crate::blob::BlobFile;
use crate::manifest::{self, Layout};
use crate::{MilError, proto};

/// Real models have a few megabytes, also with several functions: their weights are in the weight file. A message can be
/// made such that it takes fifty times its size in memory, so the limit is near to what there is.
const MODEL_BYTES: u64 = 64 << 20;

/// How a weight file is named in a model.
const MODEL_PATH: &str = "@model_path/";

/// A package: `.mlpackage`, or a folder of any name with `Manifest.json` and `Data` in it.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    model: proto::Model,
    model_bytes: u64,
    files: WeightFiles,
}

impl Package {
    /// Opens the package at `path`. Nothing of the weights is read.
    pub fn open(path: &Path) -> Result<Self, MilError> {
        let layout = manifest::read(path)?;
        let bytes = manifest::read_bounded(&layout.model, MODEL_BYTES)?;
        let model = proto::Model::decode(&bytes[..]).map_err(|error| MilError::corrupt(&layout.model, error))?;
        if model.ml_program.is_none() {
            return Err(MilError::NotAProgram { path: path.to_path_buf() });
        }
        let files = WeightFiles::open(&layout, &model)?;
        Ok(Self { path: path.to_path_buf(), model, model_bytes: bytes.len() as u64, files })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the model without its weights.
    pub(crate) fn model_bytes(&self) -> u64 {
        self.model_bytes
    }

    pub(crate) fn model(&self) -> &proto::Model {
        &self.model
    }

    pub(crate) fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// Functions by name.
    pub(crate) fn functions(&self) -> &BTreeMap<String, proto::Function> {
        static NONE: BTreeMap<String, proto::Function> = BTreeMap::new();
        self.model.ml_program.as_ref().map_or(&NONE, |program| &program.functions)
    }

    /// The names of the functions; a package with one calls it `main`.
    pub fn function_names(&self) -> Vec<&str> {
        self.functions().keys().map(String::as_str).collect()
    }

    /// The function that is meant where none is named.
    pub fn default_function(&self) -> &str {
        let named = self.model.description.as_ref().map_or("", |description| &description.default_function_name);
        match self.functions().keys().next() {
            Some(only) if named.is_empty() && self.functions().len() == 1 => only,
            _ if named.is_empty() => "main",
            _ => named,
        }
    }

    /// What the model's metadata has under a key of its maker's own.
    pub(crate) fn user_defined(&self, key: &str) -> Option<&str> {
        let metadata = self.model.description.as_ref()?.metadata.as_ref()?;
        metadata.user_defined.get(key).map(String::as_str)
    }

    /// The name and the block of a function; `None`: the default one.
    pub(crate) fn function(&self, name: Option<&str>) -> Result<(&str, &proto::Function), MilError> {
        let name = name.unwrap_or_else(|| self.default_function());
        self.functions().get_key_value(name).map(|(name, function)| (name.as_str(), function)).ok_or_else(|| {
            MilError::UnknownFunction {
                path: self.path.clone(),
                function: name.to_owned(),
                known: self.functions().keys().cloned().collect(),
            }
        })
    }

    /// What the model's description says of a function's inputs and outputs.
    pub(crate) fn interface(&self, function: &str) -> (&[proto::FeatureDescription], &[proto::FeatureDescription]) {
        let Some(description) = &self.model.description else { return (&[], &[]) };
        match description.functions.iter().find(|described| described.name == function) {
            Some(described) => (&described.input, &described.output),
            None => (&description.input, &description.output),
        }
    }
}

/// The block of a function for its opset.
pub(crate) fn block(function: &proto::Function) -> Result<&proto::Block, String> {
    let opset = &function.opset;
    function.block_specializations.get(opset).ok_or_else(|| format!("there is no block for the opset `{opset}`"))
}

/// Every value that a model holds, in constants and in the parameters of operations.
pub(crate) fn values(model: &proto::Model) -> impl Iterator<Item = &proto::Value> {
    let functions = model.ml_program.iter().flat_map(|program| program.functions.values());
    let blocks = functions.flat_map(|function| function.block_specializations.values());
    blocks.flat_map(|block| &block.operations).flat_map(|operation| {
        let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
        let bound = bindings.filter_map(|binding| match &binding.bound {
            Some(proto::Bound::Value(value)) => Some(&**value),
            _ => None,
        });
        operation.attributes.values().chain(bound)
    })
}

/// The weight files that a model names, by that name. One that cannot be opened is an error with its reason where it is
/// used, so that the rest of the package can still be looked at.
#[derive(Debug)]
pub(crate) struct WeightFiles(BTreeMap<String, Result<Arc<BlobFile>, String>>);

impl WeightFiles {
    fn open(layout: &Layout, model: &proto::Model) -> Result<Self, MilError> {
        let folder = layout.model.parent().and_then(|folder| folder.strip_prefix(&layout.data).ok());
        let folder = folder.unwrap_or(Path::new(""));
        let mut files = BTreeMap::new();
        for value in values(model) {
            let Some(proto::Content::Blob(reference)) = &value.content else { continue };
            let name = &reference.file_name;
            if files.contains_key(name) {
                continue;
            }
            let Some(relative) = name.strip_prefix(MODEL_PATH) else {
                let problem = format!("the weight file `{name}` does not begin with `{MODEL_PATH}`");
                files.insert(name.clone(), Err(problem));
                continue;
            };
            // A path that leads out is refused at once; all else that is wrong with the file is found where it is used.
            let opened = manifest::within(&layout.data, &folder.join(relative)).and_then(|path| BlobFile::open(&path));
            if matches!(opened, Err(MilError::NotAPackage { .. })) {
                opened?;
                continue;
            }
            files.insert(name.clone(), opened.map(Arc::new).map_err(|error| error.to_string()));
        }
        Ok(Self(files))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Arc<BlobFile>, String> {
        match self.0.get(name) {
            Some(Ok(file)) => Ok(file),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(format!("there is no weight file `{name}`")),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, Result<&Arc<BlobFile>, &str>)> {
        self.0.iter().map(|(name, file)| (name.as_str(), file.as_ref().map_err(String::as_str)))
    }
}
