//! Headers of weights.

use embedbar_intake::{gguf_header as gguf, safetensors_header as ours};
use safetensors::SafeTensors;

/// A file of safetensors: what is accepted, the format's own reader reads alike, and no byte is claimed twice or outside.
pub fn safetensors_header(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let Ok(header) = ours::read(bytes, length) else { return };
    let (size, theirs) = SafeTensors::read_metadata(bytes).expect("what we accept the format's own reader accepts");
    assert_eq!(header.data_start, size as u64 + 8, "both know where the header ends");
    assert_eq!(header.tensors.len(), theirs.tensors().len(), "both see as many tensors");
    let mut end = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.start, end, "there is no gap and no overlap before `{}`", tensor.name);
        end = tensor.end;
        let known = theirs.info(&tensor.name).expect("both see the same names");
        assert_eq!(known.data_offsets, (tensor.start as usize, tensor.end as usize), "`{}`", tensor.name);
        assert!(known.shape.iter().map(|size| *size as u64).eq(tensor.shape.iter().copied()), "`{}`", tensor.name);
    }
    assert_eq!(header.data_start + end, length, "the tensors fill the file");
    assert_eq!(header.metadata.len(), theirs.metadata().as_ref().map_or(0, std::collections::HashMap::len));
}

/// A GGUF file: what is accepted lies within it and does not overlap, and of a shorter file nothing is accepted that needs the rest.
pub fn gguf_header(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let Ok(header) = gguf::read(bytes, length) else { return };
    let mut taken = header.data_start;
    for tensor in &header.tensors {
        let start = header.data_start + tensor.start;
        assert!(start >= taken, "`{}` overlaps the one before it", tensor.name);
        taken = start + tensor.bytes;
        assert!(taken <= length, "`{}` ends after the file", tensor.name);
        assert_eq!(tensor.numbers, tensor.shape.iter().product::<u64>(), "`{}`", tensor.name);
    }
    let names = header.settings.keys().chain(header.lists.keys());
    assert!(names.chain(header.tensors.iter().map(|tensor| &tensor.name)).all(|name| name.len() <= bytes.len() * 3));
    if taken > header.data_start {
        let shorter = taken - 1;
        let cut = gguf::read(&bytes[..shorter as usize], shorter);
        assert!(cut.is_err(), "a file without the last byte of a tensor is no file");
    }
}
