//! Teamster: one head sends tasks over TCP to many workers; no task is ever lost.
#![warn(missing_docs)]

pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
pub mod limits;
pub mod payload;
pub mod rng;
pub mod role;
pub mod time;
