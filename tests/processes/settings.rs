//! `embedbar env`, `plan`, `latency` and `doctor`, as a script uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use embedbar_tests::program::TestHome;
use serde_json::Value;

/// What the seed's users have, with everything wrong that can be.
const FILE: &str = "# Papr\r\nPAPR_MEMORY_API_KEY=pk_live_abcdef123456\r\nPAPR_ONDEVICE_PROCESSING=true\r\n\
    PAPR_ENABLE_COREML=1\r\nPAPR_ENABLE_MLX=true\r\nPAPR_COREML_MODEL=./coreml/x.mlpackage\r\nPAPR_SYNC_INTERVAL=5m\r\n\
    PAPR_ONDEVICE_ONLY=true\r\nHUGGINGFACE_HUB_TOKEN=hf_secretsecret\r\nPAPR_MAX_TIER0=30\r\nPAPR_MAX_TIER0=300";

/// The same, mended by hand.
const MENDED: &str = "# Papr\r\nPAPR_MEMORY_API_KEY=pk_live_abcdef123456\r\nPAPR_ONDEVICE_PROCESSING=true\r\n\
    PAPR_ENABLE_COREML=true\r\n# PAPR_ENABLE_MLX=true\r\nPAPR_COREML_MODEL=./coreml/x.mlpackage\r\nPAPR_SYNC_INTERVAL=300\r\n\
    # PAPR_ONDEVICE_ONLY=true\r\nHF_TOKEN=hf_secretsecret\r\n# PAPR_MAX_TIER0=30\r\nPAPR_MAX_TIER0=300";

#[test]
fn an_env_file_is_checked_and_mended_and_its_secrets_are_never_shown() {
    let home = TestHome::new();
    let folder = home.scratch();
    let file = folder.join(".env");
    fs::write(&file, FILE).expect("it can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let path = file.to_str().expect("UTF-8");

    let output = home.run(&["--json", "env", "lint", "--file", path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let findings: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: Vec<(&str, u64)> = findings
        .iter()
        .map(|finding| (finding["code"].as_str().expect("a code"), finding["line"].as_u64().expect("a line")))
        .collect();
    for wanted in [
        ("readable_by_others", 2),
        ("true_only", 4),
        ("coreml_and_mlx", 5),
        ("model_missing", 6),
        ("crashes_sdk", 7),
        ("read_by_nothing", 8),
        ("read_by_nothing", 9),
        ("duplicate", 10),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} is not among {found:?}");
    }
    let mut shown = text;
    for arguments in [["env", "show", "--file", path], ["env", "lint", "--file", path]] {
        let output = home.run(&arguments);
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
        shown.push_str(&String::from_utf8_lossy(&output.stderr));
    }

    let dry = home.run(&["env", "fix", "--dry-run", "--file", path]);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), FILE, "a dry run changes nothing");
    shown.push_str(&String::from_utf8_lossy(&dry.stdout));
    let fixed = home.run(&["env", "fix", "--file", path]);
    assert!(fixed.status.success());
    shown.push_str(&String::from_utf8_lossy(&fixed.stdout));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), MENDED);
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    let again = &home.json(&["env", "fix", "--file", path])[0];
    assert_eq!(again["changed"], false, "{again}");
    for secret in ["pk_live_abcdef123456", "hf_secretsecret"] {
        assert!(!shown.contains(secret), "a secret was shown");
    }
}

#[test]
fn a_plan_says_for_each_candidate_whether_it_fits() {
    let home = TestHome::new();
    let described = ["plan", "--model", "Qwen3-Embedding-4B", "--machine", "mac", "--ram", "16GB", "--used", "11GB"];
    let plan = &home.json(&described)[0];
    assert_eq!(plan["choice"]["precision"], "4bit");
    assert_eq!(plan["choice"]["backend"], "cpu");
    let candidates = plan["candidates"].as_array().expect("a list");
    assert!(candidates.iter().all(|candidate| candidate["reason"].as_str().is_some_and(|reason| !reason.is_empty())));
    let chosen = candidates.iter().find(|it| it["precision"] == "4bit" && it["fits"] == true).expect("the choice");
    // 5 GB are free; 8 % of 16 GB stay free.
    assert!(chosen["needs_bytes"].as_u64().expect("bytes") < 5 << 30);
    assert_eq!(plan["reserve_bytes"], (16_u64 << 30) * 8 / 100);

    let nothing = ["plan", "--model", "Qwen3-Embedding-8B", "--machine", "mac", "--ram", "8GB"];
    let plan = &home.json(&nothing)[0];
    assert!(plan["choice"]["precision"].is_null() && plan["choice"]["reason"].is_string(), "{}", plan["choice"]);

    // This machine: the bundled model is there.
    let plan = &home.json(&["plan"])[0];
    assert_eq!((&plan["choice"]["model"], &plan["choice"]["precision"]), (&"all-MiniLM-L6-v2".into(), &"int8".into()));
    assert!(home.failure(&["plan", "--model", "nobody/knows"]).contains("Qwen3-Embedding-0.6B"));
}

#[test]
fn latency_tells_a_cold_query_from_warm_ones_and_says_what_answered() {
    let home = TestHome::new();
    let alone = &home.json(&["latency", "--queries", "3"])[0];
    assert_eq!((&alone["first_was_cold"], &alone["queries"]), (&true.into(), &3.into()));
    assert_eq!(alone["generation"]["model"], "all-MiniLM-L6-v2");
    let total = |cost: &Value| cost["total"].as_f64().expect("milliseconds");
    assert!(total(&alone["first"]) > total(&alone["warm_p50"]), "loading takes time: {alone}");
    assert!(total(&alone["warm_p95"]) >= total(&alone["warm_p50"]));

    let _server = home.serve();
    home.json(&["embed", "now it is loaded"]);
    assert_eq!(home.json(&["latency", "--queries", "1"])[0]["first_was_cold"], false);
    let cold = home.run(&["latency", "--queries", "1", "--cold"]);
    let text = String::from_utf8(cold.stdout).expect("UTF-8");
    assert!(text.contains("the model was not loaded") && text.contains("search latency: "), "{text}");
}

#[test]
fn the_doctor_goes_through_the_seeds_checklist_with_evidence() {
    let home = TestHome::new();
    let folder = home.scratch();
    let file = folder.join(".env");
    let check = |text: &str| {
        fs::write(&file, text).expect("it can be written");
        let output = home.run(&["--json", "doctor", "--checklist", "--file", file.to_str().expect("UTF-8")]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let points: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(points.len(), 7);
        assert!(points.iter().all(|point| point["evidence"].as_str().is_some_and(|evidence| !evidence.is_empty())));
        let outcomes: Vec<String> =
            points.iter().map(|point| point["outcome"].as_str().expect("an outcome").to_owned()).collect();
        assert_eq!(output.status.success(), !outcomes.iter().any(|outcome| outcome == "fail"), "{outcomes:?}");
        (outcomes, text)
    };
    let (outcomes, text) =
        check("PAPR_ONDEVICE_PROCESSING=true\nPAPR_ENABLE_COREML=true\nTOKENIZERS_PARALLELISM=false\n");
    // The third is about this machine's memory, which a test does not command.
    assert_eq!(outcomes[..2], ["pass", "pass"]);
    assert_eq!(outcomes[3..], ["not_applicable", "pass", "pass", "not_applicable"]);
    assert!(text.contains("Skipping ST preload: Core ML is enabled (faster, less memory)"), "{text}");
    let (outcomes, _) = check(
        "PAPR_ONDEVICE_PROCESSING=true\nPAPR_ENABLE_COREML=1\nPAPR_ENABLE_MLX=1\nPAPR_COREML_MODEL=no.mlpackage\n\
         TOKENIZERS_PARALLELISM=true\n",
    );
    assert_eq!(outcomes[1], "fail");
    assert_eq!(outcomes[3..6], ["fail", "fail", "fail"]);
}
