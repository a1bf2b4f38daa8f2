//! Every case that the lint must know, with what its mend makes of the file.

use embedbar_settings::{Code, Document, Finding, Severity, apply, fix_all, lint};

use crate::world::Imagined;

const PACKAGE: &str = "/project/coreml/Qwen3-Embedding-4B.mlpackage";
const CACHED: &str = "/people/ada/.cache/papr_memory/coreml/Qwen3-Embedding-4B-FP16.mlpackage";

fn all(text: &str, world: &Imagined) -> Vec<Finding> {
    lint(&Document::parse(text), world)
}

fn find(text: &str, world: &Imagined, code: Code) -> Finding {
    let findings = all(text, world);
    let mut of_code = findings.iter().filter(|finding| finding.code == code);
    let found = of_code.next().unwrap_or_else(|| panic!("no {code} in {findings:#?}")).clone();
    assert!(of_code.next().is_none(), "twice: {findings:#?}");
    found
}

/// The finding, and what its mend makes of the file; it must be gone then.
fn mended(text: &str, world: &Imagined, code: Code) -> (Finding, String) {
    let finding = find(text, world, code);
    let fix = finding.fix.clone().unwrap_or_else(|| panic!("{code} has no mend: {}", finding.message));
    let bytes = apply(text.as_bytes(), &fix.edits).expect("the edits fit");
    let after = String::from_utf8(bytes).expect("it was text");
    assert!(all(&after, world).iter().all(|it| (it.code, it.line) != (code, finding.line)), "still there: {after}");
    (finding, after)
}

fn is_clean(text: &str, world: &Imagined) {
    let findings = all(text, world);
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn a_good_file_has_no_findings() {
    let text = "# what the seed recommends\nPAPR_ONDEVICE_PROCESSING=true\nPAPR_ENABLE_COREML=true\n# PAPR_ENABLE_MLX=true\n\
                PAPR_COREML_MODEL=/project/coreml/Qwen3-Embedding-4B.mlpackage\nTOKENIZERS_PARALLELISM=false\n\
                PAPR_SYNC_INTERVAL=300\nEMBEDBAR_PRECISION=int8\nPAPR_MEMORY_API_KEY=abc123\nOTHER='a b'\nEMPTY=\n";
    is_clean(text, &Imagined::with(&[PACKAGE]));
    is_clean("", &Imagined::default());
}

#[test]
fn core_ml_and_mlx_are_both_on() {
    let text = "PAPR_ONDEVICE_PROCESSING=true\nPAPR_ENABLE_COREML=true\nPAPR_ENABLE_MLX=true\n";
    let (finding, after) = mended(text, &Imagined::with(&[CACHED]), Code::CoremlAndMlx);
    assert_eq!((finding.line, finding.severity), (3, Severity::Error));
    assert!(finding.message.contains("16 GB") && finding.message.contains("Core ML wins"), "{}", finding.message);
    assert_eq!(after, text.replace("PAPR_ENABLE_MLX", "# PAPR_ENABLE_MLX"));
    is_clean(&after, &Imagined::with(&[CACHED]));
    let off = find(&text.replace("COREML=true", "COREML=false"), &Imagined::default(), Code::MlxFails);
    assert_eq!(off.line, 3);
}

#[test]
fn one_where_only_true_does_it_all() {
    for (variable, says) in
        [("PAPR_ENABLE_COREML", "16 GB"), ("PAPR_ENABLE_MLX", "16 GB"), ("PAPR_DISABLE_ST_PRELOAD", "does nothing")]
    {
        for value in ["1", "yes", "ON", "'1'"] {
            let text = format!("X=y\n{variable}={value}  # keep\n");
            let (finding, after) = mended(&text, &Imagined::default(), Code::TrueOnly);
            assert_eq!(finding.line, 2);
            assert!(finding.message.contains(says), "{}", finding.message);
            let quote = if value.starts_with('\'') { "'" } else { "" };
            // Quotes that were there stay there.
            assert_eq!(after.replace('"', "'"), format!("X=y\n{variable}={quote}true{quote}  # keep\n"));
        }
        for value in ["true", "TRUE", "false", "0", ""] {
            let findings = all(&format!("{variable}={value}\n"), &Imagined::with(&[CACHED]));
            assert!(findings.iter().all(|finding| finding.code != Code::TrueOnly), "{variable}={value}");
        }
    }
    let (_, after) = mended("PAPR_INCLUDE_SERVER_EMBEDDINGS=on\n", &Imagined::default(), Code::TrueOnly);
    assert_eq!(after, "PAPR_INCLUDE_SERVER_EMBEDDINGS=true\n");
}

#[test]
fn a_missing_package_is_a_download_of_several_gigabytes() {
    let text = "PAPR_ENABLE_COREML=true\nPAPR_COREML_MODEL=/models/gone.mlpackage\n";
    let finding = find(text, &Imagined::default(), Code::ModelMissing);
    assert_eq!((finding.line, finding.severity), (2, Severity::Error));
    assert!(
        finding.message.contains("7.5 GB") && finding.message.contains("/models/gone.mlpackage"),
        "{}",
        finding.message
    );
    assert_eq!(finding.fix, None, "nothing is known that could be meant");
    let int8 = find(&format!("{text}PAPR_COREML_VARIANT=int8\n"), &Imagined::default(), Code::ModelMissing);
    assert!(int8.message.contains("4 GB (INT8)"), "{}", int8.message);
    // One package is known: that is the one.
    let world = Imagined { packages: vec![PACKAGE.into()], ..Imagined::with(&[PACKAGE]) };
    let (_, after) = mended(text, &world, Code::ModelMissing);
    assert_eq!(after, format!("PAPR_ENABLE_COREML=true\nPAPR_COREML_MODEL={PACKAGE}\n"));
    // The SDK has one in its cache.
    let (finding, after) = mended(text, &Imagined::with(&[CACHED]), Code::ModelMissing);
    assert!(finding.message.contains("from its cache") && !finding.message.contains("7.5"), "{}", finding.message);
    assert!(after.contains(CACHED));
    // A relative one is looked for in the folder of the file.
    let relative = "PAPR_COREML_MODEL=./coreml/Qwen3-Embedding-4B.mlpackage\n";
    let finding = find(relative, &Imagined::default(), Code::ModelMissing);
    assert!(finding.message.contains(&format!("`{PACKAGE}`")), "{}", finding.message);
    find("EMBEDBAR_MODEL=./gone.gguf\n", &Imagined::default(), Code::ModelMissing);
    is_clean("EMBEDBAR_MODEL=Qwen/Qwen3-Embedding-0.6B\n", &Imagined::default());
}

#[test]
fn no_package_named_and_none_in_the_cache() {
    let text = "PAPR_ONDEVICE_PROCESSING=true\nPAPR_ENABLE_COREML=true\n";
    let finding = find(text, &Imagined::default(), Code::ModelDownload);
    assert!(finding.line == 2 && finding.message.contains("7.5 GB"), "{finding:?}");
    is_clean(text, &Imagined::with(&[CACHED]));
    let elsewhere = "/caches/papr_memory/coreml/Qwen3-Embedding-4B-INT8.mlpackage";
    is_clean(&format!("{text}XDG_CACHE_HOME=/caches\nPAPR_COREML_VARIANT=int8\n"), &Imagined::with(&[elsewhere]));
    let world = Imagined { packages: vec![PACKAGE.into()], ..Imagined::with(&[PACKAGE]) };
    let (_, after) = mended(text, &world, Code::ModelDownload);
    assert_eq!(after, format!("{text}PAPR_COREML_MODEL={PACKAGE}\n"));
}

#[test]
fn a_relative_path_becomes_a_whole_one() {
    let text = "PAPR_COREML_MODEL=./coreml/Qwen3-Embedding-4B.mlpackage # here\n";
    let (finding, after) = mended(text, &Imagined::with(&[PACKAGE]), Code::RelativePath);
    assert!(finding.message.contains(PACKAGE), "{}", finding.message);
    assert_eq!(after, format!("PAPR_COREML_MODEL={PACKAGE} # here\n"));
    let (_, after) = mended("PAPR_CHROMADB_PATH=\"chroma db\"\n", &Imagined::default(), Code::RelativePath);
    assert_eq!(after, "PAPR_CHROMADB_PATH='/project/chroma db'\n");
    let (_, after) = mended("PAPR_LOG_FILE=logs\n", &Imagined::default(), Code::RelativePath);
    assert_eq!(after, "PAPR_LOG_FILE=/project/logs\n");
}

#[test]
fn a_tilde_is_expanded_by_nobody() {
    let (_, after) =
        mended("PAPR_COREML_MODEL=~/x.mlpackage\n", &Imagined::with(&["/people/ada/x.mlpackage"]), Code::TildePath);
    assert_eq!(after, "PAPR_COREML_MODEL=/people/ada/x.mlpackage\n");
    let nowhere = Imagined { home: None, ..Imagined::default() };
    assert_eq!(find("PAPR_CHROMADB_PATH=~/db\n", &nowhere, Code::TildePath).fix, None);
}

#[test]
fn what_nothing_reads_goes_or_gets_its_right_name() {
    let (finding, after) = mended("PAPR_ONDEVICE_ONLY=true\n", &Imagined::default(), Code::ReadByNothing);
    assert!(finding.message.contains("Nothing reads `PAPR_ONDEVICE_ONLY`"), "{}", finding.message);
    assert_eq!(after, "# PAPR_ONDEVICE_ONLY=true\n");
    let (finding, after) = mended("HUGGINGFACE_HUB_TOKEN=hf_abc\n", &Imagined::default(), Code::ReadByNothing);
    assert!(!finding.message.contains("hf_abc"), "{}", finding.message);
    assert_eq!(after, "HF_TOKEN=hf_abc\n");
    let (_, after) = mended("HF_TOKEN=a\nHUGGINGFACE_HUB_TOKEN=b\n", &Imagined::default(), Code::ReadByNothing);
    assert_eq!(after, "HF_TOKEN=a\n# HUGGINGFACE_HUB_TOKEN=b\n");
    let (_, after) = mended("PAPR_API_KEY=b\n", &Imagined::default(), Code::ReadByNothing);
    assert_eq!(after, "PAPR_MEMORY_API_KEY=b\n");
    // Found by a property: renaming only the last one brings the one before into effect.
    let (_, after) = mended("PAPR_API_KEY=a\nPAPR_API_KEY=b\n", &Imagined::default(), Code::ReadByNothing);
    assert_eq!(after, "PAPR_MEMORY_API_KEY=a\nPAPR_MEMORY_API_KEY=b\n");
}

#[test]
fn a_name_with_a_typo_is_asked_about() {
    for wrong in ["PAPR_ENABLE_CORML", "PAPR_ENABEL_COREML", "papr_enable_coreml"] {
        let (finding, after) = mended(&format!("{wrong}=false\n"), &Imagined::default(), Code::UnknownName);
        assert!(finding.message.contains("`PAPR_ENABLE_COREML`"), "{}", finding.message);
        assert!(finding.fix.is_some_and(|fix| fix.on_request), "a guess is not made by itself");
        assert_eq!(after, "PAPR_ENABLE_COREML=false\n");
    }
    assert_eq!(find("PAPR_SOMETHING_ELSE=1\n", &Imagined::default(), Code::UnknownName).fix, None);
    mended("EMBEDBAR_HOME=/x\n", &Imagined::default(), Code::UnknownName);
    is_clean("HF_TOKENS=1\nOPENAI_API_KEY=sk\nDATABASE=x\n", &Imagined::default());
}

#[test]
fn a_non_number_crashes_the_sdk_or_is_not_heard() {
    for value in ["5m", "", "3.5", "1e3"] {
        let (finding, after) = mended(&format!("PAPR_SYNC_INTERVAL={value}\n"), &Imagined::default(), Code::CrashesSdk);
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.message.contains("importing the SDK ends with a ValueError"), "{}", finding.message);
        assert_eq!(after, "PAPR_SYNC_INTERVAL=300\n");
    }
    for value in ["300", " 300", "1_000", "-1"] {
        let findings = all(&format!("PAPR_SYNC_INTERVAL={value}\n"), &Imagined::default());
        assert!(findings.iter().all(|it| it.code != Code::CrashesSdk), "{value}: {findings:?}");
    }
    let (_, after) = mended("PAPR_MAX_TIER0=many\n", &Imagined::default(), Code::NotANumber);
    assert_eq!(after, "# PAPR_MAX_TIER0=many\n");
    mended("EMBEDBAR_IDLE_MINUTES=-5\n", &Imagined::default(), Code::NotANumber);
    mended("PAPR_ONDEVICE_SIMILARITY_THRESHOLD=high\n", &Imagined::default(), Code::CrashesSdk);
}

#[test]
fn a_word_that_is_not_known() {
    let (finding, after) = mended("PAPR_COREML_VARIANT=4bit\n", &Imagined::default(), Code::NotAChoice);
    assert!(finding.message.contains("the SDK takes `fp16`"), "{}", finding.message);
    assert_eq!(after, "PAPR_COREML_VARIANT=fp16\n");
    mended("EMBEDBAR_PRECISION=int4\n", &Imagined::default(), Code::NotAChoice);
    is_clean("PAPR_COREML_VARIANT=INT8\nEMBEDBAR_PRECISION=4BIT\n", &Imagined::default());
    let finding = find("PAPR_COREML_COMPUTE_UNITS=all\n", &Imagined::default(), Code::NotAChoice);
    assert!(finding.message.contains("CPU_AND_NE"), "case counts: {}", finding.message);
    let finding = find("PAPR_ENABLE_COREML=enabled\n", &Imagined::default(), Code::NotAFlag);
    assert!(finding.message.contains("counts as false"), "{}", finding.message);
    let (_, after) = mended("PAPR_ENABLE_METRICS='false '\n", &Imagined::default(), Code::NotAFlag);
    assert_eq!(after, "PAPR_ENABLE_METRICS='false'\n");
    let finding = find("TOKENIZERS_PARALLELISM=none\n", &Imagined::default(), Code::NotAFlag);
    assert!(finding.message.contains("counts as true"), "{}", finding.message);
    let finding = find("EMBEDBAR_PIN=maybe\n", &Imagined::default(), Code::NotAFlag);
    assert!(finding.message.contains("counts as if it were not written"), "{}", finding.message);
}

#[test]
fn secrets_in_a_file_that_others_can_read() {
    let text = "A=b\nPAPR_MEMORY_API_KEY=hunter2\nHF_TOKEN=hunter3\n";
    for (mode, private) in [(0o644, 0o600), (0o640, 0o600), (0o604, 0o600), (0o755, 0o700), (0o444, 0o400)] {
        let world = Imagined { mode: Some(mode), ..Imagined::default() };
        let finding = find(text, &world, Code::ReadableByOthers);
        assert_eq!(finding.line, 2);
        assert!(
            finding.message.contains(&format!("{mode:03o}")) && finding.message.contains("1 more"),
            "{}",
            finding.message
        );
        let fix = finding.fix.expect("the mode can be set");
        assert_eq!((fix.mode, fix.edits.len()), (Some(private), 0));
        let fixed = fix_all(&Document::parse(text), &world, Severity::Error);
        assert_eq!(fixed.mode, Some(private));
        assert_eq!(fixed.document.bytes(), text.as_bytes());
        is_clean("A=b\nHF_TOKEN=\n", &world);
    }
    is_clean(text, &Imagined::default());
    is_clean(text, &Imagined { mode: None, ..Imagined::default() });
}

#[test]
fn no_finding_shows_a_secret() {
    let text = "PAPR_MEMORY_API_KEY=hunter2 x#y$z\nexport HF_TOKEN = \"hunter2\"\nHUGGINGFACE_HUB_TOKEN=hunter2\n\
                PAPR_MEMORY_API_KEY='hunter2\nDB_PASSWORD=~hunter2;\n";
    let findings = all(text, &Imagined { mode: Some(0o644), ..Imagined::default() });
    assert!(findings.len() > 6, "{findings:#?}");
    let dump = format!("{findings:?}{}", serde_json::to_string(&findings).expect("it is plain data"));
    assert!(!dump.contains("hunter2"), "{dump}");
}

#[test]
fn of_duplicates_the_earlier_ones_go() {
    let (finding, after) = mended("A=1\nB=2\nexport A=3\n", &Imagined::default(), Code::Duplicate);
    assert_eq!(finding.line, 1);
    assert!(finding.message.contains("line 3"), "{}", finding.message);
    assert_eq!(after, "# A=1\nB=2\nexport A=3\n");
}

#[test]
fn lines_that_python_dotenv_skips_or_that_set_nothing() {
    for text in ["A B\n", "=b\n", "A='b' c\n", "  A=\"b\n"] {
        let (_, after) = mended(text, &Imagined::default(), Code::Unparsed);
        assert_eq!(after.trim_start(), format!("# {}", text.trim_start()));
    }
    let (_, after) = mended("A\n", &Imagined::default(), Code::SetsNothing);
    assert_eq!(after, "# A\n");
    assert_eq!(find("A=1\nA\n", &Imagined::default(), Code::SetsNothing).fix, None, "A=1 would come into effect");
}

#[test]
fn lines_that_other_parsers_read_differently() {
    let world = Imagined::default();
    let (finding, after) = mended("export A=b\n", &world, Code::ExportPrefix);
    assert_eq!(after, "A=b\n");
    assert!(finding.fix.is_some_and(|fix| fix.on_request), "`source .env` would no longer pass it on");
    for (before, code, after) in [
        ("A=\"b\"\n", Code::QuotedValue, "A=b\n"),
        ("A='b'#c\n", Code::QuotedValue, "A=b #c\n"),
        ("A=\"b\\d\"\n", Code::QuotedValue, "A='b\\d'\n"),
        ("A=b#c\n", Code::HashInValue, "A='b#c'\n"),
        ("X=y\nA=b # c\n", Code::HashInValue, "X=y\n# c\nA=b\n"),
        ("A= # c\r\n", Code::HashInValue, "# c\r\nA=\r\n"),
        ("A='b c' # d", Code::HashInValue, "# d\nA='b c'"),
        ("A=a$b\n", Code::DollarInValue, "A='a$b'\n"),
        ("A=\"a$b\"\n", Code::DollarInValue, "A='a$b'\n"),
        ("A = b\n", Code::ShellSpecial, "A=b\n"),
        ("A=b c\n", Code::ShellSpecial, "A='b c'\n"),
        ("A=b;c&d\n", Code::ShellSpecial, "A='b;c&d'\n"),
        ("A=C:\\x\n", Code::ShellSpecial, "A='C:\\x'\n"),
        ("A=\"`b`\"\n", Code::ShellSpecial, "A='`b`'\n"),
        ("\u{feff}A=b\n", Code::ByteOrderMark, "A=b\n"),
    ] {
        let (finding, made) = mended(before, &world, code);
        assert_eq!(made, after, "{before:?}");
        assert_eq!(finding.severity, Severity::Note);
    }
    for text in ["A=${B}\n", "A='${B:-c}'\n", "A=\"x${B}\"\n"] {
        assert_eq!(find(text, &world, Code::DollarInValue).fix, None, "{text:?}");
    }
    for text in ["A='b c'\n", "A='b#c'\n", "A='$b'\n", "A=\"\"\n", "A=b\n", "# A = \"b\" # c\n", "A=${\n"] {
        if text.contains("${") {
            find(text, &world, Code::DollarInValue);
        } else {
            is_clean(text, &world);
        }
    }
}

#[test]
fn what_stops_python_altogether() {
    let not_utf8 = lint(&Document::parse(&b"A=b\n# caf\xe9\n"[..]), &Imagined::default());
    assert_eq!((not_utf8[0].code, not_utf8[0].line), (Code::NotUtf8, 2));
    assert!(not_utf8[0].message.contains("UnicodeDecodeError"));
    let null = lint(&Document::parse("A=b\nC=\0\n"), &Imagined::default());
    assert!(null.iter().any(|it| it.code == Code::NullByte && it.line == 2));
}

#[test]
fn a_variable_of_the_unreleased_branch_and_a_backend_without_effect() {
    find("PAPR_MAX_TIER1=5\n", &Imagined::default(), Code::UnreleasedOnly);
    let (finding, after) = mended("PAPR_ENABLE_COREML=true", &Imagined::with(&[CACHED]), Code::OnDeviceOff);
    assert!(finding.fix.is_some_and(|fix| fix.on_request));
    assert_eq!(after, "PAPR_ENABLE_COREML=true\nPAPR_ONDEVICE_PROCESSING=true");
}

#[test]
fn the_seed_is_mended_as_it_says_itself() {
    let text = "# Current (has conflicts)\nPAPR_ENABLE_COREML=true\nPAPR_ENABLE_MLX=true  # ❌ Conflicts with Core ML\n\
                PAPR_COREML_MODEL=./coreml/Qwen3-Embedding-4B.mlpackage\n";
    let fixed = fix_all(&Document::parse(text), &Imagined::with(&[PACKAGE]), Severity::Warning);
    let expected = text.replace("PAPR_ENABLE_MLX", "# PAPR_ENABLE_MLX").replace("./coreml", "/project/coreml");
    assert_eq!(String::from_utf8_lossy(fixed.document.bytes()), expected);
}

#[test]
fn names_of_codes_are_those_on_the_wire() {
    for code in [Code::CoremlAndMlx, Code::NotUtf8, Code::CrashesSdk, Code::ReadableByOthers, Code::OnDeviceOff] {
        assert_eq!(serde_json::to_string(&code).expect("it is plain data"), format!("\"{code}\""));
    }
}

/// Lines that are made to keep a lint busy: it must come to an end, which a square of their number would not.
#[test]
fn a_hostile_file_as_large_as_may_be_is_looked_through() {
    for line in ["A=\n", "export A = \"b\" # c\n", "PAPR_X=#\n", "A B\n", "''=\\\n", "A='\n", "B=\"\\\"\n"] {
        let text = line.repeat(262_144 / line.len());
        let findings = all(&text, &Imagined::default());
        assert!(!findings.is_empty(), "{line:?}");
    }
}
