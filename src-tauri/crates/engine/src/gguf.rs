//! Reads GGUF files: header, scalar metadata and where each list and each tensor lies. Both stay in the mapped file.
//!
//! Why not candle's reader: it divides by `general.alignment` and multiplies dimensions without a check, so that a crafted
//! file panics, and it holds a vocabulary of 150,000 strings in memory that nothing here uses. Tests write with candle's
//! writer, so the two must agree.

use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

use candle_core::quantized::GgmlDType;
use serde_json::Value;

use crate::{
    EngineError,
    checkpoint::Opened,
    facts::{BertFacts, Family, NomicBertFacts, POSITIONS, Qwen3Facts, Settings},
    mapped::Mapped,
    recipe::Pooling,
    weights::{Content, Entry, Naming, Weights, weight},
};

const TENSORS: u64 = 1 << 16;
const KEYS: u64 = 1 << 16;
/// Names of tensors and keys; texts may be longer (chat templates).
const NAME: usize = 1 << 10;
const TEXT: usize = 1 << 20;
/// The format's number for a list.
const LIST: u32 = 9;

/// Opens the GGUF file at `path`.
pub(crate) fn open(path: &Path) -> Result<Opened, EngineError> {
    let file = Mapped::open(path)?;
    let header = parse(file.bytes()).map_err(|problem| problem.of(path))?;
    let settings = Settings { path: path.to_path_buf(), values: header.values };
    let architecture = settings.text("general.architecture").unwrap_or_default().to_owned();
    if let Some(parts) = settings.optional("split.count", &(0..=u64::MAX))?.filter(|&parts| parts > 1) {
        let what = format!("a model in `{parts}` files (`llama-gguf-split --merge` makes one of them)");
        return Err(EngineError::unsupported(path, what));
    }
    // Left out, they would give vectors of another kind.
    if let Some(name) = ["dense_2.weight", "dense_3.weight"].into_iter().find(|&name| header.entries.contains_key(name))
    {
        return Err(EngineError::unsupported(path, format!("a layer behind the encoder (`{name}`)")));
    }
    let weights = Weights::new(vec![Arc::new(file)], header.entries, Naming::Gguf);
    let family = match architecture.as_str() {
        "bert" => {
            let facts = BertFacts::from_gguf(&settings)?;
            // Some converters count the rows of XLM-R's table that are no positions, and leave them out all the same.
            let rows = weights.shape(weight(None, "position_embd")).ok().and_then(|shape| shape.first().copied());
            let positions = facts.positions.min(rows.unwrap_or(usize::MAX).max(1));
            Family::Bert(BertFacts { positions, ..facts })
        }
        "nomic-bert" => Family::NomicBert(NomicBertFacts::from_gguf(&settings)?),
        "qwen3" => {
            let head_width = weights.shape(weight(0, "attn_q_norm"))?.iter().product();
            Family::Qwen3(Qwen3Facts::from_gguf(&settings, head_width)?)
        }
        "" => return Err(EngineError::config(path, "general.architecture", "it is missing")),
        _ => return Err(EngineError::UnknownArchitecture { path: path.to_path_buf(), architecture }),
    };
    let key = format!("{architecture}.pooling_type");
    let pooling = match settings.optional(&key, &(0..=4))? {
        // 0 leaves pooling to the one who embeds.
        None | Some(0) => None,
        Some(1) => Some(Pooling::Mean),
        Some(2) => Some(Pooling::Cls),
        Some(3) => Some(Pooling::Last),
        Some(_) => return Err(EngineError::unsupported(path, "scores of a reranker instead of vectors")),
    };
    // Our converter's own key: what the model was trained to read can be less than the positions it has.
    let max_tokens = settings.optional("embedbar.max_tokens", &POSITIONS)?;
    Ok(Opened { weights, family, pooling, max_tokens })
}

/// What stands before the tensors.
#[derive(Debug)]
pub(crate) struct Header {
    /// Scalars and texts, except over-long ones.
    pub(crate) values: HashMap<String, Value>,
    /// Vocabularies and their like.
    pub(crate) lists: HashMap<String, List>,
    entries: HashMap<String, Entry>,
}

/// Where a list lies in the file.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The format's number for the type of its items.
    pub(crate) kind: u32,
    pub(crate) count: usize,
    /// The bytes of its items, inside the file.
    pub(crate) range: Range<usize>,
}

/// Why a header cannot be used.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It does not add up.
    Corrupt(String),
    /// It is sound, and has a tensor of a type that nothing here multiplies with.
    Unsupported(String),
}

impl Problem {
    pub(crate) fn of(self, path: &Path) -> EngineError {
        match self {
            Self::Corrupt(problem) => EngineError::corrupt(path, problem),
            Self::Unsupported(what) => EngineError::unsupported(path, what),
        }
    }
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Corrupt(problem)
    }
}

/// Reads the header that the file `bytes` begins with.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, Problem> {
    let mut reader = Reader { bytes, position: 0 };
    if reader.take(4)? != b"GGUF" {
        return Err("it does not begin like a GGUF file".to_owned().into());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("it has version `{version}` of GGUF; `2` and `3` can be read").into());
    }
    let tensors = reader.count("tensors", TENSORS)?;
    let keys = reader.count("settings", KEYS)?;
    let (mut values, mut lists) = (HashMap::new(), HashMap::new());
    for _ in 0..keys {
        let key = reader.text(NAME)?;
        if values.contains_key(&key) || lists.contains_key(&key) {
            return Err(format!("it has the setting `{key}` twice").into());
        }
        match reader.u32()? {
            LIST => {
                lists.insert(key, reader.list()?);
            }
            kind => {
                if let Some(value) = reader.value(kind)? {
                    values.insert(key, value);
                }
            }
        }
    }
    let infos = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>, _>>()?;
    let alignment = match values.get("general.alignment") {
        None => 32,
        Some(value) => value.as_u64().unwrap_or(0),
    };
    if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
        return Err(format!("its tensors are aligned to `{alignment}` bytes").into());
    }
    let start = reader.position.next_multiple_of(alignment as usize);
    let mut entries = HashMap::with_capacity(infos.len());
    for info in infos {
        let (name, entry) = info.placed(start, bytes.len())?;
        if let Some(name) = entries.insert(name.clone(), entry).map(|_| name) {
            return Err(format!("it has the tensor `{name}` twice").into());
        }
    }
    Ok(Header { values, lists, entries })
}

/// What the header says of a tensor.
struct TensorInfo {
    name: String,
    shape: Vec<usize>,
    dtype: GgmlDType,
    offset: u64,
}

impl TensorInfo {
    fn placed(self, start: usize, length: usize) -> Result<(String, Entry), String> {
        let Self { name, shape, dtype, offset } = self;
        let numbers = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let columns = shape.last().copied().unwrap_or(0);
        if columns == 0 || !columns.is_multiple_of(dtype.block_size()) {
            return Err(format!("the tensor `{name}` has rows of `{columns}` numbers, which are no whole blocks"));
        }
        let size = numbers.and_then(|numbers| (numbers / dtype.block_size()).checked_mul(dtype.type_size()));
        let from = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(start));
        let range = from.zip(size).and_then(|(from, size)| Some(from..from.checked_add(size)?));
        match range {
            Some(range) if range.end <= length => {
                Ok((name, Entry { file: 0, range, shape, content: Content::Blocks(dtype) }))
            }
            _ => Err(format!("the tensor `{name}` ends after the end of the file")),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("it ends within its header, at byte `{}`", self.bytes.len()))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("`take` gives as many bytes as asked for. This is a bug."))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, limit: u64) -> Result<u64, String> {
        let count = self.u64()?;
        if count > limit {
            return Err(format!("it claims `{count}` {what}"));
        }
        Ok(count)
    }

    fn text(&mut self, limit: usize) -> Result<String, String> {
        let length = self.u64()?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        if bytes.len() > limit {
            return Err(format!("a name in its header is `{length}` bytes long"));
        }
        Ok(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
    }

    /// The value of the given kind; `None` for over-long texts, which are passed over.
    fn value(&mut self, kind: u32) -> Result<Option<Value>, String> {
        Ok(Some(match kind {
            0 => self.array().map(u8::from_le_bytes)?.into(),
            1 => self.array().map(i8::from_le_bytes)?.into(),
            2 => self.array().map(u16::from_le_bytes)?.into(),
            3 => self.array().map(i16::from_le_bytes)?.into(),
            4 => self.u32()?.into(),
            5 => self.array().map(i32::from_le_bytes)?.into(),
            6 => f64::from(self.array().map(f32::from_le_bytes)?).into(),
            7 => (self.array::<1>()? != [0]).into(),
            8 => return self.long_text(),
            10 => self.u64()?.into(),
            11 => self.array().map(i64::from_le_bytes)?.into(),
            12 => self.array().map(f64::from_le_bytes)?.into(),
            _ => return Err(format!("a setting has the unknown type `{kind}`")),
        }))
    }

    fn long_text(&mut self) -> Result<Option<Value>, String> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        Ok((length <= TEXT).then(|| String::from_utf8_lossy(bytes).trim_end_matches('\0').into()))
    }

    fn list(&mut self) -> Result<List, String> {
        let kind = self.u32()?;
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let start = self.position;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                // Each text takes eight bytes at least, so a false count ends at the end of the file.
                for _ in 0..count {
                    let length = self.u64()?;
                    self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                }
                return Ok(List { kind, count, range: start..self.position });
            }
            _ => return Err(format!("a setting is a list of the type `{kind}`")),
        };
        self.take(count.saturating_mul(size))?;
        Ok(List { kind, count, range: start..self.position })
    }

    fn tensor(&mut self) -> Result<TensorInfo, Problem> {
        let name = self.text(NAME)?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("the tensor `{name}` has `{dimensions}` dimensions").into());
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(usize::try_from(self.u64()?).unwrap_or(usize::MAX));
        }
        // The file counts from the innermost dimension.
        shape.reverse();
        let kind = self.u32()?;
        let dtype = dtype(kind).ok_or_else(|| unreadable(&name, kind))?;
        Ok(TensorInfo { name, shape, dtype, offset: self.u64()? })
    }
}

/// The types of weights that candle multiplies with.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// Why a tensor of no type of candle's is refused: the importance-matrix quantisations and MXFP4 are known by name.
fn unreadable(name: &str, kind: u32) -> Problem {
    let known = match kind {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("the tensor `{name}` has the unknown type `{kind}`").into(),
    };
    Problem::Unsupported(format!("the tensor `{name}` in the type {known}"))
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Device, Tensor,
        quantized::{QTensor, gguf_file},
    };
    use proptest::prelude::*;

    use super::*;

    /// A small file by candle's writer.
    fn written() -> Vec<u8> {
        let numbers: Vec<f32> = (0..256).map(|number| number as f32 / 64.0).collect();
        let matrix = Tensor::from_vec(numbers, (4, 64), &Device::Cpu).unwrap();
        let plain = QTensor::quantize(&matrix, GgmlDType::F32).unwrap();
        let blocks = QTensor::quantize(&matrix, GgmlDType::Q8_0).unwrap();
        let words = ["a", "b"].map(|word| gguf_file::Value::String(word.to_owned())).to_vec();
        let metadata = [
            ("general.architecture", gguf_file::Value::String("bert".to_owned())),
            ("bert.block_count", gguf_file::Value::U32(6)),
            ("bert.attention.layer_norm_epsilon", gguf_file::Value::F32(1e-12)),
            ("bert.attention.causal", gguf_file::Value::Bool(false)),
            ("tokenizer.ggml.tokens", gguf_file::Value::Array(words)),
            ("tokenizer.ggml.scores", gguf_file::Value::Array(vec![gguf_file::Value::F32(0.5); 3])),
        ];
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let mut bytes = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut bytes, &metadata, &[("plain", &plain), ("blocks", &blocks)]).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_candle_writes_is_read_as_candle_reads_it() {
        let bytes = written();
        let ours = parse(&bytes).unwrap();
        let theirs = gguf_file::Content::read(&mut std::io::Cursor::new(&bytes)).unwrap();
        assert_eq!(ours.values["general.architecture"], "bert");
        assert_eq!(ours.values["bert.block_count"], 6);
        assert_eq!(ours.values["bert.attention.causal"], false);
        assert_eq!((ours.lists["tokenizer.ggml.tokens"].kind, ours.lists["tokenizer.ggml.tokens"].count), (8, 2));
        assert_eq!(ours.entries.len(), theirs.tensor_infos.len());
        for (name, info) in &theirs.tensor_infos {
            let entry = &ours.entries[name];
            assert_eq!(entry.shape, info.shape.dims());
            assert!(matches!(entry.content, Content::Blocks(dtype) if dtype == info.ggml_dtype), "{name}");
            assert_eq!(entry.range.start as u64, theirs.tensor_data_offset + info.offset);
        }
    }

    /// The file with the bytes after `marker` replaced.
    fn changed(marker: &[u8], skip: usize, replacement: &[u8]) -> Vec<u8> {
        let mut bytes = written();
        let start = bytes.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len() + skip;
        bytes[start..start + replacement.len()].copy_from_slice(replacement);
        bytes
    }

    #[test]
    fn claims_beyond_the_file_are_refused() {
        let huge = u64::MAX.to_le_bytes();
        let cases = [
            ("tensors", changed(b"GGUF\x02\0\0\0", 0, &huge)),
            ("settings", changed(b"GGUF\x02\0\0\0", 8, &huge)),
            ("length of a text", changed(b"general.architecture", 4, &huge)),
            ("length of an array", changed(b"tokenizer.ggml.scores", 8, &huge)),
            ("length of an array of texts", changed(b"tokenizer.ggml.tokens", 8, &huge)),
            ("dimension", changed(b"plain", 4, &huge)),
            ("product of dimensions", changed(b"plain", 4, &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])),
            ("number of dimensions", changed(b"plain", 0, &[9])),
            ("type", changed(b"plain", 20, &[99])),
            ("offset", changed(b"plain", 24, &huge)),
            ("version", changed(b"GGUF", 0, &[9])),
        ];
        for (what, bytes) in cases {
            assert!(parse(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn an_alignment_of_zero_is_refused() {
        // candle's own reader divides by it.
        let value = gguf_file::Value::U32(0);
        let mut bytes = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut bytes, &[("general.alignment", &value)], &[]).unwrap();
        let Err(Problem::Corrupt(problem)) = parse(&bytes.into_inner()) else { panic!("it divides by it") };
        assert!(problem.contains("`0`"), "{problem}");
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_is_an_error(part in 0.0_f64..1.0) {
            let bytes = written();
            // The last tensor is padded to 32 bytes, which are not missed.
            let length = ((bytes.len() - 32) as f64 * part) as usize;
            prop_assert!(parse(&bytes[..length]).is_err());
        }

        #[test]
        fn no_damage_makes_it_panic(place in 0_usize..600, value in any::<u8>()) {
            let mut bytes = written();
            bytes[place] = value;
            let _ = parse(&bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            bytes.splice(0..0, *b"GGUF\x03\0\0\0");
            let _ = parse(&bytes);
        }
    }
}
