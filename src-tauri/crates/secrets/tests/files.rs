//! The files: who may read them, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use embedbar_secrets::{Place, Secret, Secrets, SecretsError};

const NAME: &str = "hub-token";

fn secret(text: &str) -> Secret {
    Secret::new(text).expect("a secret")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o777
}

fn refused(secrets: &Secrets, why: &str) {
    let error = secrets.get(NAME).expect_err(why);
    assert!(matches!(error, SecretsError::Exposed { .. }) && error.to_string().contains(why), "{error}");
    assert!(!error.to_string().contains("hf_") && !format!("{error:?}").contains("hf_"), "{error}");
}

#[test]
fn only_its_owner_may_read_it_and_nothing_else_is_left() {
    let home = tempfile::tempdir().expect("a folder");
    let secrets = Secrets::in_files(home.path());
    assert_eq!(secrets.get(NAME).expect("nothing"), None);
    let folder = home.path().join("secrets");
    assert!(!folder.exists(), "looking makes nothing");
    let place = secrets.set(NAME, &secret("hf_one")).expect("kept");
    assert!(
        matches!(&place, Place::Files { folder: kept, .. } if *kept == folder)
            && place.to_string().contains("only you")
    );
    secrets.set(NAME, &secret("hf_two")).expect("kept");
    assert_eq!(secrets.get(NAME).expect("read"), Some(secret("hf_two")));
    assert_eq!((mode(&folder), mode(&folder.join(NAME))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1);
    secrets.remove(NAME).expect("removed");
    secrets.remove(NAME).expect("it is gone already");
    assert_eq!(secrets.get(NAME).expect("nothing"), None);
}

#[test]
fn what_others_could_have_read_or_changed_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let secrets = Secrets::in_files(home.path());
    secrets.set(NAME, &secret("hf_one")).expect("kept");
    let folder = home.path().join("secrets");
    let file = folder.join(NAME);
    let change = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    for mode in [0o644, 0o640, 0o604, 0o622] {
        change(&file, mode);
        refused(&secrets, "others may read it");
    }
    change(&file, 0o600);
    change(&folder, 0o777);
    refused(&secrets, "others may write to it");
    assert!(secrets.set(NAME, &secret("hf_two")).is_err(), "not into such a folder");
    change(&folder, 0o700);
    assert_eq!(secrets.get(NAME).expect("read"), Some(secret("hf_one")));
    let elsewhere = home.path().join("elsewhere");
    fs::rename(&file, &elsewhere).expect("moved");
    symlink(&elsewhere, &file).expect("a link");
    refused(&secrets, "it is a link");
    // Setting it again replaces the link and leaves what it led to.
    secrets.set(NAME, &secret("hf_two")).expect("kept");
    assert_eq!(secrets.get(NAME).expect("read"), Some(secret("hf_two")));
    assert_eq!(fs::read_to_string(&elsewhere).expect("read"), "hf_one");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("made");
    refused(&secrets, "it is not a file");
}

#[test]
fn names_and_contents_that_cannot_be_are_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let secrets = Secrets::in_files(home.path());
    for name in ["", "..", "a/b", "A", "a.b", &"a".repeat(65)] {
        assert!(matches!(secrets.get(name), Err(SecretsError::Name { .. })), "{name}");
        assert!(secrets.set(name, &secret("x")).is_err() && secrets.remove(name).is_err(), "{name}");
    }
    secrets.set(NAME, &secret("hf_one")).expect("kept");
    let file = home.path().join("secrets").join(NAME);
    for content in [&b""[..], b"hf_a\nhf_b", b"\xff\xfe", &[b'x'; 5000]] {
        fs::write(&file, content).expect("written");
        assert!(matches!(secrets.get(NAME), Err(SecretsError::NotASecret { .. })));
    }
}
