//! Teamster: one head sends tasks over TCP to many workers; no task is ever lost.
#![warn(missing_docs)]

pub mod format;
pub mod frame;
pub mod kernel;
pub mod kernels;
pub mod limits;
pub mod options;
pub mod payload;
pub mod rng;
pub mod role;
pub mod serial;
pub mod time;
