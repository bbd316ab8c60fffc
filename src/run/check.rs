//! `head check`: whether the workers can be used.
//!
//! What it is: the role on real sockets, and what it found on standard output and standard error. What
//! it is not: the wording, which is the role's.
//!
//! Invariant: every worker has one line, in the order given; only an interrupted check has fewer.

use std::io::{self, ErrorKind, Write};

use log::error;

use super::{Failure, failure, head_keys, new_reactor, workers};
use crate::check::Check;
use crate::frame::Side;
use crate::kernels::builtin;
use crate::limits::PAYLOAD_BYTES_DEFAULT;
use crate::options::HeadOptions;
use crate::role::Exit;
use crate::signals;

pub(super) fn check(options: &HeadOptions) -> Result<Exit, Failure> {
    let keys = head_keys(options)?;
    let mut reactor = new_reactor(Side::Head, PAYLOAD_BYTES_DEFAULT, keys.as_ref())
        .map_err(failure("cannot start the event loop"))?;
    let signals = signals::catch(Exit::Interrupted.code());
    reactor
        .watch_signals(signals.map_err(failure("cannot catch signals"))?)
        .map_err(failure("cannot watch for signals"))?;
    let (names, targets) = workers(options, &builtin(), keys.as_ref())?;
    reactor.set_targets(targets);
    let mut role = Check::new(names, options.job.clone());
    let ran = reactor.run(&mut role);
    let exit = ran.map_err(failure("the event loop failed"))?;
    let mut text = String::new();
    for (name, found) in role.findings() {
        match found {
            Ok(finding) => {
                let words = finding.words(keys.is_some(), role.kernel());
                text.push_str(&format!("worker {name}: {words}\n"));
            }
            Err(reason) => error!("worker {name}: {reason}"),
        }
    }
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(exit),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::ReaderGone),
        Err(error) => Err(failure("cannot write standard output")(error)),
    }
}
