//! The pages that repeat what `--help` says.
//!
//! What it is: the manual pages, made of the same table as `--help`, and a test each that holds
//! them and README.md to it. What it is not: in any program; it is compiled for tests alone.
//!
//! Invariant: what is committed in `docs/man` is what is made here.

use std::fs;
use std::path::{Path, PathBuf};

use super::cli::{Exits, Program};
use super::help::wrapped;
use super::{head, worker};
use crate::keyfile;

/// How a page is made anew.
const UPDATE: &str = "UPDATE_MAN=1 cargo test --lib pages";

/// What a manual page says that `--help` does not.
struct Page {
    /// Not the program's, as coreutils has a head(1), too.
    name: &'static str,
    brief: &'static str,
    program: Program,
    /// A job that has a `--help` of its own.
    job: Option<Program>,
    environment: Vec<(&'static str, &'static str)>,
    other: &'static str,
}

fn pages() -> [Page; 2] {
    let common = [
        (
            "RUST_LOG",
            "which messages are told: error, warn, info, debug or trace, as in every program with \
             env_logger; it goes before --quiet",
        ),
        (
            keyfile::VARIABLE,
            "the key file, unless --key-file names one",
        ),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "set by systemd, which is told when the program is ready, alive and stopping",
        ),
    ];
    let with = |own: &[_]| common.iter().chain(own).copied().collect();
    [
        Page {
            name: "teamster-head",
            brief: "sends the tasks of a job over TCP to workers",
            program: head::flags::program(false),
            job: Some(head::flags::program(true)),
            environment: with(&[
                ("PATH", "where the command of map is, without --workers"),
                ("TERM", "dumb: no line stays at the bottom of the terminal"),
            ]),
            other: "teamster-worker",
        },
        Page {
            name: "teamster-worker",
            brief: "computes the tasks that heads send",
            program: worker::program(),
            job: None,
            environment: with(&[(
                "TMPDIR",
                "where the folders are in which programs run (default: /tmp)",
            )]),
            other: "teamster-head",
        },
    ]
}

/// The page in the man macros.
fn manual(page: &Page) -> String {
    let Page { name, program, .. } = page;
    let both = || [program].into_iter().chain(&page.job);
    // Words are not hyphenated, as options and paths would be, too.
    let mut text = format!(
        ".\\\" Made by {UPDATE}\n.TH {} 1 \"\" \"Teamster {}\" \"\"\n.nh\n.ad l\n",
        escaped(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
    );
    text += &section("NAME", &format!("{name} - {}", page.brief));
    let usages: Vec<String> = both().map(|program| escaped(program.usage)).collect();
    text += &format!(".SH SYNOPSIS\n{}\n", usages.join("\n.br\n"));
    text += &section("DESCRIPTION", program.about);
    text += &format!(
        ".PP\nThe program is called {}. The pages of both programs have other names, as head(1) \
         is of coreutils.\n",
        program.name
    );
    if !program.jobs.is_empty() {
        text += ".SS Jobs\n";
    }
    for (job, about) in &program.jobs {
        text += &entry(&bold(job), about);
    }
    if let Some(job) = &page.job {
        text += &format!(".SS The job{}\n{}", job.job, paragraphs(job.about));
    }
    text += &options(program);
    text += &exit_status(program);
    text += ".SH ENVIRONMENT\n";
    for (name, about) in &page.environment {
        text += &entry(&bold(name), about);
    }
    text += ".SH FILES\n";
    let key = "the key, unless something else names one; only its owner may be able to read it";
    text += &entry(&bold(keyfile::DEFAULT_PATH), key);
    let (first, rest) = program.limits.split_at(1);
    text += &section("LIMITS", &(first.to_uppercase() + rest));
    text += ".SH EXAMPLES\n.EX\n";
    for example in both().flat_map(|program| program.examples) {
        text += &format!("{}\n", escaped(example));
    }
    text += &format!(".EE\n.SH SEE ALSO\n.BR {} (1)\n", escaped(page.other));
    text
}

fn options(program: &Program) -> String {
    let mut text = ".SH OPTIONS\n".to_owned();
    for (title, flags) in program.groups.iter().chain(&program.hidden) {
        text += &format!(".SS {}\n", escaped(title));
        for flag in flags {
            let short = match flag.short {
                "" => String::new(),
                letter => format!("{}, ", bold(&format!("-{letter}"))),
            };
            let value = match flag.value {
                "" => String::new(),
                value => format!(" \\fI{}\\fR", escaped(value)),
            };
            let long = bold(&format!("--{}", flag.long));
            text += &entry(&format!("{short}{long}{value}"), &flag.about);
        }
    }
    text
}

fn exit_status(program: &Program) -> String {
    let mut text = ".SH EXIT STATUS\n".to_owned();
    for (index, (title, exits)) in program.exits.iter().enumerate() {
        if index > 0 {
            text += &format!(".PP\n{}:\n", escaped(title));
        }
        for (exit, about) in *exits {
            text += &entry(&bold(&exit.code().to_string()), about);
        }
    }
    text
}

fn section(title: &str, text: &str) -> String {
    format!(".SH {title}\n{}", paragraphs(text))
}

fn paragraphs(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|text| format!("{}\n", escaped(&wrapped(text))));
    paragraphs.collect::<Vec<_>>().join(".PP\n")
}

fn entry(name: &str, about: &str) -> String {
    format!(".TP\n{name}\n{}\n", escaped(&wrapped(about)))
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

/// As itself in every line: nothing in it is a request or an escape, and what looks alike stays
/// what it is, so that a command can be copied.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut escaped = String::new();
        if line.starts_with(['.', '\'']) {
            escaped.push_str("\\&");
        }
        for c in line.chars() {
            match c {
                '\\' => escaped.push_str("\\e"),
                '-' => escaped.push_str("\\-"),
                '\'' => escaped.push_str("\\(aq"),
                '`' => escaped.push_str("\\(ga"),
                '^' => escaped.push_str("\\(ha"),
                '~' => escaped.push_str("\\(ti"),
                c => escaped.push(c),
            }
        }
        escaped
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_manual_pages_say_what_help_says() {
    for page in pages() {
        let path = path(&format!("docs/man/{}.1", page.name));
        let made = manual(&page);
        if std::env::var_os("UPDATE_MAN").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "{} is out of date: {UPDATE}",
            path.display()
        );
    }
}

#[test]
fn the_readme_has_every_exit_code_as_help_does() {
    let [head, worker] = pages().map(|page| page.program.exits);
    let columns: [Exits; 3] = [head[0].1, worker[0].1, worker[1].1];
    let mut codes: Vec<u8> = columns
        .concat()
        .iter()
        .map(|(exit, _)| exit.code())
        .collect();
    codes.sort();
    codes.dedup();
    let readme = fs::read_to_string(path("README.md")).unwrap();
    for code in codes {
        let cells = columns.map(|exits| {
            let about = exits.iter().find(|(exit, _)| exit.code() == code);
            format!(" {} |", about.map_or("", |(_, about)| about))
        });
        let row = format!("\n| {code} |{}\n", cells.concat());
        assert!(readme.contains(&row), "README.md lacks{row}");
    }
}

#[test]
fn nothing_in_a_text_is_a_request_or_an_escape() {
    assert_eq!(
        escaped(".x\n'y\\z - a^b~c`d'"),
        "\\&.x\n\\&\\(aqy\\ez \\- a\\(hab\\(tic\\(gad\\(aq"
    );
}
