//! The house rules that a program can check, so that `cargo test` is the whole truth.
//!
//! What it is: a reader of the sources. What it is not: a parser of Rust; it goes by `use crate::…`
//! lines and by names that stand for something, and skips the tests inside a file.
//!
//! Invariant: imports go only downward (`RANKS`), and the pure modules name nothing impure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom to the top. A module imports from lower ranks, and from its own.
const RANKS: &[&[&str]] = &[
    &["time", "counter"],
    &["limits"],
    &["buffer"],
    &["payload"],
    &[
        "rng", "hash", "kernel", "key", "role", "frame", "conns", "silence", "depth", "throttle",
        "limiter", "network", "command", "rate", "overview", "failures",
    ],
    &[
        "lanes",
        "scheduler",
        "journal",
        "format",
        "messages",
        "words",
        "screen",
        "channel",
        "lines",
        "parcel",
    ],
    &[
        "head",
        "check",
        "worker",
        "kernels",
        "serial",
        "program",
        "pool",
        "mailbox",
        "signals",
        "supervisor",
        "gauge",
        "keyfile",
        "alone",
        "progress",
        "report",
        "stopwatch",
    ],
    &["input", "output", "recorder", "options", "status", "trace"],
    &["reactor", "fuzzing"],
    &["run"],
    &["cluster"],
];

/// Modules that a replay runs again: no world, and nothing whose order differs from run to run.
const PURE: &[&str] = &[
    "time",
    "limits",
    "buffer",
    "payload",
    "rng",
    "hash",
    "key",
    "role",
    "frame",
    "channel",
    "conns",
    "silence",
    "depth",
    "throttle",
    "limiter",
    "rate",
    "overview",
    "failures",
    "words",
    "report",
    "status",
    "lanes",
    "scheduler",
    "journal",
    "lines",
    "parcel",
    "head",
    "check",
    "worker",
    "fuzzing",
];

/// What a pure module must not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("mio::", "sockets are the reactor's"),
    ("std::net", "sockets are the reactor's"),
    ("std::io", "input and output are the rim's"),
    ("std::fs", "files are the rim's"),
    ("std::thread", "threads are the pool's"),
    ("Mutex", "locks are the pool's"),
    ("Instant", "the reactor reads the clock"),
    ("SystemTime", "the reactor reads the clock"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("f32", "decisions are made in integers"),
    (": f64", "decisions are made in integers"),
];

#[test]
fn imports_go_downward() {
    let rank = |module: &str| RANKS.iter().position(|names| names.contains(&module));
    let mut complaints = Vec::new();
    for (module, path, source) in sources() {
        let own = rank(&module).unwrap_or_else(|| panic!("{module} has no rank in tests/tidy.rs"));
        for (number, line) in source.lines().enumerate() {
            let Some((_, rest)) = line.split_once("crate::") else {
                continue;
            };
            let is_import = !line.trim_start().starts_with("//");
            let name = rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap();
            if is_import && rank(name).is_some_and(|other| other > own) {
                complaints.push(format!(
                    "{}:{}: {module} names {name}",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(complaints.is_empty(), "upward:\n{}", complaints.join("\n"));
}

#[test]
fn roles_and_rim_never_meet() {
    for (module, path, source) in sources() {
        let others: &[&str] = match &module[..] {
            "head" | "check" | "worker" | "scheduler" | "lanes" | "journal" => &[
                "reactor", "pool", "mailbox", "input", "output", "recorder", "trace",
            ],
            "reactor" | "pool" | "mailbox" | "input" | "output" | "recorder" => {
                &["head", "check", "worker", "scheduler"]
            }
            _ => &[],
        };
        for other in others {
            let name = format!("crate::{other}");
            assert!(!source.contains(&name), "{} names {name}", path.display());
        }
    }
}

#[test]
fn pure_modules_name_nothing_impure() {
    let mut complaints = Vec::new();
    for (module, path, source) in sources() {
        if !PURE.contains(&&module[..]) {
            continue;
        }
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for (name, why) in IMPURE.iter().filter(|(name, _)| code.contains(name)) {
                complaints.push(format!("{}:{}: {name}: {why}", path.display(), number + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "impure:\n{}", complaints.join("\n"));
}

#[test]
fn one_module_has_the_one_unsafe_instruction() {
    for (module, path, source) in sources() {
        let code = source.lines().map(|line| line.split("//").next().unwrap());
        let uses = code.filter(|line| line.contains("unsafe")).count();
        // The one, and the leave to have it.
        let expected = if module == "counter" { 2 } else { 0 };
        assert_eq!(uses, expected, "{} is unsafe", path.display());
    }
}

#[test]
fn every_module_says_what_it_is() {
    let mut complaints = Vec::new();
    for (_, path, _) in sources() {
        let source = fs::read_to_string(&path).unwrap();
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        let header = lines.collect::<Vec<_>>().concat();
        for part in ["What it is:", "it is not:", "nvariant"] {
            if !header.contains(part) {
                complaints.push(format!("{} lacks {part:?}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "headers:\n{}", complaints.join("\n"));
}

#[test]
fn files_are_short_and_lines_fit() {
    let mut complaints = Vec::new();
    for (_, path, source) in sources() {
        let lines = source.lines().count();
        if lines > 600 {
            complaints.push(format!(
                "{} has {lines} lines: which noun hides in it?",
                path.display()
            ));
        }
        for (number, line) in source.lines().enumerate() {
            if line.chars().count() > 103 {
                complaints.push(format!(
                    "{}:{}: over 103 columns",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_dependency_has_its_reason_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let table = manifest.split("[dependencies]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let names: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(n, _)| n)
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(
            readme.contains(&format!("| `{name}` |")),
            "README.md gives no reason for {name}"
        );
    }
}

/// Module, path and text (without its inner tests) of every library source below `src`.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    assert!(files.len() > 20, "the sources are there");
    let with_module = files.into_iter().map(|(path, module)| {
        let source = fs::read_to_string(&path).unwrap();
        let code = source.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        (module, path, code.to_owned())
    });
    with_module.collect()
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("bin") {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("lib.rs")
        {
            let first = path.strip_prefix(root).unwrap().iter().next().unwrap();
            let module = Path::new(first).file_stem().unwrap().to_str().unwrap();
            files.insert(path.clone(), module.to_owned());
        }
    }
}
