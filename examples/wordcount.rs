//! How often each word occurs in some files, counted on as many machines as there are.
//!
//! What it is: a worker and a head in one program. What it is not: a reader of files on the
//! workers; they see pieces of text and nothing else.
//!
//! ```sh
//! wordcount local FILE...                                     # the most frequent words
//! wordcount worker --key-file key                             # there, as `worker`
//! TEAMSTER_KEY_FILE=key wordcount 10.0.0.11,10.0.0.12 FILE... # here
//! ```
//!
//! Invariant: a word is never cut, so the sum over the pieces is the count of the whole.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use teamster::{Cluster, Kernels};

const PIECE_BYTES: usize = 256 << 10;
const SHOWN: usize = 10;

/// From a text to lines of a word and its count.
fn count(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut counts = BTreeMap::<String, u64>::new();
    for word in String::from_utf8_lossy(text).split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let lines = counts
        .iter()
        .map(|(word, count)| format!("{word} {count}\n"));
    Ok(lines.collect::<String>().into_bytes())
}

/// Pieces of about the same length that end where words do.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let after = text.get(PIECE_BYTES..).unwrap_or_default();
        let rest = after.iter().position(u8::is_ascii_whitespace);
        let (piece, left) = text.split_at(text.len() - rest.map_or(0, |at| after.len() - at));
        text = left;
        (!piece.is_empty()).then(|| piece.to_vec())
    })
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let kernels = Kernels::new().with_fn("wordcount", count);
    let mut args = env::args_os().skip(1);
    let first = args
        .next()
        .ok_or("who? worker, local, or a list of workers")?;
    let cluster = match first.to_str().ok_or("workers have names in UTF-8")? {
        "worker" => return Ok(teamster::worker(args, kernels)),
        "local" => Cluster::local(2, &kernels)?,
        workers => Cluster::connect(workers)?,
    };
    let mut total = BTreeMap::<String, u64>::new();
    for path in args {
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for counts in cluster.map("wordcount", &[], pieces(&text))? {
            for line in String::from_utf8(counts?)?.lines() {
                let (word, count) = line.split_once(' ').ok_or("not a word and a count")?;
                *total.entry(word.into()).or_default() += count.parse::<u64>()?;
            }
        }
    }
    let mut words: Vec<_> = total.into_iter().collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (word, count) in words.iter().take(SHOWN) {
        println!("{count:8} {word}");
    }
    Ok(ExitCode::SUCCESS)
}
