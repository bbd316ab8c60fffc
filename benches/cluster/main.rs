//! How fast a head and its workers are, beside what the machine allows.
//!
//! What it is: the command line, and the processes that this program starts of itself. What it is
//! not: a test; `cargo bench --bench cluster -- --help` says what it measures.
//!
//! Invariant: processes of their own on loopback TCP, and in every figure each task has its number,
//! attempt, outcome and ledger entry, and each output is checked.

mod args;
mod bulk;
mod figures;
mod floor;
mod load;
mod process;
mod roles;
mod seal;
mod sections;

use std::process::ExitCode;

use args::Args;
use figures::Figures;
use sections::{Bench, Section};

const USAGE: &str = "\
Usage: cargo bench --bench cluster -- [--quick] [--json FILE] [SECTION...]
Each figure is the median of 5 rounds (3 with --quick, on a tenth of the tasks; rtt
has five times as many), with its range. What is compared runs in turn within each
round. All sections but long are the default.

Sections:";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("--child").is_some() {
        let role = words.next().expect("which");
        be(&role, &Args::parse(words));
        return ExitCode::SUCCESS;
    }
    let (mut bench, mut json, mut sections) = (Bench { is_quick: false }, None, Vec::new());
    while let Some(word) = words.next() {
        match &word[..] {
            // Cargo's own.
            "--bench" => {}
            "--quick" => bench.is_quick = true,
            "--json" if words.peek().is_some() => json = words.next(),
            name => match Section::ALL.into_iter().find(|s| s.name() == name) {
                Some(section) => sections.push(section),
                None => return usage(),
            },
        }
    }
    if sections.is_empty() {
        sections = Section::ALL.to_vec();
        sections.retain(|&section| section != Section::Long);
    }
    let mut figures = Figures::default();
    for section in sections {
        section.measure(&bench, &mut figures);
        print!("{}", figures.table(section));
    }
    if let Some(path) = json
        && let Err(error) = std::fs::write(&path, figures.json())
    {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("{USAGE}");
    for section in Section::ALL {
        println!("  {:<8} {}", section.name(), section.about());
    }
    ExitCode::from(2)
}

/// One of the processes of a measurement.
fn be(role: &str, args: &Args) {
    match role {
        "head" => roles::head(args),
        "worker" => roles::worker(args),
        "floor" => floor::head(args),
        "floor-server" => floor::server(args),
        "bulk" => bulk::head(args),
        "bulk-server" => bulk::server(args),
        other => panic!("no process is called {other}"),
    }
}
