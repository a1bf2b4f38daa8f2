//! Where the evaluator gets a model's weights: a checkpoint, a GGUF file or a package, a few rows at a time.

use std::collections::HashMap;
use std::path::Path;

use embedbar_convert::{Architecture, Source, Summary};
use embedbar_engine::TensorRows;
use embedbar_mil::{Package, WeightRows};

use crate::CertifyError;

/// The weights of one model.
pub(crate) trait Weights {
    /// Fills `out`, a whole number of rows, with rows of `part` from `first` on. Rows of the table of positions are counted from a
    /// text's first token.
    fn read(&self, part: &str, first: usize, out: &mut [f32]) -> Result<(), CertifyError>;
}

/// The part whose rows differ between formats: XLM-R's table begins with rows that belong to no token.
pub(crate) const POSITIONS: &str = "embeddings.position_embeddings.weight";

impl Weights for Source {
    fn read(&self, part: &str, first: usize, out: &mut [f32]) -> Result<(), CertifyError> {
        let skipped = match self.architecture() {
            Architecture::Bert(bert) if part == POSITIONS => bert.first_position,
            _ => 0,
        };
        Ok(Source::read(self, part, first + skipped, out)?)
    }
}

/// A GGUF file.
pub(crate) struct GgufWeights {
    file: TensorRows,
    /// Names in the file by part.
    names: HashMap<String, String>,
}

impl GgufWeights {
    pub(crate) fn open(path: &Path, summary: &Summary) -> Result<Self, CertifyError> {
        Ok(Self { file: TensorRows::open(path)?, names: names(summary) })
    }
}

impl Weights for GgufWeights {
    fn read(&self, part: &str, first: usize, out: &mut [f32]) -> Result<(), CertifyError> {
        Ok(self.file.read(name::<String>(&self.names, part), first, out)?)
    }
}

/// A package or several that run one after the other, expanded as their programs would see them.
pub(crate) struct PackageWeights {
    rows: HashMap<String, WeightRows>,
}

impl PackageWeights {
    pub(crate) fn open(packages: &[Package], summary: &Summary) -> Result<Self, CertifyError> {
        let open = |(part, name): (String, String)| {
            let mut found = packages.iter().map(|package| package.weight(&name));
            // The one package that has it; where none has, what the last one says of that.
            let first = found.next().expect("a conversion makes a package at least. This is a bug.");
            let rows = found.fold(first, |found, next| if found.is_ok() { found } else { next });
            Ok((part, rows?))
        };
        Ok(Self { rows: names(summary).into_iter().map(open).collect::<Result<_, CertifyError>>()? })
    }
}

impl Weights for PackageWeights {
    fn read(&self, part: &str, first: usize, out: &mut [f32]) -> Result<(), CertifyError> {
        let rows = name(&self.rows, part);
        match rows.extent() {
            // A small table that the program has as one value: `[1, rows, width]`.
            (1, width) if width > out.len() || first > 0 => {
                let mut all = vec![0.0; width];
                rows.read(0, &mut all)?;
                let start = first * rows.shape().last().copied().unwrap_or(1);
                out.copy_from_slice(&all[start..start + out.len()]);
            }
            // A vector, whose rows are single numbers.
            _ => rows.read(first, out)?,
        }
        Ok(())
    }
}

fn names(summary: &Summary) -> HashMap<String, String> {
    summary.tensors.iter().map(|tensor| (tensor.part.clone(), tensor.name.clone())).collect()
}

fn name<'a, T>(parts: &'a HashMap<String, T>, part: &str) -> &'a T {
    parts.get(part).unwrap_or_else(|| panic!("the target has no `{part}`. This is a bug."))
}
