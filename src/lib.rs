//! One head sends tasks over TCP to many workers; no task is ever lost.
//!
//! The programs `head` and `worker` need no line of Rust. This library is for functions of your
//! own: a *kernel* is a function from bytes to bytes that has a name; a *worker* is a program that
//! has kernels; a [`Cluster`] maps a kernel over an iterator, on all its workers at once.
//!
//! ```text
//!                         inputs                      your program, or another one:
//!   your iterator ──► Cluster::map ── TCP ──┬──►  worker on 10.0.0.11 ── "count-words"
//!                           │               └──►  worker on 10.0.0.12 ── "count-words"
//!   your loop    ◄──── Results ◄────────────┴────  outputs
//! ```
//!
//! # A worker and a head
//!
//! A worker of your own is a program of its own, or the same one called differently. It has all
//! options of `worker`, `--help` among them.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use teamster::{Cluster, Error, Kernels};
//!
//! fn kernels() -> Kernels {
//!     Kernels::new().with_fn("count-words", |text| {
//!         let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
//!         Ok(text.split_whitespace().count().to_be_bytes().to_vec())
//!     })
//! }
//!
//! fn count(cluster: &Cluster, texts: Vec<String>) -> Result<usize, Error> {
//!     let mut sum = 0;
//!     for output in cluster.map("count-words", &[], texts)? {
//!         sum += usize::from_be_bytes(output?.try_into().expect("8 bytes"));
//!     }
//!     Ok(sum)
//! }
//!
//! fn main() -> ExitCode {
//!     let mut args = std::env::args_os().skip(1).peekable();
//!     if args.next_if(|arg| arg == "worker").is_some() {
//!         return teamster::worker(args, kernels());
//!     }
//!     let cluster = Cluster::connect("10.0.0.11,10.0.0.12").expect("two addresses");
//!     println!("{:?}", count(&cluster, vec!["to be or".into(), "not to be".into()]));
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! With the same key on all machines, which `head --keygen` makes and [`Cluster::key_file`] or a file
//! `/etc/teamster/key` names, start `my-program worker` on both and `my-program` on a third. What a
//! key is for is in docs/SECURITY.md. To try it on one machine, and for tests, there are workers
//! inside the process, on real sockets all the same:
//!
//! ```
//! use teamster::{Cluster, Kernels};
//!
//! let kernels = Kernels::new().with_fn("reverse", |input| {
//!     Ok(input.iter().rev().copied().collect())
//! });
//! let cluster = Cluster::local(2, &kernels)?;
//! let outputs: Result<Vec<_>, _> = cluster.map("reverse", &[], ["stop", "deer"])?.collect();
//! assert_eq!(outputs?, [b"pots", b"reed"]);
//! # Ok::<(), teamster::Error>(())
//! ```
//!
//! # What is guaranteed
//!
//! * One result per input, in the order of the inputs. A worker that dies, falls silent or comes late
//!   costs time, not results; one that comes up later joins.
//! * **A kernel may run more than once for one input**: when a worker was lost, or, at the end of a run,
//!   to end sooner ([`Cluster::no_duplicates`] forbids the latter). One of the outputs counts. So a
//!   kernel should be a function: its output depends on its input and set-up, and it changes nothing
//!   else.
//! * What an input's kernel says is final: an error is not tried again. An input at which workers die
//!   again and again is given up ([`Cluster::attempts`]).
//! * Memory is bounded, however many inputs there are: they are pulled when there is room for them.
//! * A run ends: without any worker that can be used it does so after [`Cluster::give_up`].
//!
//! # Set-ups, and kernels that can be stopped
//!
//! [`Kernels::with_fn`] takes a function. What all inputs of a run have in common (a model, a
//! table, a parameter) travels once, as the set-up; [`Kernels::with`] makes a kernel of it:
//!
//! ```
//! use std::sync::Arc;
//! use teamster::{Cluster, Kernels};
//!
//! let kernels = Kernels::new().with("add", |setup| {
//!     let [term] = *setup else { return Err("one byte, please".into()) };
//!     Ok(Arc::new(move |input: &[u8]| Ok(input.iter().map(|byte| byte + term).collect())))
//! });
//! let cluster = Cluster::local(1, &kernels)?;
//! let mut outputs = cluster.map("add", &[5], [[1, 2], [3, 4]])?;
//! assert_eq!(outputs.next().unwrap()?, [6, 7]);
//! # Ok::<(), teamster::Error>(())
//! ```
//!
//! A function cannot be told to stop. One that runs for long should implement [`Kernel`] itself,
//! and return when its [`Stop`] is raised: then a head that goes away, or [`Cluster::timeout`],
//! does not leave it computing for nobody.
//!
//! # Errors
//!
//! [`Error::Failed`] and [`Error::TimedOut`] answer one input, and the next result follows.
//! [`Error::NoWorker`] and [`Error::System`] end the run; the others come before it. A kernel that panics has failed, and its
//! worker goes on. What happens to workers meanwhile is told to the [`log`] crate: with a logger
//! such as env_logger a program says `worker 10.0.0.11:5000 is gone: …; 3 tasks go elsewhere`.
//!
//! # Limits
//!
//! Inputs, set-ups and outputs have up to 1 MiB each, and 64 MiB at most, by [`Cluster::payload_max`]
//! here and `--payload-max` at the workers. A kernel's name has up to 255 bytes. Workers and heads are
//! Linux programs.
//!
//! # The rest of this crate
//!
//! The modules that are not shown here are what the programs, their tests and benchmarks are made
//! of; they change without notice. docs/ARCHITECTURE.md is their map.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod alone;
#[doc(hidden)]
pub mod buffer;
#[doc(hidden)]
pub mod channel;
#[doc(hidden)]
pub mod check;
mod cluster;
#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod conns;
#[doc(hidden)]
pub mod counter;
#[doc(hidden)]
pub mod depth;
#[doc(hidden)]
pub mod failures;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod gauge;
#[doc(hidden)]
pub mod hash;
#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod input;
#[doc(hidden)]
pub mod journal;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod kernels;
#[doc(hidden)]
pub mod key;
#[doc(hidden)]
pub mod keyfile;
#[doc(hidden)]
pub mod lanes;
#[doc(hidden)]
pub mod limiter;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod lines;
#[doc(hidden)]
pub mod mailbox;
#[doc(hidden)]
pub mod messages;
#[doc(hidden)]
pub mod network;
#[doc(hidden)]
pub mod options;
#[doc(hidden)]
pub mod output;
#[doc(hidden)]
pub mod overview;
#[doc(hidden)]
pub mod parcel;
#[doc(hidden)]
pub mod payload;
#[doc(hidden)]
pub mod pool;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod rate;
#[doc(hidden)]
pub mod reactor;
#[doc(hidden)]
pub mod recorder;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod rng;
#[doc(hidden)]
pub mod role;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod scheduler;
#[doc(hidden)]
pub mod screen;
#[doc(hidden)]
pub mod serial;
#[doc(hidden)]
pub mod signals;
#[doc(hidden)]
pub mod silence;
#[doc(hidden)]
pub mod status;
#[doc(hidden)]
pub mod stopwatch;
#[doc(hidden)]
pub mod supervisor;
#[doc(hidden)]
pub mod throttle;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod words;
#[doc(hidden)]
pub mod worker;

pub use cluster::{Cluster, Error, Results};
pub use kernel::{Kernel, KernelError, Kernels, Stop, Words};
pub use run::own_worker as worker;
