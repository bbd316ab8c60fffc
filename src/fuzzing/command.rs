//! What must hold of the bytes of the job `map`, whatever they are.
//!
//! What it is: the body of the fuzz target `command`. What it is not: a run of a program.
//!
//! Invariant: what is accepted is encoded as it came, and what may be run is what a system takes.

use crate::command::{CommandLine, Mode, Report};
use crate::limits::{ARGUMENT_BYTES_MAX, ARGUMENTS_BYTES_MAX};

/// The length of a line (one byte), the line, and a set-up; and all of it as a report.
pub fn command(bytes: &[u8]) {
    if let Some(report) = Report::decode(bytes) {
        let mut encoded = Vec::new();
        report.encode(&mut encoded);
        assert_eq!(encoded, bytes);
    }
    let Some((&length, rest)) = bytes.split_first() else {
        return;
    };
    let (line, setup) = rest.split_at(rest.len().min(length.into()));
    let Ok(command) = CommandLine::decode(setup) else {
        return;
    };
    assert_eq!(command.encode(), setup);
    match command.argv(line) {
        Ok(argv) => {
            assert_eq!(argv[0], command.words()[0]);
            assert!(argv.iter().all(|word| !word.contains(&0)));
            assert!(argv.iter().all(|word| word.len() <= ARGUMENT_BYTES_MAX));
            assert!(argv.iter().map(Vec::len).sum::<usize>() <= ARGUMENTS_BYTES_MAX);
            let is_alone = argv[1..].iter().any(|word| word == line);
            assert!(
                is_alone || argv.len() == command.words().len(),
                "it was appended"
            );
        }
        Err(_) => assert!(command.check(line).is_err() && command.mode() == Mode::PerTask),
    }
}
