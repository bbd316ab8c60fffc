//! The committed fuzz seeds, under plain `cargo test`: every body accepts them, and together they
//! reach every kind of frame and every error, so that fuzzing starts behind the first checks.

use std::fs;
use std::path::Path;

use teamster::frame::{FrameError, Kind, Side};
use teamster::fuzzing::{self, Trace};

#[test]
fn frame() {
    let mut reached = Reached::default();
    for (name, bytes) in seeds("frame") {
        eprintln!("{name}"); // Shown only on failure: the last one is to blame.
        fuzzing::frame(&bytes);
        for ours in [Side::Head, Side::Worker] {
            reached.note(fuzzing::decode(ours, &bytes, []));
        }
    }
    reached.assert_all();
}

#[test]
fn chunks() {
    let mut reached = Reached::default();
    for (name, bytes) in seeds("chunks") {
        eprintln!("{name}");
        fuzzing::chunks(&bytes);
        let (ours, _, stream) = fuzzing::split_chunks(&bytes).expect("side and seed");
        reached.note(fuzzing::decode(ours, stream, []));
    }
    reached.assert_all();
}

#[test]
fn session() {
    let ends = seeds("session").into_iter().map(|(name, bytes)| {
        eprintln!("{name}");
        fuzzing::session(&bytes)
    });
    let ends: Vec<_> = ends.collect();
    for error in [
        None,
        Some(FrameError::Unkeyed),
        Some(FrameError::WrongKey),
        Some(FrameError::Forged),
    ] {
        let is_reached = ends.contains(&error) || !teamster::channel::IS_AVAILABLE;
        assert!(is_reached, "no seed ends in {error:?}");
    }
}

#[test]
fn roles() {
    for (name, bytes) in seeds("roles") {
        eprintln!("{name}");
        fuzzing::roles(&bytes);
    }
}

#[test]
fn journal() {
    for (name, bytes) in seeds("journal") {
        eprintln!("{name}");
        fuzzing::journal(&bytes);
    }
}

#[test]
fn arguments() {
    for (name, bytes) in seeds("arguments") {
        eprintln!("{name}");
        fuzzing::arguments(&bytes);
    }
}

#[test]
fn command() {
    for (name, bytes) in seeds("command") {
        eprintln!("{name}");
        fuzzing::command(&bytes);
    }
}

/// The committed seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut seeds: Vec<_> = fs::read_dir(folder)
        .expect("the seeds are committed")
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// What the seeds of one target have reached.
#[derive(Default)]
struct Reached {
    kinds: Vec<Kind>,
    errors: Vec<&'static str>,
}

impl Reached {
    fn note(&mut self, trace: Trace) {
        self.kinds.extend(trace.kinds);
        self.errors.extend(trace.error.as_ref().map(variant));
    }

    fn assert_all(&self) {
        for kind in Kind::ALL {
            assert!(self.kinds.contains(&kind), "no seed has a {kind:?}");
        }
        for error in VARIANTS {
            assert!(self.errors.contains(error), "no seed ends in {error}");
        }
    }
}

/// Names the variants once, for the list and for a `match` that a new variant breaks.
macro_rules! variants {
    ($($name:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($name)),*];

        fn variant(error: &FrameError) -> &'static str {
            match error {
                $(FrameError::$name { .. } => stringify!($name),)*
                FrameError::Unkeyed | FrameError::WrongKey | FrameError::Forged => {
                    unreachable!("a decoder knows no key")
                }
            }
        }
    };
}

variants! {
    NotTeamster Version SameSide Keyed NotGreeted UnknownKind Direction Reserved TooLong Short
    Trailing Value
}
