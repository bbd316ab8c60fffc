//! The faults themselves.
//!
//! What it is: [`inject`], which does to a running cluster what the plan says, and [`Evidence`] of
//! whether that met any work. What it is not: a judge of how the cluster bore it.
//!
//! Invariant: what was stopped goes on again, what was killed is started again, and the cable is in
//! again, even if the head ends meanwhile.

use std::time::{Duration, Instant};

use teamster::limits::GRACE_DEFAULT;

use crate::cluster::{Cluster, Tally};
use crate::plan::{Fault, Plan};
use crate::proxy::Mode;
use crate::quota::Quota;

/// What must hold for the fault to have met work in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Attempts of this worker were lost.
    Lost(usize),
    LostByAny,
    /// It finished some tasks.
    Done(usize),
    /// The head has printed more than so many bytes.
    Printed(usize),
    /// That is known already.
    Known(bool),
    /// The quota was used up.
    Throttled,
}

impl Evidence {
    /// Whether it did.
    pub fn holds(self, tallies: &[Tally], cluster: &Cluster) -> bool {
        match self {
            Evidence::Lost(worker) => tallies[worker].lost > 0,
            Evidence::LostByAny => tallies.iter().any(|tally| tally.lost > 0),
            Evidence::Done(worker) => tallies[worker].done > 0,
            Evidence::Printed(before) => {
                let head = cluster.head.as_ref();
                head.is_some_and(|head| head.stdout.len() > before)
            }
            Evidence::Known(known) => known,
            Evidence::Throttled => cluster.quota.as_ref().is_some_and(|q| q.throttled() > 0),
        }
    }
}

/// Waits for the time of the fault and lets it happen, with all that belongs to it.
pub fn inject(plan: &Plan, cluster: &mut Cluster) -> Result<Evidence, String> {
    let victim = plan.victim;
    if !cluster.pause(plan.at) {
        return Ok(Evidence::Known(false));
    }
    match plan.fault {
        Fault::Kill => {
            cluster.worker(victim).kill();
            cluster.pause(plan.lasts);
            cluster.start_worker(victim, plan.slots[victim])?;
            Ok(Evidence::Lost(victim))
        }
        Fault::KillBoth => {
            cluster.worker(victim).kill();
            cluster.worker(1 - victim).kill();
            cluster.pause(plan.lasts);
            cluster.start_worker(victim, plan.slots[victim])?;
            cluster.pause(Duration::from_millis(plan.extra_ms));
            cluster.start_worker(1 - victim, plan.slots[1 - victim])?;
            Ok(Evidence::LostByAny)
        }
        Fault::Drain => drain(plan, cluster).map(Evidence::Known),
        Fault::Stop5 => stop(plan, cluster).map(Evidence::Known),
        Fault::Stop15 => stop(plan, cluster).map(|_| Evidence::Lost(victim)),
        Fault::StopHead => {
            cluster.head().signal("STOP")?;
            let before = cluster.head().stdout.len();
            cluster.pause(plan.lasts);
            cluster.head().signal("CONT")?;
            Ok(Evidence::Printed(before))
        }
        Fault::Down20 | Fault::Down90 => {
            cluster.net.set_link(victim, false)?;
            cluster.pause(plan.lasts);
            cluster.net.set_link(victim, true)?;
            Ok(Evidence::Lost(victim))
        }
        Fault::Delay | Fault::Dribble => slow(plan, cluster).map(Evidence::Known),
        Fault::Stall | Fault::Corrupt => slow(plan, cluster).map(|_| Evidence::Lost(victim)),
        Fault::Reset | Fault::Cut => cut_twice(plan, cluster).map(|()| Evidence::Lost(victim)),
        Fault::Quota => {
            let pid = cluster.worker(victim).pid();
            cluster.quota = Some(Quota::new(pid, 10)?);
            Ok(Evidence::Throttled)
        }
        Fault::Join => {
            cluster.start_worker(victim, plan.slots[victim])?;
            Ok(Evidence::Done(victim))
        }
    }
}

/// Has a worker end in good order, and starts it again. Says whether it had work then.
fn drain(plan: &Plan, cluster: &mut Cluster) -> Result<bool, String> {
    let worker = cluster.worker(plan.victim);
    worker.signal("TERM")?;
    // Its tasks are short: it must not need the whole of its time.
    let status = worker.wait_until(Instant::now() + GRACE_DEFAULT / 2);
    match status.map(|status| status.code()) {
        Some(Some(0)) => {}
        other => return Err(format!("told to end, the worker came to {other:?}")),
    }
    let had_work = worker.stderr.text().contains("about to end: what runs");
    cluster.pause(plan.lasts);
    cluster.start_worker(plan.victim, plan.slots[plan.victim])?;
    Ok(had_work)
}

/// Stops a worker for a while. Says whether it had work: then the results, which come in input order,
/// wait for it.
fn stop(plan: &Plan, cluster: &mut Cluster) -> Result<bool, String> {
    let settle = Duration::from_secs(1);
    cluster.worker(plan.victim).signal("STOP")?;
    cluster.pause(settle);
    let before = cluster.head().stdout.len();
    let was_running = cluster.pause(plan.lasts - settle);
    let after = cluster.head().stdout.len();
    cluster.worker(plan.victim).signal("CONT")?;
    Ok(was_running && before == after)
}

/// Lets the proxy mistreat what passes for a while. Says whether anything did.
fn slow(plan: &Plan, cluster: &mut Cluster) -> Result<bool, String> {
    let mode = match plan.fault {
        Fault::Delay => Mode::Delay(plan.extra_ms),
        Fault::Dribble => Mode::Dribble,
        // Handshake and greeting are shorter: what cannot even begin is another matter.
        Fault::Corrupt => Mode::Corrupt(400 + plan.extra_ms),
        _ => Mode::Stall,
    };
    proxy(cluster, mode)?;
    cluster.pause(plan.lasts);
    let touched = proxy(cluster, Mode::Pass)?;
    Ok(touched > 0)
}

/// Ends the connection through the proxy in a bad way, and the next one too.
fn cut_twice(plan: &Plan, cluster: &mut Cluster) -> Result<(), String> {
    let mode = match plan.fault {
        Fault::Reset => Mode::Reset,
        _ => Mode::Cut {
            to_worker: plan.extra_ms.is_multiple_of(2),
        },
    };
    proxy(cluster, mode)?;
    if cluster.pause(plan.lasts) {
        proxy(cluster, mode)?;
    }
    Ok(())
}

fn proxy(cluster: &mut Cluster, mode: Mode) -> Result<u64, String> {
    let proxy = cluster.proxy.as_mut();
    proxy.expect("the plan started one").command(mode)
}
