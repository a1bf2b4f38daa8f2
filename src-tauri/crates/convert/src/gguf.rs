//! The head of a GGUF file, version 3: keys and the table of tensors. The tensors' bytes follow from elsewhere.

/// Tensors start at multiples of this, counted from the start of the data (the format's default).
const ALIGNMENT: u64 = 32;
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// A value of the kinds that we write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bytes(Vec<u8>),
}

/// One line of the table of tensors.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    /// Rows first.
    pub(crate) shape: &'a [usize],
    pub(crate) ggml_type: u32,
    /// From the start of the data.
    pub(crate) offset: u64,
}

/// The next multiple of the alignment.
pub(crate) fn aligned(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

/// Everything before the data, padded to the alignment. Its length depends on the lengths of texts only, not on values.
pub(crate) fn head(metadata: &[(String, Value)], tensors: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut bytes, key);
        put_value(&mut bytes, value);
    }
    for tensor in tensors {
        put_text(&mut bytes, tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        // GGUF counts dimensions from the one that changes fastest.
        bytes.extend(tensor.shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()));
        bytes.extend(tensor.ggml_type.to_le_bytes());
        bytes.extend(tensor.offset.to_le_bytes());
    }
    bytes.resize(aligned(bytes.len() as u64) as usize, 0);
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    let kind: u32 = match value {
        Value::U32(_) => 4,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::Texts(_) | Value::I32s(_) | Value::F32s(_) | Value::Bytes(_) => 9,
    };
    bytes.extend(kind.to_le_bytes());
    match value {
        Value::U32(number) => bytes.extend(number.to_le_bytes()),
        Value::F32(number) => bytes.extend(number.to_le_bytes()),
        Value::Bool(truth) => bytes.push(u8::from(*truth)),
        Value::Text(text) => put_text(bytes, text),
        Value::Texts(texts) => {
            put_list_head(bytes, 8, texts.len());
            for text in texts {
                put_text(bytes, text);
            }
        }
        Value::I32s(numbers) => {
            put_list_head(bytes, 5, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::F32s(numbers) => {
            put_list_head(bytes, 6, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::Bytes(all) => {
            put_list_head(bytes, 0, all.len());
            bytes.extend(all);
        }
    }
}

fn put_list_head(bytes: &mut Vec<u8>, kind: u32, length: usize) {
    bytes.extend(kind.to_le_bytes());
    bytes.extend((length as u64).to_le_bytes());
}
