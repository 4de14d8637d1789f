//! What no compiler checks: which crate may know which, that only `cli` prints, that files stay of a size that one reads,
//! that no test is forgotten, and that the map in ARCHITECTURE.md is whole.
//!
//! It reads the sources as text. Production code is what is not `#[cfg(test)]`, in files that are not themselves tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Production lines of a file, comments apart, from which on its header says why it is that long, with the words "Long because".
const LINES_MAX: usize = 800;

/// The crates of this workspace, each with those that it may depend on. Tests and benches see everything.
const EDGES: [(&str, &str, &[&str]); 12] = [
    ("cairn-trust", "trust", &[]),
    ("cairn-delta", "delta", &[]),
    ("cairn-store", "store", &["cairn-delta", "cairn-trust"]),
    ("cairn-fusefs", "fusefs", &["cairn-store"]),
    ("cairn-net", "net", &["cairn-store", "cairn-trust"]),
    ("cairn-server", "server", &["cairn-store", "cairn-trust", "cairn-net"]),
    ("cairn-agent", "agent", &["cairn-store", "cairn-net"]),
    ("cairn-sources", "sources", &["cairn-store"]),
    (
        "cairn-cli",
        "cli",
        &[
            "cairn-store",
            "cairn-trust",
            "cairn-fusefs",
            "cairn-net",
            "cairn-server",
            "cairn-agent",
            "cairn-sources",
        ],
    ),
    ("cairn-examples", "examples", &["cairn-store", "cairn-net"]),
    (
        "cairn-benches",
        "benches",
        &["cairn-delta", "cairn-store", "cairn-fusefs", "cairn-net", "cairn-server"],
    ),
    (
        "cairn-tests",
        "tests",
        &[
            "cairn-store",
            "cairn-trust",
            "cairn-fusefs",
            "cairn-net",
            "cairn-server",
            "cairn-agent",
            "cairn-cli",
        ],
    ),
];

/// What the store must not reach, not even through another crate: async, the network, a terminal, errors without a type.
const NOT_BELOW_THE_STORE: [&str; 12] = [
    "tokio",
    "async-std",
    "futures",
    "axum",
    "hyper",
    "reqwest",
    "clap",
    "indicatif",
    "console",
    "signal-hook",
    "tracing-subscriber",
    "anyhow",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a workspace").to_owned()
}

/// All files that are tracked, or, where this is no clone, all that are there.
fn files() -> Vec<PathBuf> {
    let root = workspace();
    let tracked = Command::new("git")
        // The checkout may be another user's.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output();
    let mut files = match tracked {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let names = String::from_utf8(output.stdout).expect("file names here are UTF-8");
            names.split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => {
            let mut files = Vec::new();
            walk(&root, &root, &mut files);
            files
        }
    };
    // One that is removed and not yet committed so is listed too.
    files.retain(|file| root.join(file).is_file());
    files.sort();
    assert!(files.len() > 50, "{} files are too few to be all", files.len());
    files
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" && name != "corpus" && name != "results" {
                walk(root, &path, files);
            }
        } else {
            files.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(workspace().join(file)).unwrap()).into_owned()
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn is_test(file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests = file.iter().any(|part| part == "tests" || part == "testing");
    in_tests || ["tests", "testing"].contains(&&*stem) || stem.ends_with("_tests")
}

/// The lines of production code with their numbers, from 1: without comments, and without what is `#[cfg(test)]`.
fn production(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    // How far the test that is gone through is indented.
    let mut inside = None;
    for (number, line) in (1..).zip(text.lines()) {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        match inside {
            None if word == "#[cfg(test)]" => inside = Some(indent),
            None if word.starts_with("//") => {}
            None => lines.push((number, line)),
            Some(began) if began == indent && (word.starts_with('}') || word.ends_with([';', '}'])) => {
                inside = None
            }
            Some(_) => {}
        }
    }
    lines
}

/// Fails with all that was found, each on a line.
fn nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn table(manifest: &str, name: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.trim_end_matches(']') == name;
        } else if inside && let Some((key, _)) = line.split_once(['=', '.']) {
            keys.insert(key.trim().to_owned());
        }
    }
    keys
}

/// What each package of Cargo.lock depends on, by name: all versions and kinds together.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let lock = read(Path::new("Cargo.lock"));
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let needs = package.split_once("dependencies = [").map_or("", |(_, rest)| rest);
        let needs = needs.lines().filter_map(|line| line.trim().strip_prefix('"')?.split(['"', ' ']).next());
        packages.entry(name.expect("each has one").to_owned()).or_default().extend(needs.map(str::to_owned));
    }
    packages
}

#[test]
fn crates_know_only_what_they_may() {
    let mut found = Vec::new();
    let crates: Vec<_> = EDGES.iter().map(|(name, ..)| *name).collect();
    for (name, folder, allowed) in EDGES {
        let manifest = read(&Path::new(folder).join("Cargo.toml"));
        for needed in
            table(&manifest, "dependencies").iter().filter(|needed| crates.contains(&needed.as_str()))
        {
            if !allowed.contains(&needed.as_str()) {
                found.push(format!("{name} depends on {needed}"));
            }
        }
        if folder != "cli" && table(&manifest, "dependencies").contains("anyhow") {
            found.push(format!("{name} depends on anyhow"));
        }
    }
    let members = read(Path::new("Cargo.toml"));
    let members =
        members.lines().find_map(|line| line.strip_prefix("members = ")).expect("it is a workspace");
    for member in members.split('"').skip(1).step_by(2) {
        if !EDGES.iter().any(|(_, folder, _)| *folder == member) {
            found.push(format!("no edges are known of {member}"));
        }
    }
    nothing("edges that are not in this file's table", &found);
}

#[test]
fn the_store_reaches_no_network_and_no_terminal() {
    let packages = locked();
    // The lock file does not tell what only the store's tests need; that is the same rule for less.
    let mut reached = BTreeSet::from(["cairn-store"]);
    let mut next = vec!["cairn-store"];
    while let Some(package) = next.pop() {
        for needed in packages.get(package).into_iter().flatten() {
            if reached.insert(needed) {
                next.push(needed);
            }
        }
    }
    assert!(reached.contains("blake3"), "the lock file was not understood");
    let found: Vec<_> =
        reached.iter().filter(|name| NOT_BELOW_THE_STORE.contains(name)).map(ToString::to_string).collect();
    nothing("below the store", &found);
}

#[test]
fn only_the_command_line_prints() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_rust(file) && file.starts_with("store") && !is_test(file)) {
        for (number, line) in production(&read(file)) {
            let words =
                ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!(", "io::stdout", "io::stderr"];
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    nothing("only cli prints", &found);
}

#[test]
fn production_code_does_not_unwrap() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_rust(file) && !is_test(file)) {
        for (number, line) in production(&read(file)) {
            if line.contains(".unwrap()") || line.contains(".unwrap_err()") {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    nothing("expect() states why it holds; errors are returned", &found);
}

#[test]
fn files_are_of_a_size_that_one_reads() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_rust(file) && !is_test(file)) {
        let text = read(file);
        let lines = production(&text).len();
        let says_why = text.lines().any(|line| line.starts_with("//!") && line.contains("Long because"));
        if lines > LINES_MAX && !says_why {
            found.push(format!("{}: {lines} lines", file.display()));
        }
    }
    nothing("split them, or say in the header \"Long because …\"", &found);
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_rust(file)) {
        if !read(file).starts_with("//!") {
            found.push(file.display().to_string());
        }
    }
    nothing("no header", &found);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together, so that this file does not name them either.
    let folders = ["work", "root"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for file in files() {
        let text = read(&file);
        for (number, line) in (1..).zip(text.lines()) {
            let names = |folder: &String| {
                line.match_indices(folder.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|before| before.is_alphanumeric() || "._-})$".contains(before))
                })
            };
            if folders.iter().any(names) {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    nothing("paths of one machine", &found);
}

/// The files that may declare a module, by the rules of the language and of this workspace's packages.
fn parents(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut parents: Vec<_> = ["mod.rs", "lib.rs", "main.rs"].iter().map(|name| folder.join(name)).collect();
    parents.push(folder.with_extension("rs"));
    parents
}

/// Files that cargo compiles by themselves.
fn roots(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut roots = BTreeSet::new();
    for manifest in files.iter().filter(|file| file.ends_with("Cargo.toml")) {
        let folder = manifest.parent().unwrap_or(Path::new(""));
        for line in read(manifest).lines() {
            if let Some(path) = line.strip_prefix("path = \"").and_then(|rest| rest.strip_suffix('"')) {
                roots.insert(folder.join(path));
            }
        }
        for name in ["src/lib.rs", "src/main.rs", "build.rs"] {
            roots.insert(folder.join(name));
        }
        for file in files.iter().filter(|file| is_rust(file)) {
            let Ok(inside) = file.strip_prefix(folder) else { continue };
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
            let parts: Vec<_> = parts.iter().map(|part| &**part).collect();
            match parts[..] {
                ["src", "bin", _] | ["src", "bin", _, "main.rs"] => drop(roots.insert(file.clone())),
                ["tests" | "examples", _] | ["tests" | "examples", _, "main.rs"] => {
                    roots.insert(file.clone());
                }
                _ => {}
            }
        }
    }
    roots
}

#[test]
fn every_file_is_compiled() {
    let files = files();
    let roots = roots(&files);
    let mut found = Vec::new();
    // Targets of fuzzing are a workspace of their own.
    for file in files.iter().filter(|file| is_rust(file) && !file.starts_with("fuzz")) {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let declares = |parent: &PathBuf| {
            let text = read(parent);
            text.lines().any(|line| {
                let line = line.trim_start();
                let line =
                    line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
                line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) == Some(&stem)
            })
        };
        let parents: Vec<_> = parents(file).into_iter().filter(|parent| files.contains(parent)).collect();
        if !roots.contains(file) && !parents.iter().any(declares) {
            found.push(file.display().to_string());
        }
    }
    nothing("no crate has these", &found);
}

#[test]
fn every_file_of_the_tests_is_used() {
    let files = files();
    let sources: Vec<_> = files.iter().filter(|file| is_rust(file)).map(|file| read(file)).collect();
    let mut found = Vec::new();
    // Frozen stores are read as a whole.
    let is_looked_for =
        |file: &PathBuf| file.starts_with("tests") && !file.starts_with("tests/compat/frozen");
    for file in files.iter().filter(|file| is_looked_for(file) && !is_rust(file)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name != "Cargo.toml" && !sources.iter().any(|source| source.contains(&*name)) {
            found.push(file.display().to_string());
        }
    }
    nothing("no test names these", &found);
}

#[test]
fn the_map_has_every_module() {
    let map = read(Path::new("ARCHITECTURE.md"));
    let words: BTreeSet<_> = map.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut found = Vec::new();
    let is_of_a_map = |file: &Path| {
        let folder = file.parent().unwrap_or(Path::new(""));
        ["store/src", "fusefs/src", "net/src", "server/src"].iter().any(|mapped| folder == Path::new(mapped))
    };
    for file in files().iter().filter(|file| is_rust(file) && is_of_a_map(file)) {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let is_of_tests = stem.ends_with("tests") || stem == "testing";
        if !words.contains(&*stem) && stem != "lib" && !is_of_tests {
            found.push(file.display().to_string());
        }
    }
    nothing("ARCHITECTURE.md does not name these", &found);
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_sentence_about_what_processes_see_has_its_test() {
    let text = read(Path::new("docs/semantics.md"));
    let sources: Vec<_> =
        files().into_iter().filter(|file| is_rust(file)).map(|file| (read(&file), file)).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && *line != "| what | test |");
    let mut found = Vec::new();
    let mut count = 0;
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit_once(" | ").map_or("", |(_, cell)| cell);
        // A path behind the names says where they are.
        let folder = quoted(cell).find(|word| word.contains('/')).unwrap_or("tests/mount/");
        let names: Vec<_> = quoted(cell).filter(|word| !word.contains('/')).collect();
        for name in &names {
            let function = format!("fn {name}(");
            let mut there = sources.iter().filter(|(_, file)| file.starts_with(folder));
            if !there.any(|(source, _)| source.contains(&function)) {
                found.push(format!("{name} is not in {folder}"));
            }
        }
        if names.is_empty() {
            found.push(format!("no test: {row}"));
        }
        count += names.len();
    }
    assert!(count > 30, "the page was not understood: {count} tests");
    nothing("docs/semantics.md", &found);
}
