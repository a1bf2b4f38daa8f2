//! A checkpoint's weights as numbers, some rows at a time, for whoever judges what was made of them.
//!
//! Parts have canonical names: those of transformers without the prefix of the model's class, such as
//! `encoder.layer.0.attention.self.query.weight` or `layers.0.self_attn.q_proj.weight`.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::configuration::{self, Configuration};
use crate::decode::Decoder;
use crate::package::architecture::Architecture;
use crate::plan::Model;
use crate::{ConvertError, Format, Job, Pooling, stream};

/// A checkpoint that was understood.
pub struct Source {
    checkpoint: Checkpoint,
    model: Model,
    configuration: Configuration,
}

impl Source {
    /// Opens the checkpoint in `folder`. Only headers are read.
    pub fn open(folder: &Path) -> Result<Self, ConvertError> {
        let configuration = Configuration::open(folder)?;
        let checkpoint = Checkpoint::open(folder, &configuration)?;
        let model = Model::recognise(&checkpoint, &configuration)?;
        Ok(Self { checkpoint, model, configuration })
    }

    /// The model's sizes.
    pub fn architecture(&self) -> &Architecture {
        self.model.architecture()
    }

    /// The most tokens of a text that a target of `job` says to read.
    pub fn max_tokens(&self, job: &Job) -> Result<usize, ConvertError> {
        match &job.format {
            Format::Gguf => Ok(self.model.max_tokens(job)? as usize),
            Format::Package(package) => Ok(package.lengths.first().get()),
        }
    }

    /// The file with the checkpoint's tokenizer.
    pub fn tokenizer(&self) -> PathBuf {
        self.checkpoint.folder.join(crate::sidecar::TOKENIZER)
    }

    /// The id of the token that ends a text, where the configuration names one.
    pub fn end_token(&self) -> Option<u32> {
        let named = self.configuration.value("eos_token_id")?;
        // Some name several; the first one counts.
        named.get(0).unwrap_or(named).as_u64()?.try_into().ok()
    }

    /// Fills `out`, a whole number of rows, with the rows of `part` from `first` on.
    pub fn read(&self, part: &str, first: usize, out: &mut [f32]) -> Result<(), ConvertError> {
        let folder = || self.checkpoint.folder.clone();
        let place = self.model.place(part);
        let place = place.ok_or_else(|| ConvertError::MissingTensor { path: folder(), tensor: part.to_owned() })?;
        let (shard, tensor) = (place.shard(&self.checkpoint), place.tensor(&self.checkpoint));
        let width = tensor.row_length();
        let count = out.len() / width;
        if !out.len().is_multiple_of(width) || first + count > tensor.rows() {
            let problem = format!("the tensor `{part}` has no `{count}` rows from row `{first}` on");
            return Err(ConvertError::corrupt(&shard.path, problem));
        }
        let mut decoder = Decoder::default();
        let block = stream::some_rows(&self.checkpoint, place, first..first + count)?;
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let (path, name) = (&shard.path, &tensor.name);
            let not_finite = |_| ConvertError::NotFinite { path: path.clone(), tensor: name.clone(), row: first + row };
            out.copy_from_slice(block.row(tensor, row, &mut decoder).map_err(not_finite)?);
        }
        Ok(())
    }

    /// Whether the checkpoint says that its vectors have length 1.
    pub fn normalises(&self) -> Result<bool, ConvertError> {
        configuration::normalises(&self.checkpoint.folder)
    }

    /// How hidden states become a vector, where the checkpoint or its family says it.
    pub fn pooling(&self) -> Result<Option<Pooling>, ConvertError> {
        self.model.said_pooling()
    }
}
