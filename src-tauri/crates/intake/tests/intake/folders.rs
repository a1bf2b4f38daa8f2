//! What a folder or a file is, and why it is none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use embedbar_contract::{Failure, FailureCode};
use embedbar_intake::{IntakeError, Kind};
use safetensors::tensor::Dtype;

use crate::samples::{self, arrived, refused, targets, write};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_checkpoint_is_taken_with_what_belongs_to_it_and_nothing_else() {
    let root = folder();
    let path = root.path().join("My model (v1)");
    samples::checkpoint(&path);
    write(
        &path,
        &[
            ("pytorch_model.bin", b"\x80\x02"),
            ("modeling_x.py", b"import os"),
            ("onnx/model.onnx", b"x"),
            ("vocab.txt", b"a"),
        ],
    );
    let arrival = arrived(&path);
    assert_eq!(arrival.kind, Kind::Checkpoint);
    assert_eq!(arrival.name, "My-model-v1");
    assert_eq!(
        targets(&arrival),
        [
            "1_Pooling/config.json",
            "LICENSE",
            "README.md",
            "config.json",
            "model.safetensors",
            "modules.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    assert_eq!(
        arrival.bytes,
        arrival.files.iter().map(|it| fs::metadata(&it.from).expect("a file").len()).sum::<u64>()
    );
    assert_eq!(arrival.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(
        arrival.notes,
        [
            "`pytorch_model.bin` is a pickle, which is a program; it is left out",
            "`modeling_x.py` is a program; it is left out",
            "`vocab.txt` is not needed; it is left out",
            "the folder `onnx` is left out",
        ]
    );
    let summary = &arrival.summary;
    assert_eq!(summary.architecture.as_deref(), Some("bert"));
    assert_eq!((summary.layers, summary.hidden, summary.vocabulary), (Some(2), Some(8), Some(3)));
    assert_eq!((summary.max_positions, summary.parameters), (Some(16), Some(3 * 8 + 8 * 16)));
    assert_eq!(summary.precisions, [("F16".to_owned(), 24), ("F32".to_owned(), 128)].into());
    assert_eq!(summary.quantisation, None);
    let text = serde_json::to_string(&arrival).expect("JSON");
    assert_eq!(serde_json::from_str::<embedbar_intake::Arrival>(&text).expect("an arrival"), arrival);
}

#[test]
fn an_mlx_checkpoint_is_counted_in_the_numbers_that_its_words_stand_for() {
    let root = folder();
    samples::mlx(root.path());
    let arrival = arrived(root.path());
    assert_eq!(arrival.kind, Kind::MlxCheckpoint);
    let precisions = [("BF16".to_owned(), 8), ("MLX 4-bit".to_owned(), 3 * 128), ("MLX 8-bit".to_owned(), 2 * 128)];
    assert_eq!(arrival.summary.precisions, precisions.into());
    assert_eq!(arrival.summary.quantisation.as_deref(), Some("MLX 4-bit, groups of 64"));
}

#[test]
fn shards_are_taken_by_their_index_and_checked_against_it() {
    let root = folder();
    samples::checkpoint(root.path());
    fs::remove_file(root.path().join("model.safetensors")).expect("removed");
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let index = format!(r#"{{"weight_map":{{"a":"{one}","b":"{two}"}}}}"#);
    write(
        root.path(),
        &[
            (one, &samples::tensors(&[("a", Dtype::F32, &[2])])),
            (two, &samples::tensors(&[("b", Dtype::F32, &[2])])),
            ("model.safetensors.index.json", index.as_bytes()),
        ],
    );
    for path in [root.path().to_path_buf(), root.path().join(one)] {
        let arrival = arrived(&path);
        assert!([one, two, "model.safetensors.index.json"].iter().all(|it| targets(&arrival).contains(it)));
        assert_eq!(arrival.summary.parameters, Some(4));
    }
    let with_index = |text: &str| {
        write(root.path(), &[("model.safetensors.index.json", text.as_bytes())]);
        refused(root.path()).to_string()
    };
    assert!(with_index(&index.replace(two, "../x.safetensors")).contains("no safetensors file beside it"));
    assert!(with_index(&index.replace(two, "x.bin")).contains("no safetensors file beside it"));
    assert!(with_index(&index.replace(two, "model-00003-of-00003.safetensors")).contains("there is no"));
    assert!(with_index(&index.replace(two, one)).contains("`b` is not in"));
    assert!(with_index("{}").contains("weight_map"));
    fs::remove_file(root.path().join("model.safetensors.index.json")).expect("removed");
    assert!(
        matches!(refused(root.path()), IntakeError::Missing { file, .. } if file == "model.safetensors.index.json")
    );
    write(
        root.path(),
        &[("model.safetensors.index.json", index.as_bytes()), (two, &samples::tensors(&[("a", Dtype::F32, &[2])]))],
    );
    assert!(refused(root.path()).to_string().contains("too"));
}

#[test]
fn a_file_of_weights_is_taken_with_its_neighbours_but_not_with_strangers() {
    let root = folder();
    samples::checkpoint(root.path());
    write(root.path(), &[("holiday.py", b"x"), ("mine.safetensors", &samples::weights())]);
    let arrival = arrived(&root.path().join("mine.safetensors"));
    assert_eq!(arrival.kind, Kind::Checkpoint);
    assert!(arrival.notes.is_empty());
    assert!(!targets(&arrival).contains(&"README.md"));
    let weights = arrival.files.iter().find(|it| it.to == "model.safetensors").expect("weights");
    assert!(weights.from.ends_with("mine.safetensors"));
    fs::remove_file(root.path().join("config.json")).expect("removed");
    let error = refused(&root.path().join("mine.safetensors"));
    assert!(matches!(error, IntakeError::Missing { ref file, .. } if file == "config.json"), "{error}");
}

#[test]
fn a_gguf_file_is_taken_with_the_tokenizer_beside_it() {
    let root = folder();
    write(root.path(), &[("Small model.gguf", &samples::plain_gguf())]);
    for path in [root.path().to_path_buf(), root.path().join("Small model.gguf")] {
        let arrival = arrived(&path);
        assert_eq!((arrival.kind, arrival.name.as_str()), (Kind::Gguf, "Small-model"));
        assert_eq!(targets(&arrival), ["Small-model.gguf"]);
        assert!(arrival.notes[0].contains("`tokenizer.json` is not beside it"), "{:?}", arrival.notes);
        assert_eq!(arrival.licence.as_deref(), Some("mit"));
        assert_eq!(arrival.summary.architecture.as_deref(), Some("bert"));
        assert_eq!((arrival.summary.layers, arrival.summary.parameters), (Some(2), Some(32)));
        assert_eq!(arrival.summary.quantisation.as_deref(), Some("Q8_0"));
    }
    write(root.path(), &[("tokenizer.json", samples::TOKENIZER.as_bytes())]);
    let arrival = arrived(&root.path().join("Small model.gguf"));
    assert_eq!(targets(&arrival), ["Small-model.gguf", "tokenizer.json"]);
    assert!(arrival.notes.is_empty());
    // What sentence-transformers says of pooling holds for weights of any format.
    write(root.path(), &[("modules.json", br#"[{"path":"9_Pooling"}]"#), ("9_Pooling/config.json", b"{}")]);
    let arrival = arrived(&root.path().join("Small model.gguf"));
    assert_eq!(targets(&arrival), ["9_Pooling/config.json", "Small-model.gguf", "modules.json", "tokenizer.json"]);
}

#[test]
fn parts_of_gguf_models_are_refused_by_what_they_are() {
    let root = folder();
    let name = "m-00001-of-00002.gguf";
    write(root.path(), &[(name, &samples::plain_gguf()), ("m-00002-of-00002.gguf", &samples::plain_gguf())]);
    assert!(matches!(refused(root.path()), IntakeError::SplitGguf { .. }));
    assert!(matches!(refused(&root.path().join("m-00002-of-00002.gguf")), IntakeError::SplitGguf { .. }));
    for (settings, what) in [
        (&[("general.architecture", "bert"), ("general.type", "adapter")], "LoRA"),
        (&[("general.architecture", "clip"), ("general.type", "model")], "projector"),
        (&[("general.architecture", "bert"), ("general.type", "mmproj")], "projector"),
    ] {
        let root = folder();
        write(root.path(), &[("x.gguf", &samples::gguf(settings))]);
        let error = refused(root.path());
        assert!(matches!(error, IntakeError::Partial { .. }) && error.to_string().contains(what), "{error}");
    }
    let root = folder();
    write(root.path(), &[("x.gguf", &samples::plain_gguf()), ("mmproj-x.gguf", &samples::plain_gguf())]);
    assert_eq!(arrived(root.path()).name, "x");
}

#[test]
fn packages_land_under_their_name_with_the_tokenizer_beside_them() {
    let root = folder();
    let inside = ["Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"];
    let expected = |name: &str| -> Vec<String> {
        let own = inside.iter().map(|it| format!("{name}.mlpackage/{it}"));
        own.chain(["tokenizer.json".to_owned()]).collect()
    };
    let repository = root.path().join("repo");
    samples::package(&repository.join("fp16"));
    write(&repository, &[("tokenizer.json", samples::TOKENIZER.as_bytes()), ("README.md", samples::CARD.as_bytes())]);
    for path in [repository.clone(), repository.join("fp16")] {
        let arrival = arrived(&path);
        assert_eq!((arrival.kind, arrival.name.as_str()), (Kind::CoreMlPackage, "repo-fp16"));
        assert_eq!(targets(&arrival), expected("repo-fp16"));
        assert_eq!(arrival.summary.precisions, [("F16".to_owned(), 8)].into());
    }
    assert_eq!(arrived(&repository).licence.as_deref(), Some("apache-2.0"));
    assert_eq!(arrived(&repository.join("fp16")).licence, None);
    let named = root.path().join("Small.mlpackage");
    fs::rename(repository.join("fp16"), &named).expect("renamed");
    write(&named, &[("Data/com.apple.CoreML/evil.py", b"x"), ("Data/other/x.bin", b"x")]);
    let arrival = arrived(&named);
    assert_eq!(arrival.name, "Small");
    assert!(arrival.notes.iter().any(|it| it.contains("no `tokenizer.json`")), "{:?}", arrival.notes);
    assert!(arrival.notes.iter().any(|it| it.contains("evil.py")), "{:?}", arrival.notes);
    assert_eq!(targets(&arrival), expected("Small")[..3]);
}

#[test]
fn compiled_models_are_taken_whole() {
    let root = folder();
    let path = root.path().join("Small.mlmodelc");
    samples::compiled(&path);
    write(root.path(), &[("tokenizer.json", samples::TOKENIZER.as_bytes())]);
    let arrival = arrived(&path);
    assert_eq!((arrival.kind, arrival.files.len()), (Kind::CompiledCoreMl, 6));
    assert!(targets(&arrival).contains(&"Small.mlmodelc/weights/weight.bin"));
    assert_eq!(arrived(root.path()).files, arrival.files);
}

#[test]
fn damaged_packages_are_refused() {
    let root = folder();
    let path = root.path().join("x.mlpackage");
    let weight = "Data/com.apple.CoreML/weights/weight.bin";
    let broken = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(&path);
        samples::package(&path);
        change(&path);
        refused(&path).to_string()
    };
    let blob = |at: usize, to: u8| {
        broken(&|path| {
            let mut bytes = fs::read(path.join(weight)).expect("weights");
            bytes[at] = to;
            fs::write(path.join(weight), bytes).expect("written");
        })
    };
    assert!(blob(64, 0).contains("no beginning"));
    assert!(blob(74, 1).contains("ends after"));
    assert!(blob(87, 255).contains("ends after"));
    assert!(blob(3, 255).contains("claims"));
    assert!(
        broken(&|path| fs::remove_file(path.join("Data/com.apple.CoreML/model.mlmodel")).expect("removed"))
            .contains("there is no")
    );
    assert!(
        broken(&|path| fs::remove_dir_all(path.join("Data/com.apple.CoreML/weights")).expect("removed"))
            .contains("there is no")
    );
    assert!(broken(&|path| fs::remove_file(path.join("Manifest.json")).expect("removed")).contains("Manifest.json"));
    let linked = broken(&|path| {
        fs::rename(path.join("Data"), path.join("../elsewhere")).expect("moved");
        symlink("../elsewhere", path.join("Data")).expect("a link");
    });
    assert!(linked.contains("a link to a folder"), "{linked}");
}

#[test]
fn the_cache_of_the_hub_is_read_through_its_links() {
    let root = folder();
    let real = root.path().join("real");
    samples::checkpoint(&real);
    let repository = root.path().join("hub/models--org--Tiny-Model");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = repository.join("snapshots").join(commit);
    // The newest layout: a snapshot's link leads to the repository's blob, which is a link into a store that all share.
    let shared = root.path().join("hub/blobs/ab");
    for folder in [&snapshot, &snapshot.join("1_Pooling"), &repository.join("blobs"), &shared] {
        fs::create_dir_all(folder).expect("a folder");
    }
    for (number, (name, bytes)) in samples::tree(&real).into_iter().enumerate() {
        fs::write(shared.join(format!("x{number}")), bytes).expect("a blob");
        symlink(format!("../../blobs/ab/x{number}"), repository.join(format!("blobs/b{number}"))).expect("a link");
        let up = if name.contains('/') { "../../../" } else { "../../" };
        symlink(format!("{up}blobs/b{number}"), snapshot.join(name)).expect("a link");
    }
    for path in [&snapshot, &repository] {
        let arrival = arrived(path);
        assert_eq!((arrival.kind, arrival.name.as_str()), (Kind::Checkpoint, "Tiny-Model"));
        assert_eq!(targets(&arrival).len(), 8);
    }
    let other = repository.join("snapshots/fedcba9876543210fedcba9876543210fedcba98");
    samples::checkpoint(&other);
    assert!(matches!(refused(&repository), IntakeError::Several { models, .. } if models.len() == 2));
    write(&repository, &[("refs/main", commit.as_bytes())]);
    assert!(arrived(&repository).files[0].from.starts_with(fs::canonicalize(&snapshot).expect("it is there")));
    // A download that was broken off leaves links to nothing.
    let target = fs::canonicalize(snapshot.join("model.safetensors")).expect("it is there");
    fs::remove_file(target).expect("removed");
    assert!(matches!(refused(&snapshot), IntakeError::Missing { .. } | IntakeError::NotFound { .. }));
}

#[test]
fn pipes_sockets_and_devices_are_never_opened() {
    let root = folder();
    samples::checkpoint(root.path());
    symlink("/dev/zero", root.path().join("vocab.bin")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("x.sock")).expect("a socket");
    let notes = arrived(root.path()).notes;
    assert!(notes.contains(&"`vocab.bin` is a device; it is left out".to_owned()), "{notes:?}");
    assert!(notes.contains(&"`x.sock` is a socket; it is left out".to_owned()), "{notes:?}");
    for name in ["tokenizer.json", "config.json"] {
        fs::remove_file(root.path().join(name)).expect("removed");
        symlink("/dev/zero", root.path().join(name)).expect("a link");
        assert!(matches!(refused(root.path()), IntakeError::NotAFile { .. } | IntakeError::Missing { .. }), "{name}");
    }
    let pipe = root.path().join("pipe.gguf");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be run");
    assert!(made.success());
    assert!(matches!(refused(&pipe), IntakeError::NotAFile { what: "a pipe", .. }));
    assert!(matches!(refused(&root.path().join("x.sock")), IntakeError::NotAFile { what: "a socket", .. }));
    // Round and round is not followed.
    symlink(".", root.path().join("again")).expect("a link");
    assert!(matches!(refused(root.path()), IntakeError::NotAFile { .. } | IntakeError::Missing { .. }));
}

#[test]
fn what_is_no_model_is_refused_by_what_it_is() {
    /// Files, the one that is dropped, and a part of the refusal.
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (&[("pytorch_model.bin", b"x"), ("config.json", b"{}")], "", "pickles, which are programs"),
        (&[("a.ckpt", b"x")], "a.ckpt", "pickles, which are programs"),
        (&[("onnx/model.onnx", b"x"), ("config.json", b"{}")], "", "the format of ONNX"),
        (&[("tf_model.h5", b"x")], "", "the format of TensorFlow"),
        (&[("x.mlmodel", b"x")], "x.mlmodel", "Core ML's older"),
        (&[("x.py", b"x")], "x.py", "is a program"),
        (&[("X.app/Contents/Info.plist", b"x")], "X.app", "is a program"),
        (&[("X.app/Contents/Info.plist", b"x")], "", "it holds `X.app`"),
        (&[("x.tar.gz", b"x")], "x.tar.gz", "archive of the kind `.gz`"),
        (&[("x.7z", b"x")], "x.7z", "archive of the kind `.7z`"),
        (&[("x.rar", b"x")], "x.rar", "archive of the kind `.rar`"),
        (&[("x.tar", b"x")], "", "it holds `x.tar`"),
        (&[("letter.txt", b"x")], "letter.txt", "a file of the kind `.txt`"),
        (&[("letter.txt", b"x")], "", "it holds `letter.txt`"),
        (&[("config.json", b"{}")], "", "there is no `model.safetensors`"),
        (&[("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"x")], "", "an adapter (LoRA)"),
        (&[("adapter_model.safetensors", b"x")], "adapter_model.safetensors", "an adapter (LoRA)"),
        (&[("x.safetensors", b"x")], "", "there is no `config.json`"),
        (&[], "", "is empty"),
        (&[], "none.gguf", "there is nothing"),
    ];
    for (files, dropped, part) in cases {
        let root = folder();
        write(root.path(), files);
        let error = refused(&root.path().join(dropped));
        assert!(error.to_string().contains(part), "{part}: {error}");
        let failure = Failure::from(error);
        assert!(failure.hint.is_some() && !failure.message.ends_with('.'), "{failure:?}");
    }
}

#[test]
fn a_checkpoint_that_lacks_or_contradicts_something_is_refused() {
    let changed = |name: &str, bytes: Option<&[u8]>| {
        let root = folder();
        samples::checkpoint(root.path());
        match bytes {
            Some(bytes) => fs::write(root.path().join(name), bytes).expect("written"),
            None => fs::remove_file(root.path().join(name)).expect("removed"),
        }
        refused(root.path())
    };
    let error = changed("tokenizer.json", None);
    assert!(matches!(error, IntakeError::Missing { ref file, .. } if file == "tokenizer.json"), "{error}");
    let config =
        |from: &str, to: &str| changed("config.json", Some(samples::CONFIG.replace(from, to).as_bytes())).to_string();
    assert!(config("\"num_hidden_layers\":2", "\"num_hidden_layers\":513").contains("`num_hidden_layers` is `513`"));
    assert!(config("\"num_attention_heads\":2", "\"num_attention_heads\":0").contains("`num_attention_heads` is `0`"));
    assert!(config("\"hidden_size\":8", "\"hidden_size\":1e99").contains("hidden_size"));
    assert!(changed("config.json", Some(b"[]")).to_string().contains("list"));
    assert!(changed("config.json", Some(&[b'['; 5000])).to_string().contains("nested"));
    assert!(changed("tokenizer_config.json", Some(&vec![b' '; (4 << 20) + 1])).to_string().contains("at most"));
    assert!(changed("modules.json", Some(br#"[{"path":"../x"}]"#)).to_string().contains("no folder beside it"));
    assert!(changed("tokenizer.json", Some(b"{}")).to_string().contains("not the description"));
    assert!(changed("model.safetensors", Some(b"xxxxxxxxxxxx")).to_string().contains("would have"));
    let lora = samples::tensors(&[("a.lora_A.weight", Dtype::F32, &[2])]);
    assert!(matches!(changed("model.safetensors", Some(&lora)), IntakeError::Partial { .. }));
}

#[test]
fn code_that_a_configuration_asks_for_is_said_and_never_taken() {
    let root = folder();
    samples::checkpoint(root.path());
    let config = samples::CONFIG.replacen('{', r#"{"auto_map":{"AutoModel":"modeling_x.X"},"#, 1);
    write(root.path(), &[("config.json", config.as_bytes()), ("modeling_x.py", b"x")]);
    let arrival = arrived(root.path());
    assert!(arrival.notes[0].contains("auto_map"), "{:?}", arrival.notes);
    assert!(!targets(&arrival).iter().any(|it| it.contains(".py")));
}

#[test]
fn several_models_are_listed() {
    let root = folder();
    write(root.path(), &[("a.gguf", &samples::plain_gguf()), ("b.gguf", &samples::plain_gguf())]);
    assert!(refused(root.path()).to_string().contains("holds `2` models, and one is wanted: `a.gguf`, `b.gguf`"));
    let root = folder();
    samples::package(&root.path().join("fp16"));
    samples::package(&root.path().join("int8"));
    let failure = Failure::from(refused(root.path()));
    assert_eq!(failure.code, FailureCode::ModelUnsupported);
    assert!(failure.message.contains("`fp16`, `int8`"), "{failure}");
    let root = folder();
    samples::checkpoint(root.path());
    write(root.path(), &[("x.gguf", &samples::plain_gguf())]);
    assert!(matches!(refused(root.path()), IntakeError::Several { .. }));
}
