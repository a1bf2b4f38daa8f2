//! The rules that no compiler checks: which crate may know which, that every module says what it is, and that no file names
//! a machine or a package registry. Pure functions over the manifests and the texts; [`check`] reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::files;
use crate::workspace::Workspace;

/// The only package that may know Tauri.
const SHELL: &str = "embedbar-desktop";

/// (who, whom): `who` must not depend on `whom`, not even through others. Arrows of the data flow point one way.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("embedbar-documents", &["embedbar-engine", "embedbar-lifecycle", "embedbar-worker", "embedbar-app"]),
    ("embedbar-engine", &["embedbar-lifecycle", "embedbar-documents", "embedbar-gateway", "embedbar-app"]),
    // Arithmetic on slices, and nothing else.
    ("embedbar-kernels", &["embedbar-contract", "embedbar-engine", "embedbar-memory", "embedbar-app"]),
    // A file format over the library's tokenizer; who keeps the file, and where, is the caller's affair.
    ("embedbar-vocabulary", &["embedbar-contract", "embedbar-engine", "embedbar-memory", "embedbar-app"]),
    // A format of weights, and nothing of ours: whoever runs them and whoever converts them read it alike.
    ("embedbar-mlx", &["embedbar-contract", "embedbar-convert", "embedbar-engine", "embedbar-kernels", "embedbar-app"]),
    // The judge of packages and their writer share no code.
    ("embedbar-convert", &["embedbar-mil"]),
    ("embedbar-mil", &["embedbar-convert", "embedbar-engine", "embedbar-lifecycle", "embedbar-app"]),
    ("embedbar-memory", &["embedbar-engine", "embedbar-lifecycle", "embedbar-app"]),
    ("embedbar-planner", &["embedbar-engine", "embedbar-memory", "embedbar-lifecycle", "embedbar-app"]),
    ("embedbar-settings", &["embedbar-planner", "embedbar-lifecycle", "embedbar-app"]),
    // Names and headers of files; what they mean is for the engine to say.
    (
        "embedbar-intake",
        &[
            "embedbar-app",
            "embedbar-catalog",
            "embedbar-cli",
            "embedbar-convert",
            "embedbar-engine",
            "embedbar-hub",
            "embedbar-kernels",
            "embedbar-lifecycle",
            "embedbar-memory",
            "embedbar-mil",
            "embedbar-settings",
            "embedbar-store",
            "embedbar-worker",
        ],
    ),
    // It is built with a sanitizer, so without the engine's arithmetic; and no program has it inside.
    (
        "embedbar-hostile",
        &[
            "embedbar-app",
            "embedbar-convert",
            "embedbar-engine",
            "embedbar-lifecycle",
            "embedbar-store",
            "embedbar-worker",
        ],
    ),
    ("embedbar-cli", &["embedbar-hostile"]),
    // Both speak to strangers and decide nothing.
    ("embedbar-remote", &["embedbar-settings", "embedbar-engine", "embedbar-lifecycle", "embedbar-app"]),
    ("embedbar-neighbours", &["embedbar-settings", "embedbar-memory", "embedbar-lifecycle", "embedbar-app"]),
    ("embedbar-lifecycle", &["embedbar-engine", "embedbar-documents", "embedbar-gateway", "embedbar-app"]),
    ("embedbar-gateway", &["embedbar-engine", "embedbar-lifecycle", "embedbar-documents"]),
    ("embedbar-contract", &["embedbar-app", "embedbar-engine", "embedbar-lifecycle", "embedbar-documents"]),
];

/// (who, whom): `who` must depend on nothing of ours but `whom`.
const ALONE: &[(&str, &[&str])] = &[
    // A protocol and files.
    ("embedbar-hub", &[]),
    // Bytes on a disk, whatever they mean.
    ("embedbar-records", &[]),
    // A place for a word.
    ("embedbar-secrets", &["embedbar-records"]),
];

/// Parts of host names, in two halves, so that this file passes its own check.
const REGISTRIES: &[(&str, &str)] = &[
    ("registry.np", "mjs.org"),
    ("registry.ya", "rnpkg.com"),
    ("static.crat", "es.io"),
    ("index.crat", "es.io"),
    ("files.python", "hosted.org"),
    ("pypi", ".org"),
    ("proxy.gol", "ang.org"),
];

const MACHINE_FOLDERS: &[(&str, &str)] = &[("/ho", "me/"), ("/ro", "ot/"), ("/wo", "rk/")];

/// One rule and what breaks it.
pub(crate) struct Verdict {
    pub(crate) rule: &'static str,
    pub(crate) violations: Vec<String>,
}

/// A file of the checkout: its path below the root, and its text.
type SourceFile = (String, String);

/// Checks the whole checkout; files that are not UTF-8 have no text to check.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Verdict>> {
    let mut sources = Vec::new();
    for path in files::sources(&workspace.root)? {
        if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(&workspace.root).unwrap_or(&path);
            sources.push((name.to_string_lossy().into_owned(), text));
        }
    }
    Ok(vec![
        Verdict {
            rule: "only the shell depends on tauri",
            violations: tauri_outside_the_shell(&graph(workspace, true)),
        },
        Verdict { rule: "dependencies point one way", violations: forbidden_arrows(&graph(workspace, false)) },
        Verdict { rule: "only ui/src/platform imports @tauri-apps", violations: tauri_outside_the_platform(&sources) },
        Verdict { rule: "every module says what it is", violations: modules_without_header(&sources) },
        Verdict { rule: "no file names a registry or a folder of one machine", violations: foreign_names(&sources) },
    ])
}

type Graph = BTreeMap<String, BTreeSet<String>>;

fn graph(workspace: &Workspace, with_development: bool) -> Graph {
    let mut graph = Graph::new();
    for package in &workspace.packages {
        let names = package.dependencies.iter().filter(|dependency| with_development || !dependency.development);
        graph.insert(package.name.clone(), names.map(|dependency| dependency.name.clone()).collect());
    }
    graph
}

fn tauri_outside_the_shell(graph: &Graph) -> Vec<String> {
    let tauri = |name: &str| ["tauri", "wry", "tao"].contains(&name) || name.starts_with("tauri-");
    let mut found = Vec::new();
    for (package, dependencies) in graph.iter().filter(|(package, _)| *package != SHELL) {
        for name in dependencies.iter().filter(|name| tauri(name) || *name == SHELL) {
            found.push(format!("`{package}` depends on `{name}`"));
        }
    }
    found
}

fn forbidden_arrows(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        for name in reachable(graph, package).iter().filter(|name| forbidden.contains(&name.as_str())) {
            found.push(format!("`{package}` depends on `{name}`, perhaps through others"));
        }
    }
    for (package, allowed) in ALONE {
        let ours = |name: &&String| name.starts_with("embedbar-") && !allowed.contains(&name.as_str());
        for name in reachable(graph, package).iter().filter(ours) {
            found.push(format!("`{package}` depends on `{name}`, perhaps through others"));
        }
    }
    found
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![from.to_owned()];
    while let Some(package) = pending.pop() {
        for name in graph.get(&package).into_iter().flatten() {
            if found.insert(name.clone()) {
                pending.push(name.clone());
            }
        }
    }
    found
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path).extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
}

fn tauri_outside_the_platform(sources: &[SourceFile]) -> Vec<String> {
    sources
        .iter()
        .filter(|(path, _)| path.starts_with("ui/src/") && !path.starts_with("ui/src/platform/"))
        .filter(|(path, text)| has_extension(path, &["ts", "js", "svelte"]) && text.contains("@tauri-apps/"))
        .map(|(path, _)| format!("`{path}` imports @tauri-apps"))
        .collect()
}

fn modules_without_header(sources: &[SourceFile]) -> Vec<String> {
    sources
        .iter()
        .filter(|(path, text)| has_extension(path, &["rs"]) && !text.starts_with("//! "))
        .map(|(path, _)| format!("`{path}` does not start with `//!`"))
        .collect()
}

fn foreign_names(sources: &[SourceFile]) -> Vec<String> {
    let registries: Vec<String> = REGISTRIES.iter().map(|(left, right)| format!("{left}{right}")).collect();
    let folders: Vec<String> = MACHINE_FOLDERS.iter().map(|(left, right)| format!("{left}{right}")).collect();
    let mut found = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| path != "Cargo.lock") {
        for (number, line) in text.lines().enumerate() {
            let names = registries.iter().filter(|host| line.contains(host.as_str()));
            // the UI's tests shorten invented home folders
            let paths = folders.iter().filter(|folder| !path.ends_with(".test.ts") && names_absolute(line, folder));
            found.extend(names.chain(paths).map(|name| format!("`{path}` line {}: `{name}`", number + 1)));
        }
    }
    found
}

/// Does `line` have `folder` as the start of a path, not in the middle of one?
fn names_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !(before.is_alphanumeric() || "._-~}*/)>".contains(before)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &[&str])]) -> Graph {
        let edge = |(package, names): &(&str, &[&str])| {
            ((*package).to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        };
        edges.iter().map(edge).collect()
    }

    fn source(path: &str, text: &str) -> SourceFile {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn tauri_belongs_to_the_shell_alone() {
        let graph = graph_of(&[
            ("embedbar-desktop", &["tauri", "tauri-build"]),
            ("embedbar-app", &["tauri-plugin-dialog", "tokio"]),
            ("embedbar-tests", &["embedbar-desktop"]),
        ]);
        assert_eq!(
            tauri_outside_the_shell(&graph),
            ["`embedbar-app` depends on `tauri-plugin-dialog`", "`embedbar-tests` depends on `embedbar-desktop`"]
        );
    }

    #[test]
    fn a_forbidden_arrow_is_found_through_others() {
        let graph = graph_of(&[
            ("embedbar-documents", &["embedbar-store"]),
            ("embedbar-store", &["embedbar-engine"]),
            ("embedbar-engine", &["candle-core"]),
        ]);
        let found = forbidden_arrows(&graph);
        assert_eq!(found, ["`embedbar-documents` depends on `embedbar-engine`, perhaps through others"]);
    }

    #[test]
    fn what_stands_alone_depends_on_nothing_of_ours_but_what_is_named() {
        let graph = graph_of(&[
            ("embedbar-hub", &["reqwest", "embedbar-records"]),
            ("embedbar-records", &["serde"]),
            ("embedbar-secrets", &["keyring-core", "embedbar-records"]),
        ]);
        let found = forbidden_arrows(&graph);
        assert_eq!(found, ["`embedbar-hub` depends on `embedbar-records`, perhaps through others"]);
    }

    #[test]
    fn only_the_platform_folder_imports_tauri() {
        let import = "import { invoke } from '@tauri-apps/api/core'";
        let sources = [
            source("ui/src/platform/desktop.ts", import),
            source("ui/src/search/Search.svelte", import),
            source("ui/package.json", "\"@tauri-apps/api\""),
        ];
        assert_eq!(tauri_outside_the_platform(&sources), ["`ui/src/search/Search.svelte` imports @tauri-apps"]);
    }

    #[test]
    fn a_module_without_a_header_is_found() {
        let sources = [source("a.rs", "//! What it is.\n"), source("b.rs", "use std::fs;\n"), source("c.md", "text")];
        assert_eq!(modules_without_header(&sources), ["`b.rs` does not start with `//!`"]);
    }

    #[test]
    fn registries_and_folders_of_a_machine_are_found_wherever_a_path_can_start() {
        let home = format!("{}{}", MACHINE_FOLDERS[0].0, MACHINE_FOLDERS[0].1);
        let registry = format!("{}{}", REGISTRIES[0].0, REGISTRIES[0].1);
        let bad = [
            source("a.json", &format!("\"resolved\": \"https://{registry}/x\"")),
            source("b.md", &format!("see {home}me/x")),
            source("c.sh", &format!("DIR={home}me")),
        ];
        assert_eq!(foreign_names(&bad).len(), 3);
        let good = [
            source("a.rs", &format!("project{home}page, $HOME{home}, ../..{home}")),
            source("Cargo.lock", &format!("https://{registry}")),
            source("ui/src/lib/paths.test.ts", &format!("shorten('{home}ann/notes')")),
        ];
        assert_eq!(foreign_names(&good), Vec::<String>::new());
    }
}
