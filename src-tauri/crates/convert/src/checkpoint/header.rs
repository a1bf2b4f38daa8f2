//! The header of a safetensors file, read with distrust: every length is checked against the file before it is used.
//!
//! `SafeTensors::read_metadata` wants the whole file as one slice, so the header's bytes go to the same parser through its
//! `Deserialize` (which checks that offsets are contiguous and sizes fit shapes) and the file's length is compared here.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::{Content, Tensor};
use crate::ConvertError;

/// The limit that the format's own reader has.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;

/// Reads the header of a file of `length` bytes: where the data starts, and the tensors in the order of their bytes.
pub(super) fn read(file: &File, length: u64, path: &Path) -> Result<(u64, Vec<Tensor>), ConvertError> {
    if length < LENGTH_BYTES {
        return Err(ConvertError::corrupt(path, format!("it has `{length}` bytes, too few for a header")));
    }
    let mut size = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut size, 0).map_err(ConvertError::reading(path))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER_BYTES || size > length - LENGTH_BYTES {
        return Err(ConvertError::corrupt(
            path,
            format!("its header would have `{size}` bytes, the file has `{length}`"),
        ));
    }
    let mut header = vec![0; size as usize];
    file.read_exact_at(&mut header, LENGTH_BYTES).map_err(ConvertError::reading(path))?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| ConvertError::corrupt(path, format!("its header cannot be parsed: {error}")))?;
    let start = LENGTH_BYTES + size;
    let end = (metadata.data_len() as u64).checked_add(start);
    if end != Some(length) {
        let problem = format!("its header accounts for `{}` bytes of tensors", metadata.data_len());
        return Err(ConvertError::corrupt(path, format!("{problem}, the file has `{}`", length - start)));
    }
    let tensors = metadata
        .offset_keys()
        .into_iter()
        .filter_map(|name| {
            let info = metadata.info(&name)?;
            let (first, last) = info.data_offsets;
            let (offset, bytes) = (start + first as u64, (last - first) as u64);
            Some(Tensor { content: Content::Numbers(info.dtype), shape: info.shape.clone(), name, offset, bytes })
        })
        .collect();
    Ok((start, tensors))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<(u64, Vec<Tensor>), ConvertError> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("it can be written");
        read(&file, bytes.len() as u64, Path::new("x.safetensors"))
    }

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let header = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}}"#;
        let (start, tensors) = parse(&with_header(header, 8)).expect("a sound file");
        assert_eq!(start, 8 + header.len() as u64);
        let names: Vec<(&str, u64)> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.offset)).collect();
        assert_eq!(names, [("a", start), ("b", start + 4)]);
    }

    #[test]
    fn hostile_headers_are_corrupt_files() {
        let tensor = |what: &str| format!(r#"{{"a":{{{what}}}}}"#);
        let cases = [
            ("empty", vec![]),
            ("no room for the length", vec![1; 7]),
            ("a length over the file's", u64::MAX.to_le_bytes().to_vec()),
            ("a length over the limit", 100_000_001_u64.to_le_bytes().to_vec()),
            ("not JSON", with_header("{\"a\":", 4)),
            ("not UTF-8", {
                let mut bytes = with_header("    ", 0);
                bytes[9] = 0xff;
                bytes
            }),
            ("nesting", with_header(&"[".repeat(100_000), 0)),
            ("cut short", with_header(&tensor(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#), 7)),
            ("too long", with_header(&tensor(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#), 9)),
            ("a hole", with_header(&tensor(r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#), 12)),
            (
                "a size that is not the shape's",
                with_header(&tensor(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#), 8),
            ),
            ("backwards", with_header(&tensor(r#""dtype":"F32","shape":[0],"data_offsets":[0,-4]"#), 0)),
            (
                "a product that overflows",
                with_header(&tensor(r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#), 0),
            ),
            ("an unknown type", with_header(&tensor(r#""dtype":"F33","shape":[1],"data_offsets":[0,4]"#), 4)),
            (
                "two tensors in one place",
                with_header(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                    4,
                ),
            ),
        ];
        for (name, bytes) in cases {
            let found = parse(&bytes);
            assert!(matches!(found, Err(ConvertError::Corrupt { .. })), "{name}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_tensors_inside_the_file_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((start, tensors)) = parse(&bytes) {
                prop_assert!(start <= bytes.len() as u64);
                prop_assert!(tensors.iter().all(|tensor| tensor.offset + tensor.bytes <= bytes.len() as u64));
            }
        }
    }
}
