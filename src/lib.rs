//! Teamster: one head sends tasks over TCP to many workers; no task is ever lost.
#![warn(missing_docs)]

pub mod buffer;
pub mod command;
pub mod conns;
pub mod depth;
pub mod format;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod hash;
pub mod head;
pub mod journal;
pub mod kernel;
pub mod kernels;
pub mod lanes;
pub mod limiter;
pub mod limits;
pub mod mailbox;
pub mod messages;
pub mod network;
pub mod options;
pub mod output;
pub mod payload;
pub mod pool;
pub mod reactor;
pub mod recorder;
pub mod rng;
pub mod role;
pub mod run;
pub mod scheduler;
pub mod serial;
pub mod signals;
pub mod silence;
pub mod time;
pub mod worker;
