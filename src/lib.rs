//! Teamster: one head sends tasks over TCP to many workers; no task is ever lost.
#![warn(missing_docs)]

pub mod conns;
pub mod depth;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod head;
pub mod kernel;
pub mod lanes;
pub mod limits;
pub mod mailbox;
pub mod output;
pub mod payload;
pub mod pool;
pub mod reactor;
pub mod rng;
pub mod role;
pub mod scheduler;
pub mod silence;
pub mod time;
pub mod worker;
