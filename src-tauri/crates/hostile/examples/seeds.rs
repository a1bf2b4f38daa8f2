//! Writes small sound inputs for every parser below a folder, `NAME/FILE` for the parser `NAME`: what a fuzzer starts from.
//!
//! `cargo run -p embedbar-hostile --example seeds -- FOLDER`. The corpus that is committed grew out of these.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use embedbar_hostile::{PARSERS, joined};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Seeds = Vec<Vec<u8>>;

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: seeds FOLDER");
    for (parser, _) in PARSERS {
        let below = Path::new(&folder).join(parser);
        fs::create_dir_all(&below).expect("the folder can be made");
        for (index, seed) in seeds(parser).iter().enumerate() {
            fs::write(below.join(format!("seed-{index}")), seed).expect("a seed can be written");
        }
    }
}

fn seeds(parser: &str) -> Seeds {
    match parser {
        "archive" => archives(),
        "arrival" => folders().iter().map(|parts| joined(parts_of(parts).as_slice())).collect(),
        "compiled_vocabulary" => {
            let compiled =
                |json: &String| embedbar_vocabulary::compile(json.as_bytes()).expect("it has a compiled form");
            compilable().iter().map(compiled).collect()
        }
        "dotenv" => dotenvs(),
        "gguf_header" => vec![gguf()],
        "hub_journal" => journals(),
        "hub_listing" => listings(),
        "hub_names" => names(),
        "manifest" => vec![MANIFEST.as_bytes().to_vec()],
        "mlx_settings" => quantisations(),
        "package" => vec![package()],
        "safetensors_header" => vec![safetensors(&[("w", "F32", &[2, 3], 24), ("b", "BF16", &[3], 6)])],
        "tokenizer" | "vocabulary" => {
            compilable().into_iter().chain([UNIGRAM.to_owned()]).map(String::into_bytes).collect()
        }
        other => panic!("there are no seeds for `{other}`"),
    }
}

fn texts(texts: &[&str]) -> Seeds {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const CONFIG: &str = r#"{"model_type":"bert","num_hidden_layers":2,"hidden_size":8,"vocab_size":3,"max_position_embeddings":16,"num_attention_heads":2,"intermediate_size":16}"#;
const MLX: &str = r#"{"model_type":"bert","num_hidden_layers":2,"hidden_size":64,"vocab_size":3,"quantization":{"group_size":64,"bits":4,"out":{"group_size":32,"bits":8}}}"#;
const SMALL: &str =
    r#"{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"b":2}},"added_tokens":[],"normalizer":null}"#;
const MANIFEST: &str = r#"{"fileFormatVersion":"1.0.0","rootModelIdentifier":"m","itemInfoEntries":{"m":{"author":"com.apple.CoreML","description":"","name":"model.mlmodel","path":"com.apple.CoreML/model.mlmodel"},"w":{"author":"com.apple.CoreML","description":"","name":"weights","path":"com.apple.CoreML/weights"}}}"#;
const UNIGRAM: &str = r#"{"version":"1.0","truncation":null,"padding":{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":8,"pad_id":1,"pad_type_id":0,"pad_token":"<pad>"},"added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "},"pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true},"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],"trim_offsets":true,"add_prefix_space":true},"decoder":{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true},"model":{"type":"Unigram","unk_id":3,"vocab":[["<s>",0.0],["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["_a",-1.5],["b",-2]],"byte_fallback":false}}"#;

/// Descriptions of tokenizers that have a compiled form.
fn compilable() -> Vec<String> {
    let bert = r###"{"version":"1.0","truncation":{"direction":"Right","max_length":8,"strategy":"LongestFirst","stride":0},"padding":null,"added_tokens":[{"id":0,"content":"[UNK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},{"id":5,"content":"[CLS]","single_word":true,"lstrip":true,"rstrip":true,"normalized":false,"special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[5],"tokens":["[CLS]"]}}},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"a":1,"b":2,"##b":3,"ab":4,"[CLS]":5}}}"###;
    let pairs = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":6,"content":"<end>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]},"post_processor":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false},"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"ab":2,"c":3,"abc":4,"Ġ":5,"<end>":6},"merges":[["a","b"],["ab","c"]]}}"#;
    let lines = r#"{"version":"1.0","pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
    [bert, pairs, lines].map(str::to_owned).into()
}

type Named = Vec<(&'static str, Vec<u8>)>;

fn parts_of(files: &Named) -> Vec<(&[u8], &[u8])> {
    files.iter().map(|(name, content)| (name.as_bytes(), content.as_slice())).collect()
}

/// A model of each kind.
fn folders() -> Vec<Named> {
    let weights =
        safetensors(&[("embeddings.word_embeddings.weight", "F32", &[3, 2], 24), ("pooler.bias", "F16", &[2], 4)]);
    let packed = safetensors(&[
        ("embed.weight", "U32", &[3, 8], 96),
        ("embed.scales", "BF16", &[3, 1], 6),
        ("embed.biases", "BF16", &[3, 1], 6),
    ]);
    let index = r#"{"metadata":{"total_size":28},"weight_map":{"embeddings.word_embeddings.weight":"model-00001-of-00002.safetensors","pooler.bias":"model-00001-of-00002.safetensors","w":"model-00002-of-00002.safetensors"}}"#;
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        vec![
            ("config.json", text(CONFIG)),
            ("tokenizer.json", text(SMALL)),
            ("tokenizer_config.json", text("{}")),
            ("modules.json", text(r#"[{"path":""},{"path":"1_Pooling"},{"path":"2_Normalize"}]"#)),
            ("1_Pooling/config.json", text(r#"{"pooling_mode_mean_tokens":true}"#)),
            ("model.safetensors", weights.clone()),
            ("README.md", text("---\nlicense: apache-2.0\n---\n# A model\n")),
            ("LICENSE", text("Apache License\n")),
            (".gitattributes", text("*.bin filter=lfs\n")),
        ],
        vec![("config.json", text(MLX)), ("tokenizer.json", text(SMALL)), ("model.safetensors", packed)],
        vec![
            ("m/config.json", text(CONFIG)),
            ("m/tokenizer.json", text(SMALL)),
            ("m/model.safetensors.index.json", text(index)),
            ("m/model-00001-of-00002.safetensors", weights),
            ("m/model-00002-of-00002.safetensors", safetensors(&[("w", "F32", &[1], 4)])),
        ],
        vec![("model-Q8_0.gguf", gguf()), ("README.md", text("---\nlicense: mit\n---\n"))],
        vec![
            ("fp16/Manifest.json", text(MANIFEST)),
            ("fp16/Data/com.apple.CoreML/model.mlmodel", mil().0),
            ("fp16/Data/com.apple.CoreML/weights/weight.bin", mil().1),
            ("tokenizer.json", text(SMALL)),
        ],
        vec![
            ("m.mlmodelc/coremldata.bin", text("data")),
            ("m.mlmodelc/model.mil", text("program(1.0)")),
            ("m.mlmodelc/metadata.json", text("[]")),
            ("m.mlmodelc/weights/weight.bin", text("weights")),
        ],
        vec![
            ("pytorch_model.bin", text("PK")),
            ("adapter_config.json", text("{}")),
            ("modeling.py", text("import os\n")),
        ],
    ]
}

fn archives() -> Seeds {
    let of = |files: &Named, method| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in files {
            writer.start_file(*name, options).expect("an entry");
            writer.write_all(bytes).expect("its bytes");
        }
        writer.finish().expect("an archive").into_inner()
    };
    let small: Named = vec![
        ("m/config.json", b"{}".to_vec()),
        ("m/model.safetensors", b"12345678".to_vec()),
        ("__MACOSX/._m", b"x".to_vec()),
        ("m/run.py", b"x".to_vec()),
    ];
    vec![
        of(&small, CompressionMethod::Stored),
        of(&small, CompressionMethod::Deflated),
        of(&folders()[3], CompressionMethod::Deflated),
        of(&Vec::new(), CompressionMethod::Stored),
    ]
}

fn safetensors(tensors: &[(&str, &str, &[u64], usize)]) -> Vec<u8> {
    let (mut entries, mut at) = (vec![r#""__metadata__":{"format":"pt"}"#.to_owned()], 0);
    for (name, dtype, shape, bytes) in tensors {
        entries
            .push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{}]}}"#, at + bytes));
        at += bytes;
    }
    let header = format!("{{{}}}", entries.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; at]].concat()
}

/// With a setting of each type, and a list of each kind.
fn gguf() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let settings: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", 8, text("bert")),
        ("general.license", 8, text("mit")),
        ("general.alignment", 4, 32_u32.to_le_bytes().to_vec()),
        ("bert.block_count", 4, 2_u32.to_le_bytes().to_vec()),
        ("bert.context_length", 10, 512_u64.to_le_bytes().to_vec()),
        ("bert.attention.layer_norm_epsilon", 6, 1e-5_f32.to_le_bytes().to_vec()),
        ("bert.attention.causal", 7, vec![0]),
        ("a", 0, vec![1]),
        ("b", 3, vec![1, 255]),
        ("c", 12, 0.5_f64.to_le_bytes().to_vec()),
        ("tokenizer.ggml.tokens", 9, [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat()),
        (
            "tokenizer.ggml.token_type",
            9,
            [&5_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &[1, 0, 0, 0, 3, 0, 0, 0]].concat(),
        ),
    ];
    let tensors: [(&str, &[u64], u32, u64); 2] = [("token_embd.weight", &[32, 2], 8, 0), ("norm.bias", &[2], 0, 96)];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((settings.len() as u64).to_le_bytes());
    for (key, kind, value) in settings {
        bytes.extend(text(key));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    for (name, shape, kind, start) in tensors {
        bytes.extend(text(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        bytes.extend(shape.iter().flat_map(|extent| extent.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(start.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 104, 7);
    bytes
}

fn dotenvs() -> Seeds {
    texts(&[
        "# The SDK\nPAPR_ENABLE_COREML=true\nPAPR_COREML_MODEL=./coreml/fp16.mlpackage\nPAPR_API_KEY=\"secret\" # mine\n",
        "\u{feff}export A='it\\'s'\r\nB=\"two\nlines\"\r\n\r\nB=\r\nC\r\n  D = e # f\r\n",
        "A=$HOME/x\nB=${A:-~}\nC=\\n\\t\nD=\"unfinished\nE=1",
        "EMBEDBAR_PRECISION=int8\nEMBEDBAR_MODEL=qwen3-embedding-0.6b\nPAPR_ENABLE_COREML=True\nPAPR_ENABLE_COREML=1\n",
    ])
}

fn journals() -> Seeds {
    // The checksum of each line stands at its end.
    let line = |text: &str| format!("{text} {:08x}\n", crc(text.as_bytes()));
    let digest = "ab".repeat(32);
    let whole = [
        line(&format!("embedbar-download-1 1000 {digest}")),
        line("have 0 100 00000001"),
        line("have 100 50 00000002"),
        line("have 900 100 0badcafe"),
    ];
    vec![whole.concat().into_bytes(), whole[..2].concat().into_bytes()]
}

/// CRC-32 as in zip archives.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ 0xEDB8_8320 & (crc & 1).wrapping_neg())
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn listings() -> Seeds {
    let listing = |wish: &str, files: &[(&str, &str)]| {
        let files: Vec<String> = files
            .iter()
            .map(|(path, large)| format!(r#""{path}":{{"size":134,"blob_id":"{}"{large}}}"#, "0a".repeat(20)))
            .collect();
        format!("{wish}\n{{\"format_version\":1,\"files\":{{{}}}}}", files.join(","))
    };
    let large = format!(r#","lfs_sha256":"{}","lfs_size":90000000,"xet_hash":"{}""#, "0b".repeat(32), "0c".repeat(32));
    let description = r#"{"sha":"0123456789abcdef0123456789abcdef01234567","gated":"manual","disabled":false,"library_name":"mlx","pipeline_tag":"feature-extraction","tags":["license:mit"],"cardData":{"license":"other","license_name":"x","license_link":"y"}}"#;
    let made = vec![
        listing(
            "",
            &[
                ("config.json", ""),
                ("tokenizer.json", ""),
                ("model.safetensors", &large),
                ("1_Pooling/config.json", ""),
            ],
        ),
        listing("Q4_K_M", &[("m-Q4_K_M.gguf", &large), ("m-Q8_0.gguf", &large), ("m-F16-00001-of-00002.gguf", &large)]),
        listing(
            "int8",
            &[
                ("fp16/Manifest.json", ""),
                ("fp16/Data/com.apple.CoreML/model.mlmodel", ""),
                ("m-int8.mlpackage/Manifest.json", ""),
                ("m-int8.mlpackage/Data/com.apple.CoreML/weights/weight.bin", &large),
                ("tokenizer.json", ""),
            ],
        ),
        listing(
            "model-00001-of-00002.safetensors",
            &[
                ("config.json", ""),
                ("tokenizer.json", ""),
                ("model.safetensors.index.json", ""),
                ("model-00001-of-00002.safetensors", &large),
                ("model-00002-of-00002.safetensors", &large),
                ("2_Dense/model.safetensors", &large),
            ],
        ),
        listing("pytorch_model.bin", &[("pytorch_model.bin", &large)]),
        format!("\n{description}"),
        listing("", &[("config.json", ""), ("tokenizer.json", ""), ("model.safetensors", &large)])
            .replace("90000000", &u64::MAX.to_string()),
    ];
    made.into_iter().map(String::into_bytes).collect()
}

fn names() -> Seeds {
    texts(&[
        "Qwen/Qwen3-Embedding-0.6B-GGUF:Q8_0",
        "owner/name@refs/pr/1",
        "owner/name/folder/file.gguf",
        "https://huggingface.co/owner/name/blob/main/fp16%2Fa.gguf",
        "hf.co/owner/name/tree/refs%2Fpr%2F3",
        "http://127.0.0.1:8080/mirror/owner/name/resolve/v1.0/model.safetensors",
        "https://user:word@hf.co/datasets/a/b",
        "onnx/**/*.{json,onnx}\n[!a-z]?.bin",
        "con.txt/../aux",
        "W/\"abababababababababababababababababababab\"",
    ])
}

fn quantisations() -> Seeds {
    let packed =
        [&br#"{"quantization":{"group_size":32,"bits":3,"model.lm_head":false}}"#[..], b"\n", &[0x5a; 48]].concat();
    let mut seeds = texts(&[
        r#"{"quantization_config":{"group_size":64,"bits":4,"mode":"affine"}}"#,
        r#"{"quantization":{"group_size":128,"bits":6,"lm_head":{"bits":8,"mode":"mxfp4"}}}"#,
        r#"{"quantization_config":{"quant_method":"gptq","bits":4}}"#,
    ]);
    seeds.push(packed);
    seeds
}

fn package() -> Vec<u8> {
    let (model, weights) = mil();
    joined(&[
        (b"Manifest.json", MANIFEST.as_bytes()),
        (b"Data/com.apple.CoreML/model.mlmodel", &model),
        (b"Data/com.apple.CoreML/weights/weight.bin", &weights),
    ])
}

/// A Core ML program that looks rows of a table up, takes their mean, multiplies it with a matrix of bytes and divides by the
/// length; and its weight file. Fields are those of Apple's `Model.proto` and `MIL.proto`.
fn mil() -> (Vec<u8>, Vec<u8>) {
    use proto::{
        constant, feature, immediate, input, integers, message, named, number, operation, stored, text, truth, word,
    };
    let blobs: [(u32, Vec<u8>); 4] = [
        (1, (0_u8..8).flat_map(|index| [0, 0x38 + index]).collect()),
        (4, vec![1, 0xff, 2, 0, 127, 3]),
        (4, vec![0, 0, 0]),
        (1, vec![0, 0x38, 0, 0x3c, 0, 0x40]),
    ];
    let mut weights = vec![0; 64];
    (weights[0], weights[4]) = (blobs.len() as u8, 2);
    let mut offsets = Vec::new();
    for (dtype, data) in blobs {
        weights.resize(weights.len().next_multiple_of(64), 0);
        let offset = weights.len();
        offsets.push(offset as u64);
        weights.extend(0xDEAD_BEEF_u32.to_le_bytes());
        weights.extend(dtype.to_le_bytes());
        weights.extend((data.len() as u64).to_le_bytes());
        weights.extend((offset as u64 + 64).to_le_bytes());
        weights.resize(offset + 64, 0);
        weights.extend(data);
    }
    let whole = |name, value| constant(name, proto::INT32, &[], &immediate(proto::INT32, &[], integers(&[value])));
    let axes = |name, value| constant(name, proto::INT32, &[1], &immediate(proto::INT32, &[1], integers(&[value])));
    let operations = [
        constant("table", proto::HALF, &[4, 2], &stored(proto::HALF, &[4, 2], offsets[0])),
        whole("axis", 0),
        operation(
            "gather",
            ("rows", proto::HALF, &[1, 3, 2]),
            vec![
                input("x", "table"),
                input("indices", "input_ids"),
                input("axis", "axis"),
                input("batch_dims", "axis"),
            ],
        ),
        axes("axes", 1),
        constant("keep", 1, &[], &truth(false)),
        operation(
            "reduce_mean",
            ("mean", proto::HALF, &[1, 2]),
            vec![input("x", "rows"), input("axes", "axes"), input("keep_dims", "keep")],
        ),
        operation(
            "constexpr_affine_dequantize",
            ("matrix", proto::HALF, &[3, 2]),
            vec![
                proto::attribute("quantized_data", &stored(proto::INT8, &[3, 2], offsets[1])),
                proto::attribute("zero_point", &stored(proto::INT8, &[3], offsets[2])),
                proto::attribute("scale", &stored(proto::HALF, &[3], offsets[3])),
                proto::attribute("axis", &immediate(proto::INT32, &[], integers(&[0]))),
            ],
        ),
        operation("linear", ("product", proto::HALF, &[1, 3]), vec![input("x", "mean"), input("weight", "matrix")]),
        operation("softmax", ("soft", proto::HALF, &[1, 3]), vec![input("x", "product"), input("axis", "axis")]),
        axes("shape", 3),
        operation("reshape", ("flat", proto::HALF, &[3]), vec![input("x", "soft"), input("shape", "shape")]),
        operation("mul", ("square", proto::HALF, &[3]), vec![input("x", "flat"), input("y", "flat")]),
        constant("single", 2, &[], &word("fp32")),
        operation("cast", ("vector", proto::SINGLE, &[3]), vec![input("x", "square"), input("dtype", "single")]),
    ];
    let block = [vec![text(2, "vector")], operations.to_vec()].concat();
    let specialised = message(3, &[text(1, "CoreML6"), message(2, &block)]);
    let function = message(2, &[named(1, "input_ids", proto::INT32, &[1, 3]), text(2, "CoreML6"), specialised]);
    let program = message(502, &[number(1, 1), message(2, &[text(1, "main"), function])]);
    let description = message(
        2,
        &[
            feature(1, "input_ids", 131_104, &[1, 3]),
            feature(10, "vector", 65_568, &[3]),
            message(100, &[text(3, "nobody"), message(100, &[text(1, "key"), text(2, "value")])]),
        ],
    );
    ([number(1, 7), description, program].concat(), weights)
}

/// Protobuf by hand.
mod proto {
    pub(crate) const HALF: u64 = 10;
    pub(crate) const SINGLE: u64 = 11;
    pub(crate) const INT8: u64 = 21;
    pub(crate) const INT32: u64 = 23;

    fn varint(mut number: u64, bytes: &mut Vec<u8>) {
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
    }

    pub(crate) fn number(field: u64, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint(field << 3, &mut bytes);
        varint(number, &mut bytes);
        bytes
    }

    pub(crate) fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
        let inner = parts.concat();
        let mut bytes = Vec::new();
        varint(field << 3 | 2, &mut bytes);
        varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    }

    pub(crate) fn text(field: u64, text: &str) -> Vec<u8> {
        message(field, &[text.as_bytes().to_vec()])
    }

    fn value_type(field: u64, dtype: u64, shape: &[u64]) -> Vec<u8> {
        let mut parts = vec![number(1, dtype), number(2, shape.len() as u64)];
        parts.extend(shape.iter().map(|size| message(3, &[message(1, &[number(1, *size)])])));
        message(field, &[message(1, &parts)])
    }

    pub(crate) fn named(field: u64, name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
        message(field, &[text(1, name), value_type(2, dtype, shape)])
    }

    /// The parts of a value that stands in the program.
    pub(crate) fn immediate(dtype: u64, shape: &[u64], elements: Vec<u8>) -> Vec<Vec<u8>> {
        vec![value_type(2, dtype, shape), message(3, &[message(1, &[elements])])]
    }

    /// The parts of a value that stands in the weight file.
    pub(crate) fn stored(dtype: u64, shape: &[u64], offset: u64) -> Vec<Vec<u8>> {
        let reference = message(5, &[text(1, "@model_path/weights/weight.bin"), number(2, offset)]);
        vec![value_type(2, dtype, shape), reference]
    }

    pub(crate) fn integers(values: &[u64]) -> Vec<u8> {
        let mut packed = Vec::new();
        for value in values {
            varint(*value, &mut packed);
        }
        message(2, &[message(1, &[packed])])
    }

    pub(crate) fn truth(value: bool) -> Vec<Vec<u8>> {
        immediate(1, &[], message(3, &[message(1, &[vec![u8::from(value)]])]))
    }

    pub(crate) fn word(value: &str) -> Vec<Vec<u8>> {
        immediate(2, &[], message(4, &[text(1, value)]))
    }

    pub(crate) fn attribute(name: &str, value: &[Vec<u8>]) -> Vec<u8> {
        message(5, &[text(1, name), message(2, value)])
    }

    pub(crate) fn input(name: &str, of: &str) -> Vec<u8> {
        message(2, &[text(1, name), message(2, &[message(1, &[text(1, of)])])])
    }

    /// An operation with one output.
    pub(crate) fn operation(kind: &str, output: (&str, u64, &[u64]), rest: Vec<Vec<u8>>) -> Vec<u8> {
        let first = vec![text(1, kind), named(3, output.0, output.1, output.2), attribute("name", &word(output.0))];
        message(3, &[first, rest].concat())
    }

    pub(crate) fn constant(name: &str, dtype: u64, shape: &[u64], value: &[Vec<u8>]) -> Vec<u8> {
        operation("const", (name, dtype, shape), vec![attribute("val", value)])
    }

    pub(crate) fn feature(field: u64, name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = shape.iter().map(|size| number(1, *size)).collect();
        parts.push(number(2, dtype));
        message(field, &[text(1, name), message(3, &[message(5, &parts)])])
    }
}
