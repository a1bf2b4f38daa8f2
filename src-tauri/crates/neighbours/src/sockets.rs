//! Where container engines listen. What is not here: talking to them.
//!
//! bollard knows neither Docker's contexts nor the other engines of a Mac, so the places are listed here. A socket counts only if
//! it belongs to us or to the administrator: one in a shared temporary folder could be anybody's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a place in [`USUAL`] is relative to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Base {
    /// Nothing.
    Root,
    /// The home of the user.
    Home,
    /// `XDG_RUNTIME_DIR`.
    Runtime,
    /// `TMPDIR`.
    Temporary,
}

/// Where the engines listen unless told otherwise.
const USUAL: &[(Base, &str)] = &[
    (Base::Root, "/var/run/docker.sock"),               // Docker; on a Mac mostly a link
    (Base::Home, ".docker/run/docker.sock"),            // Docker Desktop, Mac
    (Base::Home, ".docker/desktop/docker.sock"),        // Docker Desktop, Linux
    (Base::Home, ".orbstack/run/docker.sock"),          // OrbStack
    (Base::Home, ".colima/default/docker.sock"),        // Colima
    (Base::Home, ".config/colima/default/docker.sock"), // Colima
    (Base::Home, ".rd/docker.sock"),                    // Rancher Desktop
    (Base::Home, ".lima/docker/sock/docker.sock"),      // Lima
    (Base::Temporary, "podman/podman-machine-default-api.sock"), // podman 5, Mac
    (Base::Home, ".local/share/containers/podman/machine/podman.sock"), // podman 4, Mac
    (Base::Home, ".local/share/containers/podman/machine/qemu/podman.sock"), // podman 4, Mac
    (Base::Runtime, "docker.sock"),                     // rootless Docker
    (Base::Runtime, "podman/podman.sock"),              // rootless podman
    (Base::Root, "/run/podman/podman.sock"),            // podman
];

/// No file of Docker's that is read here is larger.
const MOST_BYTES: u64 = 1024 * 1024;

/// The sockets that are there, each engine once, and a sentence where an engine is elsewhere.
pub(crate) fn find(home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> (Vec<PathBuf>, Option<String>) {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut wanted = Vec::new();
    let mut elsewhere = None;
    let host = variable("DOCKER_HOST").or_else(|| context(home, variable("DOCKER_CONTEXT")));
    if let Some(host) = host {
        if let Some(path) = host.trim().strip_prefix("unix://") {
            wanted.push(PathBuf::from(path));
        } else {
            let host = crate::text::shown(&host);
            elsewhere = Some(format!(
                "Docker is set to use `{host}`, which is no socket of this machine, so what runs there is not asked."
            ));
        }
    }
    for (base, place) in USUAL {
        let base = match base {
            Base::Root => Some(PathBuf::from("/")),
            Base::Home => Some(home.to_owned()),
            Base::Runtime => variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            Base::Temporary => variable("TMPDIR").map(PathBuf::from),
        };
        wanted.extend(base.map(|base| base.join(place)));
    }
    (usable(&wanted), elsewhere)
}

/// Those that are sockets of ours or of the administrator's, behind all links, so that each is there once.
///
/// The journal names the file behind the link too: a link may point to another engine by tomorrow.
fn usable(wanted: &[PathBuf]) -> Vec<PathBuf> {
    let ours = rustix::process::geteuid().as_raw();
    let mut seen = BTreeSet::new();
    let usable = wanted.iter().filter_map(|path| {
        let path = path.canonicalize().ok()?;
        let metadata = fs::metadata(&path).ok()?;
        (metadata.file_type().is_socket() && [0, ours].contains(&metadata.uid())).then_some(path)
    });
    usable.filter(|path| seen.insert(path.clone())).collect()
}

/// What the chosen context of the Docker command says.
fn context(home: &Path, chosen: Option<String>) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext")]
        current: String,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Endpoints")]
        endpoints: Endpoints,
    }
    #[derive(Deserialize)]
    struct Endpoints {
        docker: Endpoint,
    }
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "Host")]
        host: String,
    }
    let docker = home.join(".docker");
    let chosen = chosen.or_else(|| read::<Config>(&docker.join("config.json")).map(|config| config.current))?;
    let contexts = fs::read_dir(docker.join("contexts/meta")).ok()?;
    let mut metas = contexts.flatten().filter_map(|entry| read::<Meta>(&entry.path().join("meta.json")));
    metas.find(|meta| meta.name == chosen).map(|meta| meta.endpoints.docker.host)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn socket(home: &Path, place: &str) -> (UnixListener, PathBuf) {
        let path = home.join(place);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        (UnixListener::bind(&path).expect("it can listen"), path.canonicalize().expect("it is there"))
    }

    /// Without the engines of the machine that the test runs on.
    fn below(home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
        let home_itself = home.canonicalize().expect("it is there");
        find(home, variable).0.into_iter().filter(|path| path.starts_with(&home_itself)).collect()
    }

    #[test]
    fn every_engine_is_found_once_behind_links_and_nothing_else_is_taken_for_one() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (_colima, colima) = socket(home.path(), ".colima/default/docker.sock");
        let (_desktop, desktop) = socket(home.path(), ".docker/run/docker.sock");
        fs::create_dir_all(home.path().join(".rd")).expect("it can be made");
        symlink(&colima, home.path().join(".rd/docker.sock")).expect("it can be made");
        fs::create_dir_all(home.path().join(".orbstack/run")).expect("it can be made");
        fs::write(home.path().join(".orbstack/run/docker.sock"), "no socket").expect("it can be written");
        assert_eq!(below(home.path(), &|_| None), [desktop.clone(), colima.clone()]);
        let host = format!("unix://{}", colima.display());
        let named = |name: &str| (name == "DOCKER_HOST").then(|| host.clone());
        assert_eq!(below(home.path(), &named), [colima, desktop], "what the user named comes first");
    }

    #[test]
    fn the_context_that_the_docker_command_uses_is_followed() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (_own, own) = socket(home.path(), "elsewhere/engine.sock");
        for (folder, name, host) in
            [("a", "far", "ssh://far".to_owned()), ("b", "own", format!("unix://{}", own.display()))]
        {
            let folder = home.path().join(".docker/contexts/meta").join(folder);
            fs::create_dir_all(&folder).expect("it can be made");
            let meta = serde_json::json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}});
            fs::write(folder.join("meta.json"), meta.to_string()).expect("it can be written");
        }
        fs::write(home.path().join(".docker/config.json"), r#"{"currentContext": "own"}"#).expect("it can be written");
        assert_eq!(below(home.path(), &|_| None), [own]);
        let far = |name: &str| (name == "DOCKER_CONTEXT").then(|| "far".to_owned());
        assert!(find(home.path(), &far).1.expect("a sentence").contains("`ssh://far`"));
        fs::write(home.path().join(".docker/config.json"), "{").expect("it can be written");
        assert!(below(home.path(), &|_| None).is_empty());
    }

    #[test]
    fn an_engine_on_another_machine_is_not_asked() {
        let home = tempfile::tempdir().expect("a temporary folder");
        for host in ["tcp://10.0.0.7:2375", "ssh://me@far", "http://127.0.0.1:2375", "npipe:////./pipe/x"] {
            let named = |name: &str| (name == "DOCKER_HOST").then(|| host.to_owned());
            let (_, elsewhere) = find(home.path(), &named);
            assert!(elsewhere.expect("a sentence").contains(host));
            assert!(below(home.path(), &named).is_empty());
        }
    }
}
