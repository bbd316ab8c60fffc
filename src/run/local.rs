//! Workers inside the head's process.
//!
//! What it is: what starts them, on real sockets and with a key that nobody else has. What it is not:
//! a short cut; they are workers like all others.
//!
//! Invariant: one that ends for want of slots is started again at its address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread;

use log::error;

use super::{incarnation, new_reactor};
use crate::channel;
use crate::frame::Side;
use crate::kernel::Kernels;
use crate::key::Keys;
use crate::keyfile;
use crate::options::HeadOptions;
use crate::reactor::Reactor;
use crate::role::Exit;
use crate::worker::{Worker, WorkerConfig};

/// A key for them, unless this build has no encryption.
pub(crate) fn local_keys() -> io::Result<Option<Keys>> {
    let key = channel::IS_AVAILABLE.then(keyfile::random).transpose()?;
    Ok(key.map(Keys::from))
}

pub(super) fn local_config(options: &HeadOptions, kernels: &Kernels) -> WorkerConfig {
    let mut config = WorkerConfig::new(1, kernels.clone());
    config.payload_bytes_max = options.payload_max_bytes;
    config
}

/// Starts a worker inside this process, on a real socket of its own. A byte from `stop` ends it.
pub(crate) fn start_local(
    config: WorkerConfig,
    keys: Option<Keys>,
    stop: Option<UnixStream>,
) -> io::Result<SocketAddr> {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let (reactor, address) = local_reactor(any, &config, keys.as_ref(), stop.as_ref())?;
    let work = move || {
        if let Err(error) = serve_locally(reactor, address, config, keys.as_ref(), stop.as_ref()) {
            // The head notices that the worker is silent, as with any other.
            error!("a local worker stopped: {error}");
        }
    };
    thread::Builder::new().name("worker".into()).spawn(work)?;
    Ok(address)
}

fn local_reactor(
    at: SocketAddr,
    config: &WorkerConfig,
    keys: Option<&Keys>,
    stop: Option<&UnixStream>,
) -> io::Result<(Reactor, SocketAddr)> {
    let mut reactor = new_reactor(Side::Worker, config.payload_bytes_max, keys)?;
    let address = reactor.listen(at)?;
    reactor.start_pool(config.slots)?;
    if let Some(stop) = stop {
        reactor.watch_signals(stop.try_clone()?)?;
    }
    Ok((reactor, address))
}

/// Runs a local worker, and another one at the same address whenever it ends for want of slots: this
/// program is its supervisor. The threads that do not return stay behind.
fn serve_locally(
    mut reactor: Reactor,
    address: SocketAddr,
    mut config: WorkerConfig,
    keys: Option<&Keys>,
    stop: Option<&UnixStream>,
) -> io::Result<()> {
    loop {
        config.incarnation = incarnation();
        if reactor.run(&mut Worker::new(config.clone()))? != Exit::Failed {
            return Ok(());
        }
        (reactor, _) = local_reactor(address, &config, keys, stop)?;
    }
}
