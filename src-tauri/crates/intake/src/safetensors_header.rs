//! The header of a safetensors file, read by a parser of our own: what a hostile one claims is refused before any reader of
//! weights sees it. The `safetensors` crate takes the last of two tensors of one name; here a name stands once.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::FormatError;

/// The limit that the format's own reader has.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;
const TENSORS: usize = 1 << 18;
const DIMENSIONS: usize = 8;
/// Of one dimension: no table has more rows.
const EXTENT: u64 = 1 << 32;
const METADATA: usize = 4096;

/// What the header says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// In the order of their bytes, without a gap.
    pub tensors: Vec<Tensor>,
    /// What stands under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Where in the file the first tensor's bytes are.
    pub data_start: u64,
}

/// One tensor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tensor {
    /// Its name, which no other has.
    pub name: String,
    /// The type of its numbers, as the format spells it.
    pub dtype: &'static str,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// The product of the dimensions.
    pub numbers: u64,
    /// Where its bytes start, from [`Header::data_start`].
    pub start: u64,
    /// Where they end.
    pub end: u64,
}

/// Types of numbers, and their bits.
const TYPES: &[(&str, u64)] = &[
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// Reads the header of a file of `length` bytes, of which `source` gives the first.
pub fn read(mut source: impl Read, length: u64) -> Result<Header, FormatError> {
    if length < LENGTH_BYTES {
        return Err(FormatError::malformed(format!("it has `{length}` bytes, too few for a header")));
    }
    let mut size = [0; LENGTH_BYTES as usize];
    fill(&mut source, &mut size)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER_BYTES || size > length - LENGTH_BYTES {
        return Err(FormatError::malformed(format!("its header would have `{size}` bytes, the file has `{length}`")));
    }
    let mut text = vec![0; size as usize];
    fill(&mut source, &mut text)?;
    parse(&text, length - LENGTH_BYTES - size, LENGTH_BYTES + size)
}

fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<(), FormatError> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FormatError::malformed("it ends within its header"),
        _ => FormatError::Unreadable(error),
    })
}

fn parse(text: &[u8], data: u64, data_start: u64) -> Result<Header, FormatError> {
    if text.first() != Some(&b'{') {
        return Err(FormatError::malformed("its header does not begin with `{`"));
    }
    let Entries { tensors, metadata } = serde_json::from_slice(text)
        .map_err(|error| FormatError::malformed(format!("its header cannot be parsed: {error}")))?;
    let mut tensors =
        tensors.into_iter().map(|(name, info)| tensor(name, info)).collect::<Result<Vec<_>, FormatError>>()?;
    tensors.sort_by(|one, other| (one.start, one.end, &one.name).cmp(&(other.start, other.end, &other.name)));
    let mut expected = 0;
    for tensor in &tensors {
        if tensor.start != expected {
            let what = if tensor.start < expected { "overlap those before it" } else { "leave a gap before them" };
            return Err(FormatError::malformed(format!("the bytes of the tensor `{}` {what}", shown(&tensor.name))));
        }
        expected = tensor.end;
    }
    if expected != data {
        return Err(FormatError::malformed(format!(
            "its header accounts for `{expected}` bytes of tensors, the file has `{data}`"
        )));
    }
    Ok(Header { tensors, metadata, data_start })
}

fn tensor(name: String, info: Info) -> Result<Tensor, FormatError> {
    let wrong = |problem: String| FormatError::malformed(format!("the tensor `{}` {problem}", shown(&name)));
    let Info { dtype, shape: Shape(shape), data_offsets: (start, end) } = info;
    let Some(&(dtype, bits)) = TYPES.iter().find(|(known, _)| *known == dtype) else {
        return Err(wrong(format!("has numbers of the unknown type `{}`", shown(&dtype))));
    };
    if let Some(extent) = shape.iter().find(|&&extent| extent > EXTENT) {
        return Err(wrong(format!("has an absurd dimension of `{extent}`")));
    }
    let numbers = shape.iter().try_fold(1_u64, |product, &extent| product.checked_mul(extent));
    let sized = numbers.and_then(|numbers| Some((numbers, numbers.checked_mul(bits)?)));
    let Some((numbers, bits)) = sized else {
        return Err(wrong("has a size that overflows".to_owned()));
    };
    if !bits.is_multiple_of(8) || end.checked_sub(start) != Some(bits / 8) {
        return Err(wrong(format!("has the bytes from `{start}` to `{end}`, its shape needs `{bits}` bits")));
    }
    Ok(Tensor { name, dtype, shape, numbers, start, end })
}

fn shown(name: &str) -> String {
    crate::names::shown(name)
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Dimensions, of which no more are kept than a tensor can have: a header of 100 MB could list fifty million.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(extent) = seq.next_element()? {
            if shape.len() == DIMENSIONS {
                return Err(A::Error::custom(format_args!("an absurd shape of more than `{DIMENSIONS}` dimensions")));
            }
            shape.push(extent);
        }
        Ok(Shape(shape))
    }
}

/// The header's object, with each name once.
struct Entries {
    tensors: Vec<(String, Info)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut names = HashSet::new();
        let mut entries = Entries { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name `{}` stands twice", shown(&name))));
            }
            if name == "__metadata__" {
                entries.metadata = map.next_value::<Option<Texts>>()?.map(|texts| texts.0).unwrap_or_default();
            } else if entries.tensors.len() == TENSORS {
                let _: IgnoredAny = map.next_value()?;
                return Err(A::Error::custom(format_args!("it has more than `{TENSORS}` tensors")));
            } else {
                entries.tensors.push((name, map.next_value()?));
            }
        }
        Ok(entries)
    }
}

/// Texts by name, each name once.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            if texts.len() == METADATA {
                return Err(A::Error::custom(format_args!("its metadata has more than `{METADATA}` entries")));
            }
            if texts.insert(name, text).is_some() {
                return Err(A::Error::custom("a name of its metadata stands twice"));
            }
        }
        Ok(Texts(texts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn ours(bytes: &[u8]) -> Result<Header, FormatError> {
        read(bytes, bytes.len() as u64)
    }

    /// Two tensors and metadata, by the format's own writer.
    fn sample() -> Vec<u8> {
        use safetensors::tensor::{Dtype, TensorView};
        let (a, b) = (vec![1_u8; 24], vec![2_u8; 8]);
        let tensors = [
            ("a.weight", TensorView::new(Dtype::F32, vec![2, 3], &a).expect("it fits")),
            ("b", TensorView::new(Dtype::BF16, vec![4], &b).expect("it fits")),
        ];
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize(tensors, Some(metadata)).expect("it can be written")
    }

    #[test]
    fn what_the_formats_own_writer_wrote_is_read() {
        let header = ours(&sample()).expect("a sound file");
        let mut seen: Vec<_> = header.tensors.iter().map(|it| (it.name.as_str(), it.dtype, it.numbers)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("a.weight", "F32", 6), ("b", "BF16", 4)]);
        assert_eq!(header.metadata["format"], "pt");
    }

    #[test]
    fn every_type_is_one_of_the_formats_own_with_its_bits() {
        for (name, bits) in TYPES {
            let own: safetensors::Dtype = serde_json::from_str(&format!("\"{name}\"")).expect(name);
            assert_eq!(own.bitsize() as u64, *bits, "{name}");
        }
    }

    #[test]
    fn hostile_headers_are_refused_with_the_reason() {
        let tensor = |what: &str| format!(r#"{{"a":{{{what}}}}}"#);
        let good = r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#;
        assert!(ours(&with_header(&tensor(good), 8)).is_ok());
        let cases = [
            (vec![], "too few"),
            (vec![1; 7], "too few"),
            (u64::MAX.to_le_bytes().to_vec(), "would have"),
            (100_000_001_u64.to_le_bytes().to_vec(), "would have"),
            (with_header("{\"a\":", 4), "cannot be parsed"),
            (with_header(" {}", 0), "does not begin"),
            (with_header(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "cannot be parsed"),
            (with_header(&tensor(good), 7), "accounts for"),
            (with_header(&tensor(good), 9), "accounts for"),
            (with_header(&tensor(&good.replace("[0,8]", "[4,12]")), 12), "gap"),
            (with_header(&tensor(&good.replace("[2]", "[3]")), 8), "its shape needs"),
            (with_header(&tensor(&good.replace("[0,8]", "[8,0]")), 8), "its shape needs"),
            (with_header(&tensor(&good.replace("[2]", "[4294967296,4294967296]")), 8), "overflows"),
            (with_header(&tensor(&good.replace("[2]", "[0,4294967297]")), 8), "absurd"),
            (with_header(&tensor(&good.replace("[2]", "[1,1,1,1,1,1,1,1,2]")), 8), "absurd"),
            (with_header(&tensor(&good.replace("F32", "F33")), 8), "unknown type"),
            (with_header(&tensor(&good.replace("[2]", "[-2]")), 8), "cannot be parsed"),
            (with_header(&format!(r#"{{"a":{{{good}}},"b":{{{good}}}}}"#), 8), "overlap"),
            (with_header(&format!(r#"{{"a":{{{good}}},"a":{{{good}}}}}"#), 8), "stands twice"),
            (with_header(&format!(r#"{{"a":{{{good}}},"\u0061":{{{good}}}}}"#), 8), "stands twice"),
            (with_header(&tensor(&format!("{good},{good}")), 8), "duplicate field"),
            (with_header(r#"{"__metadata__":{"k":"v","k":"w"}}"#, 0), "stands twice"),
            (with_header(r#"{"__metadata__":{"k":1}}"#, 0), "cannot be parsed"),
        ];
        for (bytes, part) in cases {
            let error = ours(&bytes).expect_err(part).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    /// What ours takes, the format's own reader takes and sees the same.
    fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(header) = ours(bytes) {
            let (size, own) =
                SafeTensors::read_metadata(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(header.data_start, size as u64 + 8);
            prop_assert_eq!(header.tensors.len(), own.tensors().len());
            for tensor in &header.tensors {
                let info = own.info(&tensor.name).ok_or_else(|| TestCaseError::fail("a tensor is missing"))?;
                prop_assert_eq!(info.data_offsets, (tensor.start as usize, tensor.end as usize));
                prop_assert_eq!(info.shape.iter().map(|&it| it as u64).collect::<Vec<_>>(), tensor.shape.clone());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_still_a_sound_file(at in 0..200_usize, to in any::<u8>(), cut in 0..260_usize) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = to;
            agrees(&bytes)?;
            bytes.truncate(cut);
            agrees(&bytes)?;
        }

        #[test]
        fn invented_headers_are_errors_or_sound_files(
            entries in proptest::collection::vec(("[ab]{1,2}", 0..3_usize, proptest::collection::vec(0..4_u64, 0..3), 0..9_u64, 0..9_u64), 0..3),
            data in 0..12_usize,
        ) {
            let tensors: Vec<String> = entries.into_iter().map(|(name, dtype, shape, start, end)| {
                let dtype = ["U8", "F16", "F4"][dtype];
                format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
            }).collect();
            agrees(&with_header(&format!("{{{}}}", tensors.join(",")), data))?;
        }
    }
}
