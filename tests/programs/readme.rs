//! README.md shows what is really printed.
//!
//! What it is: its first block, run. What it is not: the blocks that need a terminal, or workers
//! that are out of reach; `tests/programs/check.rs` has their lines.
//!
//! Invariant: figures may differ, words may not.

use std::fs;
use std::process::Command;

use crate::common::{Process, Worker};

#[test]
fn the_first_block_is_what_is_printed() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = readme.split("```console\n$ head ").nth(1).expect("a block");
    let (args, rest) = block.split_once('\n').unwrap();
    let shown = rest.split("```").next().unwrap();
    let workers = ["10.0.0.11:5000", "10.0.0.12:5000"].map(|name| (name, Worker::start(1)));
    let (mut args, mut shown) = (args.to_owned(), shown.to_owned());
    for (name, worker) in &workers {
        args = args.replace(name, &worker.address);
        shown = shown.replace(name, &worker.address);
    }
    let script = format!("exec {} {args} 2>&1", env!("CARGO_BIN_EXE_head"));
    let ended = Process::start(Command::new("sh").args(["-c", &script])).end();
    let ended = ended.expect(0);
    assert_eq!(words(ended.text()), words(&shown), "{}", ended.text());
}

/// Lines with `#` for every number, whatever its unit, and without what only some runs have to
/// tell.
fn words(text: &str) -> String {
    let mut words = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' | '.' if words.ends_with('#') => {}
            '0'..='9' => words.push('#'),
            c => words.push(c),
        }
    }
    let words = words.replace(", # returned", "").replace(", # late", "");
    words.replace(" KiB", " B")
}
