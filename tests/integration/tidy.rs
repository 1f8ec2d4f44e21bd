//! The project's own rules, kept by a program because conventions decay: imports go one way,
//! every file says what it is, nothing unwraps, the route lists agree (DESIGN §1, STYLE).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which of our own modules, and which outside crates, a module's files must never name.
/// Taken from the table of DESIGN §1: what is not listed there as allowed is listed here.
const FORBIDDEN: [(&str, &[&str], &[&str]); 13] = [
    (
        "domain",
        &[
            "store",
            "engine",
            "http",
            "api",
            "background",
            "worker",
            "client",
            "clock",
            "config",
            "server",
            "cli",
        ],
        &[
            "tokio",
            "redb",
            "hyper",
            "log",
            "minreq",
            "getrandom",
            "http_body_util",
            "hyper_util",
            "rustix",
        ],
    ),
    (
        "store",
        &[
            "engine",
            "http",
            "api",
            "background",
            "worker",
            "client",
            "clock",
            "config",
            "server",
            "cli",
        ],
        &["tokio", "hyper", "minreq", "http_body_util", "hyper_util", "getrandom"],
    ),
    (
        "engine",
        &["http", "api", "background", "worker", "client", "config", "server", "cli", "wire"],
        &["hyper", "minreq", "http_body_util", "hyper_util", "serde_json"],
    ),
    ("http", &["store", "background", "worker", "client", "server", "cli"], &["redb", "minreq"]),
    ("api", &["store", "background", "worker", "client", "server", "cli"], &["redb", "minreq"]),
    (
        "background",
        &["store", "http", "api", "worker", "client", "server", "cli"],
        &["redb", "hyper"],
    ),
    (
        "artifacts",
        &["store", "http", "wire", "api", "background", "worker", "client", "server", "cli"],
        &["redb", "minreq"],
    ),
    (
        "membridge_agent",
        &["engine", "store", "http", "api", "background", "worker", "client", "server", "cli"],
        &["redb", "minreq"],
    ),
    (
        "outgoing",
        &[
            "domain",
            "engine",
            "store",
            "http",
            "wire",
            "api",
            "background",
            "worker",
            "client",
            "membridge",
            "server",
            "cli",
        ],
        &["redb", "minreq"],
    ),
    (
        "tls",
        &["domain", "engine", "store", "http", "wire", "api", "worker", "outgoing", "server"],
        &["redb", "minreq", "hyper"],
    ),
    ("worker", &["engine", "store", "http", "api", "background", "server"], &["redb", "hyper"]),
    ("client", &["engine", "store", "http", "api", "background", "server"], &["redb", "hyper"]),
    (
        "people",
        &[
            "domain",
            "store",
            "engine",
            "http",
            "wire",
            "api",
            "background",
            "worker",
            "server",
            "membridge",
            "run",
        ],
        &["redb", "hyper", "minreq", "log"],
    ),
];

/// Over 400 lines a file wants a second look; here somebody has not looked.
const LINES_OF_A_FILE: usize = 450;

struct Source {
    path: PathBuf,
    /// Relative to the project, as a person names it.
    name: String,
    text: String,
}

impl Source {
    /// Without comments, and without what stands after the first `#[cfg(test)]`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.name.ends_with("tests.rs") || self.name.contains("/tests/");
        let lines = self.text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
        lines
            .take_while(move |(_, line)| !is_test && !line.starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let name = path.strip_prefix(root()).expect("inside").display().to_string();
                let text = std::fs::read_to_string(&path).expect("text");
                found.push(Source { path, name, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "nothing to read in {folders:?}");
    found
}

/// The module of a file: `src/engine/core.rs` and `src/engine.rs` are both `engine`.
fn module(source: &Source) -> Option<&str> {
    let inside = source.name.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Whether the line names the module or crate as a path's beginning.
fn names(line: &str, prefix: &str, word: &str) -> bool {
    let needle = format!("{prefix}{word}");
    line.match_indices(&needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let starts =
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.');
        let ends = if prefix.is_empty() {
            line[at + needle.len()..].starts_with("::") || line.starts_with(&format!("use {word};"))
        } else {
            after.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        };
        starts && ends
    })
}

/// The modules that a line of `use crate::{a::…, b::…}` names, besides `crate::a` written out.
fn grouped(line: &str, word: &str) -> bool {
    let Some((_, group)) = line.split_once("crate::{") else { return false };
    let firsts = group.split(',').map(|part| part.trim().split("::").next().unwrap_or_default());
    firsts.map(|first| first.trim_matches(['{', '}', ';', ' '])).any(|first| first == word)
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let rule = FORBIDDEN.iter().find(|(name, ..)| module(&source) == Some(*name));
        let Some((name, modules, crates)) = rule else { continue };
        for (number, line) in source.code() {
            let own =
                modules.iter().find(|word| names(line, "crate::", word) || grouped(line, word));
            let outside = crates.iter().find(|word| names(line, "", word));
            if let Some(word) = own.or(outside) {
                wrong.push(format!(
                    "{}:{number}: `{name}` must not know `{word}`: {line}",
                    source.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "DESIGN §1, imports go one way:\n{}", wrong.join("\n"));
}

#[test]
fn the_import_rules_see_what_they_forbid() {
    assert!(names("use crate::store::Hot;", "crate::", "store"));
    assert!(names("let x = crate::store::open();", "crate::", "store"));
    assert!(!names("use crate::storefront::X;", "crate::", "store"));
    assert!(names("use tokio::sync::watch;", "", "tokio"));
    assert!(names("    tokio::spawn(x);", "", "tokio"));
    assert!(!names("use crate::tokio::X;", "", "tokio"));
    assert!(!names("self.log::<X>()", "", "log"));
    assert!(grouped("use crate::{domain::Task, store::Hot};", "store"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources(&["src", "tests", "benches"])
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.name)
        .collect();
    assert!(silent.is_empty(), "files that do not open with `//!`: {silent:?}");
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let lines = source.code().filter(|(_, line)| line.contains(".unwrap()"));
        found.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", source.name)));
    }
    assert!(
        found.is_empty(),
        "say the invariant with expect, or return the error:\n{}",
        found.join("\n")
    );
}

#[test]
fn nothing_is_left_open_or_unfinished() {
    // Written in two halves, or this file would find itself.
    let marks = ["TO", "FIX", "todo", "unimplemented"]
        .iter()
        .zip(["DO", "ME", "!(", "!("])
        .map(|(start, end)| format!("{start}{end}"));
    let marks: Vec<_> = marks.collect();
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "left open:\n{}", found.join("\n"));
}

#[test]
fn no_file_has_outgrown_its_room() {
    let long: Vec<_> = sources(&["src", "tests", "benches"])
        .into_iter()
        .map(|source| (source.text.lines().count(), source.name))
        .filter(|(lines, _)| *lines > LINES_OF_A_FILE)
        .map(|(lines, name)| format!("{name}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "over {LINES_OF_A_FILE} lines, is each still one room?\n{}",
        long.join("\n")
    );
}

/// The lines `METHOD /path` of a text, whatever else stands around them.
fn routes(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<_> = line
            .split(|c: char| c.is_whitespace() || "`|#*".contains(c))
            .filter(|word| !word.is_empty() && *word != "//!" && *word != "-")
            .collect();
        if let [method, path, ..] = words[..]
            && ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method)
            && path.starts_with('/')
        {
            found.insert(format!("{method} {}", path.trim_end_matches([',', '.', ';', ':'])));
        }
    }
    found
}

#[test]
fn the_manual_lists_exactly_the_routes_that_the_router_has() {
    let read = |name: &str| {
        std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let code = read("src/http/routes.rs");
    let documented: String = code
        .lines()
        .filter(|line| line.starts_with("//!"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (router, manual) = (routes(&documented), routes(&read("docs/API.md")));
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert!(router.len() > 20, "the `//!` of src/http/routes.rs lists `METHOD /path`: {router:?}");
    assert_eq!(only(&router, &manual), [""; 0], "in the router, not in docs/API.md");
    assert_eq!(only(&manual, &router), [""; 0], "in docs/API.md, not in the router");
}
