//! The header of a GGUF file: its settings, and where each tensor lies. Every count, length and offset is checked against the
//! file before it is used, and every hyper-parameter against what a model can be, because readers of weights size their tables
//! by them. Vocabularies are counted and not kept.

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead;

use crate::FormatError;
use crate::names::shown;

const TENSORS: u64 = 1 << 16;
const KEYS: u64 = 1 << 16;
/// Bytes of a name.
const NAME: u64 = 1 << 10;
/// Bytes of a text that is kept; longer ones (chat templates, whole tokenizers) are passed over.
const KEPT: u64 = 1 << 16;
/// Bytes of any text, and of the whole header.
const TEXT: u64 = 64 << 20;
const HEADER: u64 = 512 << 20;
const VOCABULARY: u64 = 4_000_000;
const DEFAULT_ALIGNMENT: u64 = 32;

/// What the header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Scalars and texts.
    pub settings: BTreeMap<String, Setting>,
    /// How many elements each list has.
    pub lists: BTreeMap<String, u64>,
    /// In the order of their bytes.
    pub tensors: Vec<Tensor>,
    /// Where in the file the first tensor's bytes may be.
    pub data_start: u64,
}

/// A setting's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// F32 or F64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text that is not overly long.
    Text(String),
}

/// One tensor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tensor {
    /// Its name, which no other has.
    pub name: String,
    /// ggml's name for the type of its numbers.
    pub dtype: &'static str,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// The product of the dimensions.
    pub numbers: u64,
    /// Where its bytes start, from [`Header::data_start`].
    pub start: u64,
    /// How many there are.
    pub bytes: u64,
}

impl Header {
    /// A text setting.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.settings.get(key)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A setting that is a whole number and not negative.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.settings.get(key)? {
            Setting::Unsigned(number) => Some(*number),
            Setting::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }
}

/// ggml's types: number, name, numbers of a block, bytes of a block.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

/// Settings below the architecture's name that size something, and the least and most that they can be.
const BOUNDS: &[(&str, u64, u64)] = &[
    ("block_count", 1, 512),
    ("embedding_length", 1, 1 << 16),
    ("feed_forward_length", 0, 1 << 20),
    ("context_length", 1, 1 << 24),
    ("attention.head_count", 1, 1024),
    ("attention.head_count_kv", 1, 1024),
    ("attention.key_length", 1, 1 << 14),
    ("attention.value_length", 1, 1 << 14),
    ("rope.dimension_count", 1, 1 << 14),
    ("expert_count", 0, 1024),
    ("expert_used_count", 0, 1024),
    ("vocab_size", 1, VOCABULARY),
];

/// Settings below the architecture's name that are divided by or raised to a power.
const POSITIVE: &[&str] = &["attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "rope.freq_base"];

/// Reads the header of a file of `length` bytes, of which `source` gives the first.
pub fn read(source: impl BufRead, length: u64) -> Result<Header, FormatError> {
    let mut reader = Reader { source, position: 0, length, limit: length.min(HEADER) };
    if reader.array::<4>()? != *b"GGUF" {
        return Err(FormatError::malformed("it does not begin like a GGUF file"));
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(FormatError::malformed(format!("it has version `{version}` of GGUF; `2` and `3` can be read")));
    }
    let tensors = reader.count("tensors", TENSORS)?;
    let keys = reader.count("settings", KEYS)?;
    let (settings, lists) = reader.settings(keys)?;
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for _ in 0..tensors {
        let tensor = reader.tensor()?;
        if !names.insert(tensor.name.clone()) {
            return Err(FormatError::malformed(format!("two tensors have the name `{}`", shown(&tensor.name))));
        }
        found.push(tensor);
    }
    let mut header = Header { version, settings, lists, tensors: found, data_start: reader.position };
    check_settings(&header)?;
    place(&mut header, length)?;
    Ok(header)
}

/// Checks where the tensors lie, and sorts them by it.
fn place(header: &mut Header, length: u64) -> Result<(), FormatError> {
    let alignment = match header.settings.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(_) => header.number("general.alignment").unwrap_or(0),
    };
    if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
        return Err(FormatError::malformed(format!("its tensors are aligned to `{alignment}` bytes")));
    }
    header.data_start = header.data_start.next_multiple_of(alignment);
    header.tensors.sort_by(|one, other| (one.start, &one.name).cmp(&(other.start, &other.name)));
    let mut taken = 0;
    for tensor in &header.tensors {
        let wrong = |problem: String| FormatError::malformed(format!("the tensor `{}` {problem}", shown(&tensor.name)));
        if !tensor.start.is_multiple_of(alignment) {
            return Err(wrong(format!("starts at `{}`, which is no multiple of `{alignment}`", tensor.start)));
        }
        if tensor.start < taken {
            return Err(wrong("overlaps the one before it".to_owned()));
        }
        let end = tensor.start.checked_add(tensor.bytes).and_then(|end| {
            taken = end;
            end.checked_add(header.data_start)
        });
        if end.is_none_or(|end| end > length) {
            return Err(wrong("ends after the end of the file".to_owned()));
        }
    }
    Ok(())
}

fn check_settings(header: &Header) -> Result<(), FormatError> {
    if let Some((key, count)) =
        header.lists.iter().find(|(key, count)| key.starts_with("tokenizer.ggml.tokens") && **count > VOCABULARY)
    {
        return Err(FormatError::malformed(format!("`{key}` has `{count}` tokens")));
    }
    let Some(architecture) = header.architecture() else { return Ok(()) };
    for (name, least, most) in BOUNDS {
        let key = format!("{architecture}.{name}");
        // Some models have one number for each block, as a list.
        let Some(setting) = header.settings.get(&key) else { continue };
        if !header.number(&key).is_some_and(|number| (*least..=*most).contains(&number)) {
            return Err(FormatError::malformed(format!("`{}` is `{}`", shown(&key), value(setting))));
        }
    }
    for name in POSITIVE {
        let key = format!("{architecture}.{name}");
        match header.settings.get(&key) {
            None => {}
            Some(Setting::Float(number)) if number.is_finite() && *number > 0.0 => {}
            Some(setting) => {
                return Err(FormatError::malformed(format!("`{}` is `{}`", shown(&key), value(setting))));
            }
        }
    }
    Ok(())
}

fn value(setting: &Setting) -> String {
    match setting {
        Setting::Unsigned(number) => number.to_string(),
        Setting::Signed(number) => number.to_string(),
        Setting::Float(number) => number.to_string(),
        Setting::Bool(it) => it.to_string(),
        Setting::Text(text) => shown(text),
    }
}

struct Reader<R> {
    source: R,
    position: u64,
    /// Of the file.
    length: u64,
    /// Where the header must have ended.
    limit: u64,
}

type Settings = (BTreeMap<String, Setting>, BTreeMap<String, u64>);

impl<R: BufRead> Reader<R> {
    /// Notes that `count` bytes are about to be read.
    fn advance(&mut self, count: u64) -> Result<(), FormatError> {
        match self.position.checked_add(count) {
            Some(end) if end <= self.limit => {
                self.position = end;
                Ok(())
            }
            _ if self.limit < self.length => {
                Err(FormatError::malformed(format!("its header has more than `{HEADER}` bytes")))
            }
            _ => Err(FormatError::malformed(format!("it ends within its header, at byte `{}`", self.length))),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.advance(bytes.len() as u64)?;
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => FormatError::malformed("it ends within its header"),
            _ => FormatError::Unreadable(error),
        })
    }

    fn skip(&mut self, mut count: u64) -> Result<(), FormatError> {
        self.advance(count)?;
        while count > 0 {
            let there = self.source.fill_buf()?.len() as u64;
            if there == 0 {
                return Err(FormatError::malformed("it ends within its header"));
            }
            let taken = there.min(count);
            self.source.consume(taken as usize);
            count -= taken;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, limit: u64) -> Result<u64, FormatError> {
        let count = self.u64()?;
        if count > limit {
            return Err(FormatError::malformed(format!("it claims `{count}` {what}")));
        }
        Ok(count)
    }

    fn name(&mut self) -> Result<String, FormatError> {
        let length = self.u64()?;
        if length > NAME {
            return Err(FormatError::malformed(format!("a name in its header is `{length}` bytes long")));
        }
        self.text(length)
    }

    /// `length` bytes as text; the caller has bounded it.
    fn text(&mut self, length: u64) -> Result<String, FormatError> {
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    fn settings(&mut self, keys: u64) -> Result<Settings, FormatError> {
        let (mut settings, mut lists, mut seen) = (BTreeMap::new(), BTreeMap::new(), HashSet::new());
        for _ in 0..keys {
            let key = self.name()?;
            if !seen.insert(key.clone()) {
                return Err(FormatError::malformed(format!("the setting `{}` stands twice", shown(&key))));
            }
            let kind = self.u32()?;
            if kind == 9 {
                let count = self.list(&key)?;
                lists.insert(key, count);
            } else if let Some(setting) = self.value(&key, kind)? {
                settings.insert(key, setting);
            }
        }
        Ok((settings, lists))
    }

    /// The value of a setting of the given kind; `None` for an over-long text, which is passed over.
    fn value(&mut self, key: &str, kind: u32) -> Result<Option<Setting>, FormatError> {
        Ok(Some(match kind {
            0 => Setting::Unsigned(u64::from(u8::from_le_bytes(self.array()?))),
            1 => Setting::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Setting::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => Setting::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Setting::Unsigned(u64::from(self.u32()?)),
            5 => Setting::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Setting::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Setting::Bool(self.array::<1>()? != [0]),
            8 => {
                let length = self.u64()?;
                if length > TEXT {
                    return Err(FormatError::malformed(format!("`{}` is `{length}` bytes long", shown(key))));
                }
                if length > KEPT {
                    self.skip(length)?;
                    return Ok(None);
                }
                Setting::Text(self.text(length)?)
            }
            10 => Setting::Unsigned(self.u64()?),
            11 => Setting::Signed(i64::from_le_bytes(self.array()?)),
            12 => Setting::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(FormatError::malformed(format!("`{}` has the unknown type `{kind}`", shown(key)))),
        }))
    }

    /// Passes over a list and says how many elements it has.
    fn list(&mut self, key: &str) -> Result<u64, FormatError> {
        let kind = self.u32()?;
        let count = self.u64()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                // Each text takes eight bytes at least, so a false count ends at the end of the file.
                for _ in 0..count {
                    let length = self.u64()?;
                    self.skip(length)?;
                }
                return Ok(count);
            }
            _ => return Err(FormatError::malformed(format!("`{}` is a list of the type `{kind}`", shown(key)))),
        };
        self.skip(count.saturating_mul(size))?;
        Ok(count)
    }

    fn tensor(&mut self) -> Result<Tensor, FormatError> {
        let name = self.name()?;
        let wrong = |problem: String| FormatError::malformed(format!("the tensor `{}` {problem}", shown(&name)));
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(wrong(format!("has `{dimensions}` dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        let kind = self.u32()?;
        let Some(&(_, dtype, block, size)) = TYPES.iter().find(|(known, ..)| *known == kind) else {
            return Err(wrong(format!("has the unknown type `{kind}`")));
        };
        // The file counts from the innermost dimension.
        let columns = shape[0];
        shape.reverse();
        let start = self.u64()?;
        if shape.contains(&0) || !columns.is_multiple_of(block) {
            return Err(wrong(format!("has rows of `{columns}` numbers, which are no whole blocks of `{block}`")));
        }
        let numbers = shape.iter().try_fold(1_u64, |product, &extent| product.checked_mul(extent));
        let sized = numbers.and_then(|numbers| Some((numbers, (numbers / block).checked_mul(size)?)));
        let Some((numbers, bytes)) = sized else { return Err(wrong("has a size that overflows".to_owned())) };
        Ok(Tensor { name, dtype, shape, numbers, start, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a GGUF file piece by piece, sound or not.
    #[derive(Clone, Default)]
    struct Writer {
        settings: Vec<Vec<u8>>,
        tensors: Vec<Vec<u8>>,
        data: usize,
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    impl Writer {
        fn setting(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
            self.settings.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
            self
        }

        fn text(self, key: &str, value: &str) -> Self {
            self.setting(key, 8, &text(value))
        }

        fn number(self, key: &str, value: u32) -> Self {
            self.setting(key, 4, &value.to_le_bytes())
        }

        fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
            let mut bytes = text(name);
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|extent| extent.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            self.tensors.push(bytes);
            self
        }

        fn data(mut self, bytes: usize) -> Self {
            self.data = bytes;
            self
        }

        fn bytes(&self, alignment: usize) -> Vec<u8> {
            let mut bytes = b"GGUF".to_vec();
            bytes.extend(3_u32.to_le_bytes());
            bytes.extend((self.tensors.len() as u64).to_le_bytes());
            bytes.extend((self.settings.len() as u64).to_le_bytes());
            bytes.extend(self.settings.iter().chain(&self.tensors).flatten());
            bytes.resize(bytes.len().next_multiple_of(alignment) + self.data, 0);
            bytes
        }
    }

    fn base() -> Writer {
        let tokens = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("bc")].concat();
        Writer::default()
            .text("general.architecture", "bert")
            .number("bert.block_count", 2)
            .number("bert.attention.head_count", 4)
            .setting("bert.attention.layer_norm_epsilon", 6, &1e-12_f32.to_le_bytes())
            .setting("tokenizer.ggml.tokens", 9, &tokens)
    }

    /// Two tensors: 64 numbers in Q8_0 (68 bytes) and 3 in F32.
    fn sample() -> Writer {
        base().tensor("a.weight", &[32, 2], 8, 0).tensor("b", &[3], 0, 96).data(108)
    }

    fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
        read(bytes, bytes.len() as u64)
    }

    #[test]
    fn settings_and_tensors_are_read() {
        let header = parse(&sample().bytes(32)).expect("a sound file");
        assert_eq!(header.architecture(), Some("bert"));
        assert_eq!(header.number("bert.block_count"), Some(2));
        assert_eq!(header.lists["tokenizer.ggml.tokens"], 2);
        let tensors: Vec<_> =
            header.tensors.iter().map(|it| (it.dtype, it.shape.clone(), it.numbers, it.bytes)).collect();
        assert_eq!(tensors, [("Q8_0", vec![2, 32], 64, 68), ("F32", vec![3], 3, 12)]);
        assert_eq!(header.data_start % 32, 0);
    }

    #[test]
    fn hostile_headers_are_refused_with_the_reason() {
        let claims = |tensors: u64, keys: u64| {
            [&b"GGUF"[..], &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
        };
        let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
        let good = sample().bytes(32);
        let newer = [&good[..4], &4_u32.to_le_bytes(), &good[8..]].concat();
        let plain = |writer: Writer| writer.data(1024).bytes(32);
        let cases = [
            (b"GGML".to_vec(), "does not begin"),
            (b"GG".to_vec(), "ends within"),
            (newer, "version `4`"),
            (claims(u64::MAX, 0), "claims"),
            (claims(0, u64::MAX), "claims"),
            (claims(1 << 16, 0), "ends within"),
            (good[..good.len() - 1].to_vec(), "after the end"),
            (plain(base().number("bert.block_count", 2)), "stands twice"),
            (plain(base().number("x.y", 1).setting("z", 13, &[])), "unknown type `13`"),
            (plain(base().setting("z", 9, &list(9, 1))), "list of the type"),
            (plain(base().setting("z", 9, &list(4, u64::MAX))), "ends within"),
            (plain(base().setting("z", 9, &list(8, u64::MAX))), "ends within"),
            (plain(base().setting("z", 8, &u64::MAX.to_le_bytes())), "bytes long"),
            (plain(base().setting("z", 8, &60_000_000_u64.to_le_bytes())), "ends within"),
            (plain(base().number("general.alignment", 24)), "aligned"),
            (plain(base().number("general.alignment", 0)), "aligned"),
            (plain(base().text("general.alignment", "x")), "aligned"),
            (plain(base().number("bert.attention.head_count_kv", 0)), "head_count_kv` is `0`"),
            (plain(base().number("bert.context_length", u32::MAX)), "context_length` is `4294967295`"),
            (plain(base().setting("bert.embedding_length", 5, &(-1_i32).to_le_bytes())), "embedding_length` is `-1`"),
            (plain(base().setting("bert.rope.freq_base", 6, &f32::NAN.to_le_bytes())), "freq_base` is `NaN`"),
            (plain(base().tensor("t", &[3], 0, 0).tensor("t", &[3], 0, 32)), "two tensors"),
            (plain(base().tensor("t", &[64], 0, 0).tensor("u", &[3], 0, 32)), "overlaps"),
            (plain(base().tensor("t", &[3], 0, 8)), "no multiple"),
            (plain(base().tensor("t", &[3], 0, u64::MAX - 31)), "after the end"),
            (plain(base().tensor("t", &[1024], 0, 0)), "after the end"),
            (plain(base().tensor("t", &[31], 8, 0)), "no whole blocks"),
            (plain(base().tensor("t", &[0], 0, 0)), "no whole blocks"),
            (plain(base().tensor("t", &[1 << 32, 1 << 32], 0, 0)), "overflows"),
            (plain(base().tensor("t", &[1 << 31, 1 << 31], 0, 0)), "overflows"),
            (plain(base().tensor("t", &[1, 1, 1, 1, 1], 0, 0)), "dimensions"),
            (plain(base().tensor("t", &[], 0, 0)), "dimensions"),
            (plain(base().tensor("t", &[3], 4, 0)), "unknown type `4`"),
            (plain(base().tensor(&"t".repeat(2000), &[3], 0, 0)), "bytes long"),
        ];
        for (bytes, part) in cases {
            let error = parse(&bytes).expect_err(part).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        let layers = base().bytes(32);
        let at = layers.windows(11).position(|it| it == b"block_count").expect("it is there") + 11 + 4;
        let mut many = layers;
        many[at..at + 4].copy_from_slice(&513_u32.to_le_bytes());
        assert!(parse(&many).expect_err("many").to_string().contains("block_count` is `513`"));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_tensors_within_the_file(at in any::<usize>(), to in any::<u8>(), cut in any::<usize>()) {
            let mut bytes = sample().bytes(32);
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = to;
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Ok(header) = parse(bytes) {
                    let mut taken = header.data_start;
                    for tensor in &header.tensors {
                        prop_assert!(header.data_start + tensor.start >= taken);
                        taken = header.data_start + tensor.start + tensor.bytes;
                    }
                    prop_assert!(header.tensors.is_empty() || taken <= bytes.len() as u64);
                }
            }
        }
    }
}
