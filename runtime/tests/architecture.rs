//! The rules of ARCHITECTURE.md that a compiler cannot hold: which crate may name which, and how long a file may be.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file with its path from the root and its text before the tests.
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for krate in ["broker", "registry", "connectors", "runtime"] {
        sources(&root().join(krate).join("src"), &mut paths);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned();
        (path.strip_prefix(root()).unwrap().display().to_string(), code)
    };
    let files: Vec<_> = paths.into_iter().filter(|path| !path.ends_with("tests.rs")).map(read).collect();
    assert!(files.len() > 100, "the sources were not found");
    files
}

#[test]
fn crates_depend_on_each_other_only_as_drawn() {
    for (krate, forbidden) in [
        ("broker", ["towline-registry", "towline-connectors", "rdkafka"]),
        ("registry", ["towline-broker", "towline-connectors", "rdkafka"]),
        ("connectors", ["towline-broker", "towline-registry", "rdkafka"]),
    ] {
        let manifest = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        for name in forbidden {
            assert!(!manifest.contains(name), "{krate} must not depend on {name}");
        }
    }
}

#[test]
fn libraries_are_named_only_in_their_rooms() {
    let rooms: &[(&str, &[&str])] = &[
        ("rdkafka::", &["runtime/src/kafka/cluster/"]),
        ("towline_broker", &["runtime/src/kafka/embedded/", "runtime/src/node.rs", "runtime/src/launch.rs"]),
        ("axum::", &["runtime/src/rest/", "runtime/src/node.rs", "runtime/src/status_page.rs", "registry/src/http/"]),
        ("sqlx::", &["connectors/src/postgres/", "connectors/src/jdbc/", "runtime/src/cli/verify"]),
        ("crate::rest", &["runtime/src/rest/", "runtime/src/node.rs"]),
        ("kafka_protocol::", &["broker/src/", "runtime/src/cli/", "runtime/src/kafka/embedded/"]),
    ];
    for (path, code) in files() {
        for (name, allowed) in rooms {
            let named = code.lines().any(|line| line.contains(name) && !line.trim_start().starts_with("//"));
            assert!(!named || allowed.iter().any(|room| path.starts_with(room)), "{path} must not name {name}");
        }
    }
}

#[test]
fn files_are_rooms_not_halls() {
    for (path, code) in files() {
        let lines = code.lines().count();
        assert!(lines <= 520, "{path} has {lines} lines before its tests: split it");
        assert!(code.starts_with("//!"), "{path} must say what lives there");
        let name = Path::new(&path).file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["util", "utils", "common", "helpers", "types", "misc"].contains(&name.as_str()),
            "{path} says nothing"
        );
    }
}
