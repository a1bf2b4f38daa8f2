//! Small models of each kind, with weights that mean nothing, and archives of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use embedbar_intake::{Arrival, IntakeError, Unwatched, Watch, recognise};
use safetensors::tensor::{Dtype, TensorView};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub(crate) const CONFIG: &str = r#"{"model_type":"bert","num_hidden_layers":2,"hidden_size":8,"vocab_size":3,
    "max_position_embeddings":16,"num_attention_heads":2,"intermediate_size":16}"#;
pub(crate) const TOKENIZER: &str =
    r#"{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"b":2}},"added_tokens":[],"normalizer":null}"#;
pub(crate) const CARD: &str = "---\nlicense: apache-2.0\n---\n# A model\n";

/// Recognises with an own scratch folder, which is kept as long as the first part.
pub(crate) fn looked_at(path: &Path) -> (tempfile::TempDir, Result<Arrival, IntakeError>) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let found = recognise(path, scratch.path(), &Unwatched);
    (scratch, found)
}

pub(crate) fn arrived(path: &Path) -> Arrival {
    looked_at(path).1.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn refused(path: &Path) -> IntakeError {
    looked_at(path).1.expect_err(&path.display().to_string())
}

/// The paths below the model's folder.
pub(crate) fn targets(arrival: &Arrival) -> Vec<&str> {
    arrival.files.iter().map(|file| file.to.as_str()).collect()
}

pub(crate) fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// Safetensors by the format's own writer: names, types, shapes; the bytes are noise.
pub(crate) fn tensors(described: &[(&str, Dtype, &[usize])]) -> Vec<u8> {
    let mut state = 1_u32;
    let mut noise = |count: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    };
    let data: Vec<Vec<u8>> = described
        .iter()
        .map(|(_, dtype, shape)| noise(shape.iter().product::<usize>() * dtype.bitsize() / 8))
        .collect();
    let views = described.iter().zip(&data).map(|((name, dtype, shape), bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("the size fits the shape"))
    });
    safetensors::serialize(views, None).expect("it can be written")
}

pub(crate) fn weights() -> Vec<u8> {
    tensors(&[
        ("embeddings.word_embeddings.weight", Dtype::F16, &[3, 8]),
        ("encoder.layer.0.output.dense.weight", Dtype::F32, &[8, 16]),
        ("embeddings.position_ids", Dtype::I64, &[1, 16]),
    ])
}

/// A checkpoint with all that usually lies around one.
pub(crate) fn checkpoint(folder: &Path) {
    write(
        folder,
        &[
            ("config.json", CONFIG.as_bytes()),
            ("tokenizer.json", TOKENIZER.as_bytes()),
            ("tokenizer_config.json", b"{}"),
            ("modules.json", br#"[{"path":""},{"path":"1_Pooling"},{"path":"2_Normalize"}]"#),
            ("1_Pooling/config.json", br#"{"pooling_mode_mean_tokens":true}"#),
            ("model.safetensors", &weights()),
            ("README.md", CARD.as_bytes()),
            ("LICENSE", b"Apache License\n"),
            (".gitattributes", b"*.bin filter=lfs\n"),
        ],
    );
}

/// One that MLX has quantised to 4 bits in groups of 64.
pub(crate) fn mlx(folder: &Path) {
    let config =
        CONFIG.replacen('{', r#"{"quantization":{"group_size":64,"bits":4,"out":{"group_size":64,"bits":8}},"#, 1);
    let weights = tensors(&[
        ("embed.weight", Dtype::U32, &[3, 16]),
        ("embed.scales", Dtype::BF16, &[3, 2]),
        ("embed.biases", Dtype::BF16, &[3, 2]),
        ("out.weight", Dtype::U32, &[2, 32]),
        ("out.scales", Dtype::BF16, &[2, 2]),
        ("out.biases", Dtype::BF16, &[2, 2]),
        ("norm.weight", Dtype::BF16, &[8]),
    ]);
    write(
        folder,
        &[
            ("config.json", config.as_bytes()),
            ("tokenizer.json", TOKENIZER.as_bytes()),
            ("model.safetensors", &weights),
        ],
    );
}

/// A GGUF file with the given text settings and one tensor of 32 numbers in Q8_0.
pub(crate) fn gguf(settings: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend((settings.len() as u64 + 1).to_le_bytes());
    for (key, value) in settings {
        bytes.extend(text(key));
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(text(value));
    }
    bytes.extend(text("bert.block_count"));
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(text("token_embd.weight"));
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(32_u64.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 34, 7);
    bytes
}

pub(crate) fn plain_gguf() -> Vec<u8> {
    gguf(&[("general.architecture", "bert"), ("general.license", "mit")])
}

/// A package with one blob of eight F16 numbers.
pub(crate) fn package(folder: &Path) {
    let manifest = br#"{"fileFormatVersion":"1.0.0","rootModelIdentifier":"m","itemInfoEntries":{
        "m":{"author":"com.apple.CoreML","description":"","name":"model.mlmodel","path":"com.apple.CoreML/model.mlmodel"},
        "w":{"author":"com.apple.CoreML","description":"","name":"weights","path":"com.apple.CoreML/weights"}}}"#;
    let mut blob = vec![0; 64 + 64 + 16];
    blob[0] = 1;
    blob[4] = 2;
    blob[64..68].copy_from_slice(&0xDEAD_BEEF_u32.to_le_bytes());
    blob[68] = 1;
    blob[72] = 16;
    blob[80] = 128;
    write(
        folder,
        &[
            ("Manifest.json", manifest),
            ("Data/com.apple.CoreML/model.mlmodel", b"model"),
            ("Data/com.apple.CoreML/weights/weight.bin", &blob),
        ],
    );
}

pub(crate) fn compiled(folder: &Path) {
    write(
        folder,
        &[
            ("coremldata.bin", b"data"),
            ("model.mil", b"program(1.0)"),
            ("metadata.json", b"[]"),
            ("weights/weight.bin", b"weights"),
            ("analytics/coremldata.bin", b"data"),
        ],
    );
}

/// A zip archive of these files, deflated.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in files {
        writer.start_file(*name, options).expect("an entry");
        writer.write_all(bytes).expect("its bytes");
    }
    writer.finish().expect("an archive").into_inner()
}

/// All files below `folder` and their bytes, by their paths.
pub(crate) fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        let entries: BTreeSet<PathBuf> =
            fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found
}

/// A zip archive of a folder, below `top`, which is empty or ends in `/`.
pub(crate) fn zip_of(folder: &Path, top: &str) -> Vec<u8> {
    let files: Vec<(String, Vec<u8>)> =
        tree(folder).into_iter().map(|(name, bytes)| (format!("{top}{name}"), bytes)).collect();
    zip(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

/// Cancels after a number of looks, and keeps the phases that it saw.
#[derive(Default)]
pub(crate) struct Impatient {
    pub(crate) looks_left: Cell<usize>,
    pub(crate) phases: RefCell<BTreeSet<String>>,
    pub(crate) last: Cell<(u64, u64)>,
}

impl Watch for Impatient {
    fn progress(&self, phase: &str, _item: &str, done: u64, total: u64) {
        assert!(done <= total, "{phase}: {done} of {total}");
        self.phases.borrow_mut().insert(phase.to_owned());
        self.last.set((done, total));
    }

    fn cancelled(&self) -> bool {
        let left = self.looks_left.get();
        self.looks_left.set(left.saturating_sub(1));
        left == 0
    }
}
