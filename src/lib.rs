//! Teamster: one head sends tasks over TCP to many workers; no task is ever lost.
#![warn(missing_docs)]

pub mod buffer;
pub mod channel;
pub mod conns;
pub mod depth;
pub mod failures;
pub mod format;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod hash;
pub mod head;
pub mod journal;
pub mod kernel;
pub mod kernels;
pub mod key;
pub mod keyfile;
pub mod lanes;
pub mod limiter;
pub mod limits;
pub mod mailbox;
pub mod messages;
pub mod network;
pub mod options;
pub mod output;
pub mod overview;
pub mod payload;
pub mod pool;
pub mod progress;
pub mod rate;
pub mod reactor;
pub mod recorder;
pub mod report;
pub mod rng;
pub mod role;
pub mod run;
pub mod scheduler;
pub mod screen;
pub mod serial;
pub mod signals;
pub mod silence;
pub mod status;
pub mod time;
pub mod trace;
pub mod words;
pub mod worker;
