//! Reads a checkpoint once from its first byte to its last, in blocks, and takes its sha256 on the way.
//!
//! Reading and hashing run in a thread of their own while the caller quantises and writes. Blocks wait in a queue of fixed
//! length and their buffers come back to be used again, so memory is a handful of blocks whatever the checkpoint's size.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use crate::checkpoint::mlx::Companion;
use crate::checkpoint::{Checkpoint, Content, Shard, Tensor};
use crate::decode::{Decoder, NotFinite, PackedRow};
use crate::plan::Place;
use crate::{ConvertError, cache};

/// Bytes of the source in one block at most. Larger blocks make nothing faster; smaller ones fit the processor's cache.
pub const BLOCK_BYTES: usize = 4 << 20;

/// Blocks that wait between the reader and the caller.
const QUEUE: usize = 2;

/// Consecutive bytes of a weight file: whole rows of a tensor that is wanted, or anything that is only hashed.
pub(crate) struct Block {
    /// Index of the wanted tensor among those that were asked for.
    pub(crate) wanted: Option<usize>,
    /// The first row in it.
    pub(crate) first_row: usize,
    /// The rows.
    pub(crate) bytes: Vec<u8>,
    /// The scales and the biases of the rows, where they are packed integers.
    pub(crate) companions: [Vec<u8>; 2],
}

impl Block {
    /// The numbers of a row of `tensor`, counted from the block's first one.
    pub(crate) fn row<'a>(
        &self,
        tensor: &Tensor,
        row: usize,
        decoder: &'a mut Decoder,
    ) -> Result<&'a [f32], NotFinite> {
        let of_row = |bytes: usize| row * bytes..(row + 1) * bytes;
        let integers = &self.bytes[of_row(tensor.row_bytes())];
        match &tensor.content {
            Content::Numbers(dtype) => decoder.row(*dtype, integers),
            Content::Affine(affine) => {
                let groups = tensor.row_length() / affine.packing.group;
                let [scales, biases] = [(&affine.scales, 0), (&affine.biases, 1)]
                    .map(|(companion, which)| &self.companions[which][of_row(groups * companion.dtype.bitsize() / 8)]);
                decoder.affine(affine, PackedRow { integers, scales, biases })
            }
            Content::Companion => unreachable!("a companion is no part of a plan. This is a bug."),
        }
    }
}

/// The sha256 of a checkpoint's weight files.
pub(crate) struct Hashes {
    of_shards: Vec<String>,
}

impl Hashes {
    /// One sha256 for all: see [`crate::Summary::input_sha256`].
    pub(crate) fn combined(&self, checkpoint: &Checkpoint) -> String {
        if let [only] = self.of_shards.as_slice() {
            return only.clone();
        }
        let mut hash = Sha256::new();
        for (shard, sha256) in checkpoint.shards.iter().zip(&self.of_shards) {
            hash.update(format!("{sha256}  {}\n", shard.name));
        }
        hex::encode(hash.finalize())
    }
}

/// Hands every block of the checkpoint to `take`, in the order of the files' bytes, until it fails. `wanted` are places in that
/// order; those of them that `again` picks stay in the file cache, because they are about to be [read](rows) again.
pub(crate) fn blocks(
    checkpoint: &Checkpoint,
    wanted: &[Place],
    again: &(dyn Fn(usize) -> bool + Sync),
    mut take: impl FnMut(&Block) -> Result<(), ConvertError>,
) -> Result<Hashes, ConvertError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let (give_back, spare) = channel();
        let reader = scope.spawn(move || Reader { checkpoint, sender, spare, again }.read_all(wanted));
        let taken = consume(receiver, &give_back, &mut take);
        let hashes = reader.join().expect("the reader does not panic. This is a bug.");
        // Where taking failed, the reader only stopped because nobody listened any more.
        taken.and(hashes)
    })
}

/// Hands the rows of one tensor to `take`, in blocks, until it fails.
pub(crate) fn rows(
    checkpoint: &Checkpoint,
    place: Place,
    mut take: impl FnMut(&Block) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let tensor = place.tensor(checkpoint);
    let mut first_row = 0;
    while first_row < tensor.rows() {
        let rows = rows_per_block(tensor.row_bytes()).min(tensor.rows() - first_row);
        take(&some_rows(checkpoint, place, first_row..first_row + rows)?)?;
        first_row += rows;
    }
    Ok(())
}

/// Some rows of a tensor.
pub(crate) fn some_rows(checkpoint: &Checkpoint, place: Place, rows: Range<usize>) -> Result<Block, ConvertError> {
    let (shard, tensor) = (place.shard(checkpoint), place.tensor(checkpoint));
    let mut bytes = vec![0; rows.len() * tensor.row_bytes()];
    let offset = tensor.offset + (rows.start * tensor.row_bytes()) as u64;
    shard.file.read_exact_at(&mut bytes, offset).map_err(ConvertError::reading(&shard.path))?;
    cache::forget(&shard.file, offset, bytes.len() as u64);
    let companions = companions(checkpoint, tensor, rows.clone())?;
    Ok(Block { wanted: None, first_row: rows.start, bytes, companions })
}

/// Rows that a block holds: an even number of them where there is room for two, so that rows of half bytes fill whole ones.
fn rows_per_block(row_bytes: usize) -> usize {
    match BLOCK_BYTES / row_bytes {
        0 | 1 => 1,
        rows => rows & !1,
    }
}

/// The scales and biases of some rows, where the rows have any. They are hashed when the pass comes to them.
fn companions(checkpoint: &Checkpoint, tensor: &Tensor, rows: Range<usize>) -> Result<[Vec<u8>; 2], ConvertError> {
    let Content::Affine(affine) = &tensor.content else { return Ok(Default::default()) };
    let groups = tensor.row_length() / affine.packing.group;
    let read = |companion: &Companion| -> Result<Vec<u8>, ConvertError> {
        let shard = &checkpoint.shards[companion.shard];
        let row_bytes = groups * companion.dtype.bitsize() / 8;
        let mut bytes = vec![0; rows.len() * row_bytes];
        let offset = companion.offset + (rows.start * row_bytes) as u64;
        shard.file.read_exact_at(&mut bytes, offset).map_err(ConvertError::reading(&shard.path))?;
        Ok(bytes)
    };
    Ok([read(&affine.scales)?, read(&affine.biases)?])
}

fn consume(
    receiver: Receiver<Block>,
    give_back: &Sender<Vec<u8>>,
    take: &mut impl FnMut(&Block) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    for block in receiver {
        take(&block)?;
        // The reader may be done already; then the buffer is simply freed.
        let _ = give_back.send(block.bytes);
    }
    Ok(())
}

struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    sender: SyncSender<Block>,
    spare: Receiver<Vec<u8>>,
    again: &'a (dyn Fn(usize) -> bool + Sync),
}

/// Nobody wants further blocks.
struct Stopped;

impl Reader<'_> {
    fn read_all(&self, wanted: &[Place]) -> Result<Hashes, ConvertError> {
        let mut wanted = wanted.iter().enumerate().peekable();
        let mut of_shards = Vec::with_capacity(self.checkpoint.shards.len());
        for (shard_index, shard) in self.checkpoint.shards.iter().enumerate() {
            let mut hash = Sha256::new();
            let mut go_on = self.read_span(shard, &mut hash, &Span::bytes(0, shard.data_start))?;
            for (tensor_index, tensor) in shard.tensors.iter().enumerate() {
                let mut span = Span::bytes(tensor.offset, tensor.bytes);
                if let Some((index, _)) = wanted.next_if(|(_, place)| place.is(shard_index, tensor_index)) {
                    span.row_bytes = tensor.row_bytes();
                    span.wanted = Some((index, tensor));
                }
                if go_on.is_ok() {
                    go_on = self.read_span(shard, &mut hash, &span)?;
                }
            }
            of_shards.push(hex::encode(hash.finalize()));
            if go_on.is_err() {
                break;
            }
        }
        Ok(Hashes { of_shards })
    }

    fn read_span(
        &self,
        shard: &Shard,
        hash: &mut Sha256,
        span: &Span<'_>,
    ) -> Result<Result<(), Stopped>, ConvertError> {
        let rows_per_block = rows_per_block(span.row_bytes);
        let stays = span.wanted.is_some_and(|(index, _)| (self.again)(index));
        let (mut done, mut first_row) = (0, 0);
        while done < span.bytes {
            let length = (span.bytes - done).min((rows_per_block * span.row_bytes) as u64);
            let mut bytes = self.spare.try_recv().unwrap_or_default();
            bytes.resize(length as usize, 0);
            shard.file.read_exact_at(&mut bytes, span.offset + done).map_err(ConvertError::reading(&shard.path))?;
            if !stays {
                cache::forget(&shard.file, span.offset + done, length);
            }
            hash.update(&bytes);
            let companions = match span.wanted {
                Some((_, tensor)) => {
                    let rows = first_row..first_row + length as usize / span.row_bytes;
                    companions(self.checkpoint, tensor, rows)?
                }
                None => Default::default(),
            };
            let wanted = span.wanted.map(|(index, _)| index);
            if self.sender.send(Block { wanted, first_row, bytes, companions }).is_err() {
                return Ok(Err(Stopped));
            }
            done += length;
            first_row += rows_per_block;
        }
        Ok(Ok(()))
    }
}

/// What to read next.
struct Span<'a> {
    offset: u64,
    bytes: u64,
    /// Blocks are whole multiples of this.
    row_bytes: usize,
    /// The wanted tensor and its index.
    wanted: Option<(usize, &'a Tensor)>,
}

impl Span<'_> {
    fn bytes(offset: u64, bytes: u64) -> Self {
        Self { offset, bytes, row_bytes: 1, wanted: None }
    }
}

/// The sha256 of a whole file, `step` being told the bytes after each block.
pub(crate) fn sha256_of(
    file: &File,
    path: &Path,
    mut step: impl FnMut(u64) -> Result<(), ConvertError>,
) -> Result<String, ConvertError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    loop {
        let count = file.read_at(&mut buffer, offset).map_err(ConvertError::reading(path))?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        cache::forget(file, offset, count as u64);
        offset += count as u64;
        step(count as u64)?;
    }
}

/// The sha256 of a text.
pub(crate) fn sha256_of_text(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Reads a file that is small by its nature, refusing one above `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, ConvertError> {
    let file = File::open(path).map_err(ConvertError::reading(path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(ConvertError::reading(path))?;
    if bytes.len() as u64 > limit {
        return Err(ConvertError::corrupt(path, format!("it has more than `{limit}` bytes")));
    }
    Ok(bytes)
}
