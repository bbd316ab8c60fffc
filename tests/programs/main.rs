//! The real programs and the library, as people use them: processes on loopback.
//!
//! What it is: one test program of many files, because each program of its own takes as long to build
//! as all of these. What it is not: the roles alone (`roles`, `sim`), or machines of their own
//! (`chaos`). One file of it: `cargo test --test programs flood::`.
//!
//! Invariant: no test needs a port, a file or a moment of its own; all run beside each other.

mod blackhole;
mod check;
mod cli;
mod cluster;
mod common;
mod drain;
mod examples;
mod flood;
mod golden;
mod hostile;
mod journal;
#[cfg(feature = "noise")]
mod key;
#[cfg(feature = "noise")]
mod keyed;
mod loopback;
mod map;
mod messages;
mod output;
mod payloads;
mod poison;
#[path = "../chaos/process.rs"]
#[allow(dead_code)]
mod process;
mod program;
mod python_worker;
#[path = "../chaos/quota.rs"]
#[allow(dead_code)]
mod quota;
mod readme;
mod silence;
mod status;
mod strangers;
mod supervisor;
mod tail;
mod throttled;
mod timeout;
mod trace;
mod wording;
