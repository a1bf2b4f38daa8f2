//! What holds for any bytes.

use std::collections::BTreeSet;
use std::path::Path;

use embedbar_settings::{
    Code, Document, Edit, Layers, Severity, Written, apply, comment_out, fix_all, lint, resolve, set, variables,
};
use proptest::prelude::*;

use crate::world::Imagined;

/// Files that look like real ones and go wrong in every way, and bytes without any sense.
fn files() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<String> = variables::VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
    let name = prop_oneof![
        6 => proptest::sample::select(names),
        1 => proptest::sample::select(vec!["PAPR_ENABLE_CORML", "EMBEDBAR_HOME", "A", "DB_URL", "'A B'", "A-B", ""])
            .prop_map(str::to_owned),
    ];
    let value = proptest::sample::select(vec![
        "true",
        "1",
        "on",
        "false",
        "",
        "yes ",
        "fp16",
        "int9",
        "4bit",
        "300",
        "5m",
        "-3",
        "./x.mlpackage",
        "~/x",
        "/x y",
        "a#b",
        "a$b",
        "${A}",
        "it's",
        "a\\b",
        "coreml",
        "remote",
        "https://h/v1",
        "ü",
        "`x`",
        "a\"b",
    ]);
    let wrap = proptest::sample::select(vec![
        "V", "V", "V", "'V'", "\"V\"", " V", "V # c", "V#c", "'V", "\"V", "'V' x", "'a\nV'",
    ]);
    let start = proptest::sample::select(vec!["", "", "", "export ", "  ", "# ", "\t"]);
    let equals = proptest::sample::select(vec!["=", "=", "=", " = ", "", "==", "= "]);
    let newline = proptest::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r", "\n\n", ""]);
    let line = (start, name, equals, value, wrap, newline).prop_map(|(start, name, equals, value, wrap, newline)| {
        format!("{start}{name}{equals}{}{newline}", wrap.replace('V', value)).into_bytes()
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..12);
    let part = prop_oneof![12 => line, 1 => noise, 1 => Just(b"\xef\xbb\xbf".to_vec())];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn worlds() -> impl Strategy<Value = Imagined> {
    let packages =
        proptest::sample::select(vec![vec![], vec!["/p/x.mlpackage"], vec!["/p/x.mlpackage", "/p/y.mlpackage"]]);
    let mode = proptest::sample::select(vec![None, Some(0o600), Some(0o644), Some(0o777)]);
    (packages, mode, any::<bool>()).prop_map(|(packages, mode, home)| {
        let mut world = Imagined::with(&packages);
        world.packages.clone_from(&world.there);
        world.mode = mode;
        if !home {
            world.home = None;
        }
        world
    })
}

/// What a file says, by name.
fn said(document: &Document) -> Vec<(String, String)> {
    Written::of(document).iter().map(|(name, entry)| (name.to_owned(), entry.text.clone())).collect()
}

/// Whether `after` is `before` with nothing but the edits changed.
fn only_spans_differ(before: &[u8], after: &[u8], edits: &[Edit]) -> bool {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let (mut at, mut rest) = (0, after);
    for edit in edits {
        let kept = &before[at..edit.span.start];
        let Some(next) = rest.strip_prefix(kept).and_then(|it| it.strip_prefix(edit.replacement.as_bytes())) else {
            return false;
        };
        (at, rest) = (edit.span.end, next);
    }
    rest == &before[at..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn the_lines_of_any_bytes_are_the_bytes(bytes in prop_oneof![files(), proptest::collection::vec(any::<u8>(), 0..300)]) {
        let document = Document::parse(bytes.clone());
        let lines: Vec<u8> = document.lines().iter().flat_map(|line| bytes[line.span.clone()].to_vec()).collect();
        prop_assert_eq!(lines, bytes);
    }

    #[test]
    fn setting_a_variable_changes_it_and_nothing_else(
        bytes in files(),
        name in proptest::sample::select(vec!["A", "PAPR_ENABLE_COREML", "NEW"]),
        value in prop_oneof![
            "[ -~]{0,12}",
            any::<String>(),
            proptest::sample::select(vec!["a b", "it's \"x\"", "\\", "#", " ", "\n", "~"]).prop_map(str::to_owned),
        ],
    ) {
        let document = Document::parse(bytes.clone());
        if let Ok(edits) = set(&document, name, &value) {
            let after = apply(&bytes, &edits).expect("the edits fit");
            prop_assert!(only_spans_differ(&bytes, &after, &edits));
            let mut expected: std::collections::BTreeMap<_, _> = said(&document).into_iter().collect();
            expected.insert(name.to_owned(), value);
            prop_assert_eq!(said(&Document::parse(after)), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn commenting_out_removes_a_variable_and_nothing_else(bytes in files()) {
        let document = Document::parse(bytes.clone());
        let names: BTreeSet<String> = document.bindings().map(|(_, binding)| binding.name.clone()).collect();
        for name in names {
            let edits = comment_out(&document, &name);
            let after = apply(&bytes, &edits).expect("the edits fit");
            prop_assert!(only_spans_differ(&bytes, &after, &edits));
            let mut expected = said(&document);
            expected.retain(|(it, _)| *it != name);
            prop_assert_eq!(said(&Document::parse(after)), expected);
        }
    }

    #[test]
    fn each_mend_removes_its_finding_and_touches_only_its_spans(bytes in files(), world in worlds()) {
        let document = Document::parse(bytes.clone());
        for finding in lint(&document, &world) {
            let Some(fix) = finding.fix else { continue };
            let after = apply(&bytes, &fix.edits).expect("the edits fit");
            prop_assert!(only_spans_differ(&bytes, &after, &fix.edits));
            let count = |document: &Document| {
                lint(document, &world).iter().filter(|it| it.code == finding.code && it.fix.is_some()).count()
            };
            if fix.mode.is_none() {
                let (before, now) = (count(&document), count(&Document::parse(after)));
                prop_assert!(now < before, "{}: {before} then {now}: {}", finding.code, finding.message);
            }
        }
    }

    #[test]
    fn mending_everything_leaves_nothing_to_mend_and_is_done_then(bytes in files(), world in worlds()) {
        let document = Document::parse(bytes);
        for least in [Severity::Note, Severity::Warning, Severity::Error] {
            let fixed = fix_all(&document, &world, least);
            let left: Vec<Code> = lint(&fixed.document, &world)
                .into_iter()
                .filter(|it| it.severity >= least && it.fix.as_ref().is_some_and(|fix| !fix.on_request && fix.mode.is_none()))
                .map(|it| it.code)
                .collect();
            prop_assert!(left.is_empty(), "{left:?} in {:?}", String::from_utf8_lossy(fixed.document.bytes()));
            let again = fix_all(&fixed.document, &world, least);
            prop_assert_eq!(again.document.bytes(), fixed.document.bytes());
        }
    }

    #[test]
    fn mending_how_it_is_written_changes_nothing_that_it_says(bytes in files(), world in worlds()) {
        let document = Document::parse(bytes.clone());
        for finding in lint(&document, &world) {
            let how = matches!(
                finding.code,
                Code::ExportPrefix | Code::QuotedValue | Code::HashInValue | Code::DollarInValue | Code::ShellSpecial
                    | Code::ByteOrderMark | Code::Duplicate | Code::Unparsed
            );
            if let (true, Some(fix)) = (how, finding.fix) {
                let after = Document::parse(apply(&bytes, &fix.edits).expect("the edits fit"));
                prop_assert_eq!(said(&after), said(&document), "{}: {}", finding.code, finding.message);
            }
        }
    }

    #[test]
    fn resolving_takes_anything(one in files(), other in files(), third in files()) {
        let [overrides, file, app] = [one, other, third].map(|bytes| Written::of(&Document::parse(bytes)));
        let layers = Layers { overrides: &overrides, file: &file, app: &app, folder: Path::new("/project") };
        let settings = resolve(layers);
        prop_assert_eq!(&settings, &resolve(layers), "the same again");
        serde_json::to_string(&settings).expect("it is plain data");
    }
}
