//! The packages of one conversion: all of them are filled under hidden names before the first one gets its own.
//!
//! Their weights are written once for the first length. Those of further lengths are the same bytes, which the filesystem
//! may be able to share.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Meter, SHA256_DIGITS, check_target, quarantined};
use crate::job::{Package, PackageSummary, Sharing};
use crate::output::{self, Staged};
use crate::package::PackagePlan;
use crate::package::manifest::{manifest, path};
use crate::targets::Which;
use crate::{BLOCK_BYTES, ConvertError, Job, share, stream};

/// One package.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) plan: PackagePlan,
    pub(super) staged: Staged,
    target: PathBuf,
    length: usize,
    chunk: Option<(usize, usize)>,
}

/// The packages of all lengths.
#[derive(Debug)]
pub(super) struct Set {
    /// For each length the packages that the model is in, in their order; the first length is the first.
    rows: Vec<Vec<Member>>,
    sharing: Option<Sharing>,
}

impl Set {
    /// Starts to fill the packages; `plans` has those of each length. `best` says how files in a folder can share their bytes,
    /// and `further_bytes` are needed on the disk besides.
    pub(super) fn create(
        job: &Job,
        package: &Package,
        plans: Vec<Vec<PackagePlan>>,
        further_bytes: u64,
        best: &dyn Fn(&Path) -> std::io::Result<Sharing>,
    ) -> Result<Self, ConvertError> {
        let weights = weight_bytes(&plans[0]);
        let (again, several) = (weights * (plans.len() as u64 - 1), plans.len() > 1);
        let mut needed = plans.iter().flatten().map(program_bytes).sum::<u64>() + weights + further_bytes;
        let mut set = Self { rows: Vec::with_capacity(plans.len()), sharing: None };
        for (length, plans) in package.lengths.iter().zip(plans) {
            let row = members(job, length, !set.rows.is_empty(), plans, needed)?;
            if several && set.rows.is_empty() {
                let staged = &row[0].staged;
                let found = best(staged.path()).map_err(|source| staged.failed(source))?;
                if found == Sharing::Copied {
                    // Nothing is written yet; the packages that follow make sure that there is room for all.
                    needed += again;
                }
                set.sharing = Some(found);
            }
            set.rows.push(row);
        }
        Ok(set)
    }

    /// The packages whose weights are written.
    pub(super) fn first(&self) -> &[Member] {
        &self.rows[0]
    }

    pub(super) fn sharing(&self) -> Option<Sharing> {
        self.sharing
    }

    /// Bytes that pass while the packages are [finished](Self::finish): copies are written, and what is a file of its own is
    /// read back.
    pub(super) fn bytes_to_finish(&self) -> u64 {
        let once: u64 = self.first().iter().map(|member| member.plan.weight_bytes).sum();
        match self.sharing {
            Some(Sharing::Copied) => once * (2 * self.rows.len() as u64 - 1),
            _ => once,
        }
    }

    /// Writes everything but the weights of the first length, which are given, and brings all of it to the disk.
    pub(super) fn finish(
        &self,
        weights: &[File],
        input_sha256: &str,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<PackageSummary>, ConvertError> {
        let mut sha256_of_weights = Vec::with_capacity(weights.len());
        for (member, weights) in self.first().iter().zip(weights) {
            weights.sync_all().map_err(|source| member.staged.failed(source))?;
            sha256_of_weights.push(read_back(&member.staged, weights, meter)?);
        }
        let mut summaries = Vec::new();
        for (place, row) in self.rows.iter().enumerate() {
            for (chunk, member) in row.iter().enumerate() {
                let copied = match self.sharing {
                    Some(how) if place > 0 => share_weights(how, &weights[chunk], &self.first()[chunk], member, meter)?,
                    _ => None,
                };
                let sha256 = copied.as_ref().unwrap_or(&sha256_of_weights[chunk]);
                summaries.push(member.finish(input_sha256, sha256)?);
            }
        }
        Ok(summaries)
    }

    /// Puts each package in its place. The last package of the first length comes last: it is what was asked for by name, so
    /// that whoever waits for it finds all others there. A kill in between leaves whole packages, some of them older; their
    /// metadata says what they were made from.
    pub(super) fn commit(self) -> Result<(), ConvertError> {
        for member in self.rows.into_iter().rev().flatten() {
            member.staged.commit()?;
        }
        Ok(())
    }

    /// Puts the packages of the first length beside their targets under names that nothing loads, and gives the first of them.
    pub(super) fn set_aside(self) -> Result<PathBuf, ConvertError> {
        let mut first = None;
        for mut member in self.rows.into_iter().next().into_iter().flatten() {
            let aside = quarantined(&member.target);
            member.staged.rename_to(aside.clone());
            member.staged.commit()?;
            first.get_or_insert(aside);
        }
        Ok(first.expect("a conversion makes a package at least. This is a bug."))
    }
}

/// The packages of one length, none of which has anything in it yet.
fn members(
    job: &Job,
    length: NonZeroUsize,
    is_further: bool,
    plans: Vec<PackagePlan>,
    needed: u64,
) -> Result<Vec<Member>, ConvertError> {
    let of = plans.len();
    let member = |(number, plan)| {
        let which = Which { length: is_further.then_some(length), chunk: (of > 1).then_some((number, of)) };
        let target = which.path(&job.target);
        check_target(&target, &job.format)?;
        let staged = Staged::create(&target, needed)?;
        Ok(Member { plan, staged, target, length: length.get(), chunk: which.chunk })
    };
    (1..).zip(plans).map(member).collect()
}

impl Member {
    /// Writes everything but the weights.
    fn finish(&self, input_sha256: &str, sha256_of_weights: &str) -> Result<PackageSummary, ConvertError> {
        let program = self.plan.model(input_sha256);
        let manifest = manifest(&program);
        for (name, bytes) in [(path::MODEL, program.as_slice()), (path::MANIFEST, manifest.as_bytes())] {
            let file = self.staged.file(name)?;
            self.staged.writer(&file).put(0, bytes)?;
            file.sync_all().map_err(|source| self.staged.failed(source))?;
        }
        Ok(PackageSummary {
            path: self.target.clone(),
            length: self.length,
            chunk: self.chunk,
            bytes: (program.len() + manifest.len()) as u64 + self.plan.weight_bytes,
            weight_bytes: self.plan.weight_bytes,
            sha256: self.sum(sha256_of_weights)?,
        })
    }

    /// The sha256 of the package's files as the disk gives them back.
    fn sum(&self, sha256_of_weights: &str) -> Result<String, ConvertError> {
        let line = |name: &str| {
            let at = self.staged.path().join(name);
            let sha256 = if name == path::WEIGHTS {
                sha256_of_weights.to_owned()
            } else {
                let file = File::open(&at).map_err(ConvertError::reading(&at))?;
                stream::sha256_of(&file, &at, |_| Ok(()))?
            };
            Ok(format!("{sha256}  {name}\n"))
        };
        let lines: Result<Vec<String>, ConvertError> =
            [path::MODEL, path::WEIGHTS, path::MANIFEST].into_iter().map(line).collect();
        Ok(stream::sha256_of_text(&lines?.concat()))
    }
}

/// Gives `to` the weights that `from` has, and their sha256 where they are bytes of their own.
fn share_weights(
    how: Sharing,
    weights: &File,
    from: &Member,
    to: &Member,
    meter: &mut Meter<'_>,
) -> Result<Option<String>, ConvertError> {
    let failed = |source| to.staged.failed(source);
    match how {
        Sharing::Cloned => share::clone(weights, &to.staged.place(path::WEIGHTS)?).map_err(failed)?,
        Sharing::Linked => {
            let from = from.staged.path().join(path::WEIGHTS);
            fs::hard_link(from, to.staged.place(path::WEIGHTS)?).map_err(failed)?;
        }
        Sharing::Copied => {
            let file = to.staged.file(path::WEIGHTS)?;
            copy(weights, from, to, &file, meter)?;
            file.sync_all().map_err(failed)?;
            return read_back(&to.staged, &file, meter).map(Some);
        }
    }
    Ok(None)
}

fn copy(weights: &File, from: &Member, to: &Member, file: &File, meter: &mut Meter<'_>) -> Result<(), ConvertError> {
    let at = from.staged.path().join(path::WEIGHTS);
    output::writing(to.staged.writer(file), |sink| {
        let mut offset = 0;
        while offset < from.plan.weight_bytes {
            let length = (from.plan.weight_bytes - offset).min(BLOCK_BYTES as u64);
            let mut bytes = vec![0; length as usize];
            weights.read_exact_at(&mut bytes, offset).map_err(ConvertError::reading(&at))?;
            sink.put(offset, bytes)?;
            offset += length;
            meter.advance(length, "")?;
        }
        Ok(())
    })
}

fn read_back(staged: &Staged, weights: &File, meter: &mut Meter<'_>) -> Result<String, ConvertError> {
    stream::sha256_of(weights, &staged.path().join(path::WEIGHTS), |bytes| meter.advance(bytes, ""))
}

/// Bytes of a package's program and manifest.
fn program_bytes(plan: &PackagePlan) -> u64 {
    (plan.model(&"0".repeat(SHA256_DIGITS)).len() + manifest(&[]).len()) as u64
}

fn weight_bytes(plans: &[PackagePlan]) -> u64 {
    plans.iter().map(|plan| plan.weight_bytes).sum()
}
