//! Edits on bytes and writes on a real disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use embedbar_settings::{Document, Edit, EnvFile, SettingsError, Written, apply, changed_lines, comment_out, set};

fn after_set(before: &str, name: &str, value: &str) -> String {
    let document = Document::parse(before);
    let edits = set(&document, name, value).expect("it can be written");
    String::from_utf8(apply(document.bytes(), &edits).expect("the edits fit")).expect("it was text")
}

#[test]
fn a_variable_is_set_where_it_is_and_nothing_else_moves() {
    for (before, after) in [
        ("A=1\n", "A=2\n"),
        ("# c\nA=1 # d\nB=3\n", "# c\nA=2 # d\nB=3\n"),
        ("A=0\nA=1\n", "A=0\nA=2\n"),
        ("export A = '1'#x\r\nB=3\r\n", "export A = '2'#x\r\nB=3\r\n"),
        ("A=\"1\"", "A=\"2\""),
        ("A=", "A=2"),
        ("A= # d\n", "A=2 # d\n"),
        ("A\nB=3\n", "A=2\nB=3\n"),
        ("A # d\n", "A=2 # d\n"),
        ("", "A=2\n"),
        ("B=3\n", "B=3\nA=2\n"),
        ("B=3", "B=3\nA=2"),
        ("B=3\r\n", "B=3\r\nA=2\r\n"),
        ("\u{feff}", "\u{feff}A=2\n"),
        ("\u{feff}A=1\n", "\u{feff}A=2\n"),
        ("# A=1\n", "# A=1\nA=2\n"),
        ("A='1\n2'\nB=3\n", "A='2'\nB=3\n"),
        ("A=2 # as it was\n", "A=2 # as it was\n"),
    ] {
        assert_eq!(after_set(before, "A", "2"), after, "{before:?}");
    }
}

#[test]
fn every_value_is_read_back_as_it_was_written() {
    for value in [
        "",
        " ",
        "a b",
        "it's",
        "say \"x\"",
        "a#b",
        " # c",
        "$A",
        "$(a)",
        "a\nb",
        "a\r\nb",
        "\\",
        "a\\",
        "\\\\'",
        "\\'\"",
        "~/x",
        "ü你",
        "a\tb",
        "'",
        "\"",
        "''",
        "\u{85}a\u{85}",
        "`x`",
        "a=b",
    ] {
        for before in ["", "A=1\n", "A='1'\n", "A=\"1\" # c\n", "A= # c\n", "A='1'#c\n", "A"] {
            let after = after_set(before, "A", value);
            let document = Document::parse(after.clone());
            let written = Written::of(&document);
            assert_eq!(written.get("A").map(|entry| entry.text.as_str()), Some(value), "{before:?} became {after:?}");
            let (_, binding) = document.binding("A").expect("it was set");
            assert_eq!(binding.comment.is_some(), before.contains('#'), "{before:?} became {after:?}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    for (before, name, value) in [
        ("", "A", "${B}"),
        ("", "A", "a\0b"),
        ("", "A B", "c"),
        ("", "1A", "c"),
        ("", "", "c"),
        // The open quote would end in the new value.
        ("B=\"x\n", "A", "it's \"y\""),
    ] {
        let error = set(&Document::parse(before), name, value).expect_err("it would not be read back");
        assert!(matches!(error, SettingsError::CannotBeWritten { .. }), "{error}");
    }
}

#[test]
fn commenting_out_takes_every_line_of_it() {
    let before = "\u{feff}A=1\n  export A='2\n3' # c\nB=\"A=4\"\n# A=5\nA\r\n";
    let document = Document::parse(before);
    let after = apply(document.bytes(), &comment_out(&document, "A")).expect("the edits fit");
    let expected = "\u{feff}# A=1\n  # export A='2\n# 3' # c\nB=\"A=4\"\n# A=5\n# A\r\n";
    assert_eq!(String::from_utf8_lossy(&after), expected);
    assert_eq!(Written::of(&Document::parse(after)).iter().count(), 1);
    assert!(comment_out(&document, "C").is_empty());
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    let edit = |start, end| Edit { span: start..end, replacement: "x".to_owned() };
    for edits in [vec![edit(0, 9)], vec![edit(2, 1)], vec![edit(0, 2), edit(1, 3)], vec![edit(1, 1), edit(1, 1)]] {
        let error = apply(b"12345678", &edits).expect_err("they do not fit");
        assert!(matches!(error, SettingsError::EditsDoNotFit { .. }), "{error}");
    }
    assert_eq!(apply(b"12345678", &[edit(6, 8), edit(0, 0), edit(2, 3)]).expect("they fit"), b"x12x456x");
}

#[test]
fn what_changes_is_shown_line_by_line_and_secrets_are_not() {
    let before = Document::parse("A=1\nHF_TOKEN=hunter1\n# HF_TOKEN=hunter0\nB=2\nC=3\n");
    let after = Document::parse("A=1\nHF_TOKEN=hunter2\n# HF_TOKEN=hunter0\n# new\nB=4\nD=5\n");
    let changes = changed_lines(&before, &after);
    let lines: Vec<_> = changes.iter().map(|it| (it.number, it.before.as_deref(), it.after.as_deref())).collect();
    assert_eq!(lines[0], (2, Some("HF_TOKEN=(secret)"), Some("HF_TOKEN=(secret)")));
    assert!(
        lines.iter().any(|line| line.2 == Some("# new")) && lines.iter().any(|line| line.2 == Some("D=5")),
        "{lines:?}"
    );
    let all = changed_lines(&Document::parse(""), &after);
    assert!(!format!("{changes:?}{all:?}").contains("hunter"));
    assert!(changed_lines(&before, &before.clone()).is_empty());
    let removed = changed_lines(&Document::parse("A=1\nB=2\nC=3\n"), &Document::parse("A=1\nC=3\n"));
    assert_eq!(removed.len(), 1);
    assert_eq!((removed[0].number, removed[0].before.as_deref()), (2, Some("B=2")));
}

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn with(text: &str, mode: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".env");
        fs::write(&path, text).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        Self { folder }
    }

    fn env(&self) -> PathBuf {
        self.folder.path().join(".env")
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("it is there")
}

#[test]
fn a_write_keeps_the_mode_and_leaves_nothing_beside() {
    for mode in [0o644, 0o600, 0o640, 0o444, 0o755] {
        let project = Project::with("A=1\n", mode);
        let file = EnvFile::read(project.env()).expect("it is there");
        let written = file.write(b"A=2\n", None).expect("it can be written");
        assert_eq!(text(&project.env()), "A=2\n");
        assert_eq!(written.document().bytes(), b"A=2\n");
        assert_eq!(fs::metadata(project.env()).expect("it is there").mode() & 0o7777, mode);
        assert_eq!(fs::read_dir(project.folder.path()).expect("it is there").count(), 1);
        let private = written.write(b"A=3\n", Some(0o600)).expect("it can be written");
        assert_eq!(private.mode(), 0o600);
    }
}

#[test]
fn a_link_stays_a_link_and_its_target_is_written() {
    let project = Project::with("A=1\n", 0o640);
    let (middle, link) = (project.folder.path().join("middle"), project.folder.path().join("link.env"));
    symlink(".env", &middle).expect("it can be made");
    symlink(&middle, &link).expect("it can be made");
    let file = EnvFile::read(&link).expect("it is there");
    file.write(b"A=2\n", None).expect("it can be written");
    assert_eq!(text(&project.env()), "A=2\n");
    assert_eq!(fs::read_link(&link).expect("still a link"), middle);
    assert_eq!(fs::read_link(&middle).expect("still a link"), Path::new(".env"));
    assert_eq!(fs::symlink_metadata(project.env()).expect("it is there").mode() & 0o777, 0o640);
}

#[test]
fn a_file_that_has_changed_since_is_not_written() {
    let project = Project::with("A=1\n", 0o600);
    let file = EnvFile::read(project.env()).expect("it is there");
    fs::write(project.env(), "A=5\n").expect("it can be written");
    let error = file.write(b"A=2\n", None).expect_err("it has changed");
    assert!(matches!(error, SettingsError::Changed { .. }), "{error}");
    assert_eq!(text(&project.env()), "A=5\n");
    // The same content again is what was read.
    fs::write(project.env(), "A=1\n").expect("it can be written");
    let file = file.write(b"A=2\n", None).expect("it is what was read");
    fs::remove_file(project.env()).expect("it is there");
    let error = file.write(b"A=3\n", None).expect_err("it is gone");
    assert!(matches!(error, SettingsError::Changed { .. }), "{error}");
    assert!(!project.env().exists());
    assert_eq!(fs::read_dir(project.folder.path()).expect("it is there").count(), 0);
}

#[test]
fn a_link_that_was_pointed_elsewhere_is_not_written() {
    let project = Project::with("A=1\n", 0o600);
    let (other, link) = (project.folder.path().join("other"), project.folder.path().join("link"));
    fs::write(&other, "A=1\n").expect("it can be written");
    symlink(project.env(), &link).expect("it can be made");
    let file = EnvFile::read(&link).expect("it is there");
    fs::remove_file(&link).expect("it is there");
    symlink(&other, &link).expect("it can be made");
    let error = file.write(b"A=2\n", None).expect_err("it is another file");
    assert!(matches!(error, SettingsError::Changed { .. }), "{error}");
    assert_eq!((text(&project.env()).as_str(), text(&other).as_str()), ("A=1\n", "A=1\n"));
}

#[test]
fn what_is_no_small_file_is_not_read() {
    let project = Project::with("A=1\n", 0o600);
    let large = project.folder.path().join("large");
    fs::write(&large, vec![b'#'; 300_000]).expect("it can be written");
    assert!(matches!(EnvFile::read(&large), Err(SettingsError::TooLarge { bytes: 300_000, .. })));
    assert!(matches!(EnvFile::read(project.folder.path()), Err(SettingsError::NotAFile { .. })));
    assert!(matches!(EnvFile::read("/dev/zero"), Err(SettingsError::NotAFile { .. })));
    assert!(matches!(EnvFile::read(project.folder.path().join("gone")), Err(SettingsError::Io { .. })));
    let pipe = project.folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is everywhere");
    assert!(made.success());
    assert!(matches!(EnvFile::read(&pipe), Err(SettingsError::NotAFile { .. })), "it must not wait for a writer");
}

#[test]
fn a_dump_of_a_file_shows_no_secret() {
    let project = Project::with("HF_TOKEN=hunter2\n", 0o600);
    let file = EnvFile::read(project.env()).expect("it is there");
    let edits = set(file.document(), "HF_TOKEN", "hunter3").expect("it can be written");
    let dump = format!("{file:?}{edits:?}");
    assert!(!dump.contains("hunter"), "{dump}");
}
