//! The command lines of `head` and `worker`.
//!
//! What it is: [`HeadOptions`] and [`WorkerOptions`], what was meant rather than what was typed, and
//! [`Early`], how a command line ends a program before it begins. What it is not: a reader of the
//! environment or of files (but for `--keygen`, which writes one and is done), or a resolver of names.
//!
//! Invariant: whatever is typed gives options within the limits or an [`Early`] that says which part
//! of it is wrong and what would be right; nothing is ignored.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::keyfile;
use crate::role::Exit;

mod address;
mod cli;
mod head;
mod help;
mod job;
#[cfg(test)]
mod pages;
mod worker;

pub use address::{Address, workers};
pub use head::{Cluster, HeadOptions, JournalOptions};
pub use worker::WorkerOptions;

/// Most pool threads of a worker, and most workers inside one head: a thousand is already more than
/// any machine has a use for, and a mistyped number must not take all its memory.
const THREADS_MAX: u64 = 1024;

/// Why a program ends before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Early {
    /// What `--help` or `--version` asked for.
    Answer(String),
    /// `--keygen` asked for a new key in this file.
    Keygen(PathBuf),
    /// What is wrong with the command line.
    Usage(String),
}

impl Early {
    /// Does what was asked for, says so where it belongs, and gives the exit code: 0, or 2 for bad
    /// usage. An answer that cannot be written ends as results would: 141 if its reader went away,
    /// otherwise 5, as does a key.
    pub fn report(&self) -> u8 {
        self.report_to(&mut io::stdout(), &mut io::stderr())
    }

    fn report_to(&self, out: &mut impl Write, err: &mut impl Write) -> u8 {
        let exit = match self {
            Early::Answer(text) => match writeln!(out, "{text}").and_then(|()| out.flush()) {
                Ok(()) => Exit::Done,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::ReaderGone,
                Err(_) => Exit::Output,
            },
            Early::Keygen(path) => {
                let made = keyfile::generate(path);
                // As below.
                let _ = match &made {
                    Ok(()) => writeln!(err, "{}", next_with_key(path)),
                    Err(reason) => writeln!(err, "head: {reason}"),
                };
                made.map_or(Exit::Output, |()| Exit::Done)
            }
            Early::Usage(text) => {
                // With standard error gone there is nobody left to tell; the exit code still does.
                let _ = writeln!(err, "{text}");
                Exit::Usage
            }
        };
        exit.code()
    }
}

/// What to do with a new key.
fn next_with_key(path: &Path) -> String {
    format!(
        "{} has a new key. Copy it to the machines of the head and of every worker, readable by one\n\
         user only, as {}, or anywhere and name it by --key-file.",
        path.display(),
        keyfile::DEFAULT_PATH
    )
}

/// Bytes in the largest unit that divides them.
fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(64 << 10), "64 KiB");
        assert_eq!(size(1025), "1025 bytes");
    }

    /// Fails every write in its own way.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn early_ends_go_where_they_belong() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let answer = Early::Answer("an answer".into());
        assert_eq!(answer.report_to(&mut out, &mut err), 0);
        let usage = Early::Usage("wrong".into());
        assert_eq!(usage.report_to(&mut out, &mut err), 2);
        assert_eq!((&out[..], &err[..]), (&b"an answer\n"[..], &b"wrong\n"[..]));
    }

    #[test]
    fn early_ends_survive_closed_pipes_and_full_disks() {
        let answer = Early::Answer("an answer".into());
        for (kind, code) in [(ErrorKind::BrokenPipe, 141), (ErrorKind::StorageFull, 5)] {
            assert_eq!(answer.report_to(&mut Broken(kind), &mut io::sink()), code);
        }
        let usage = Early::Usage("wrong".into());
        let mut broken = Broken(ErrorKind::BrokenPipe);
        assert_eq!(usage.report_to(&mut io::sink(), &mut broken), 2);
    }

    #[test]
    fn whatever_is_typed_gives_options_or_an_early_end() {
        const PIECES: [&str; 24] = [
            "-",
            "--",
            "w",
            "workers",
            "local",
            "=",
            "5",
            "-5",
            "0",
            "_",
            ",",
            ":",
            "[",
            "]",
            "::1",
            "primes",
            "square",
            "count",
            "format",
            "json",
            "o",
            "é",
            " ",
            "999999999999999999999",
        ];
        let mut rng = crate::rng::SplitMix64::new(1);
        for _ in 0..20_000 {
            let mut args = vec![std::ffi::OsString::new(); rng.below(5) as usize];
            for arg in &mut args {
                for _ in 0..rng.below(5) {
                    arg.push(PIECES[rng.below(PIECES.len() as u64) as usize]);
                }
            }
            for early in [
                HeadOptions::parse(args.clone()).err(),
                WorkerOptions::parse(args).err(),
            ] {
                assert!(!matches!(early, Some(Early::Usage(text)) if text.is_empty()));
            }
        }
    }
}
