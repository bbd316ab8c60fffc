//! The library's own roles as processes, with the work of the measurement.
//!
//! What it is: a head with a [`Load`], and workers with the credit and the kernels that a figure
//! needs. What it is not: another reactor, pool or scheduler; those are the shipped ones.
//!
//! Invariant: what is observed costs a few instructions per event and changes none.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use teamster::frame::{Frame, Outcome, Side};
use teamster::head::{Head, HeadConfig};
use teamster::journal::Header;
use teamster::kernel::Workload;
use teamster::limits::{CREDIT_TASKS, PAYLOAD_BYTES_DEFAULT, SYNC_DEFAULT};
use teamster::reactor::{Reactor, Target};
use teamster::recorder::{JournalFile, Recorder};
use teamster::role::{ConnId, Event, Exit, Role, Sink};
use teamster::time::Time;
use teamster::worker::{Worker, WorkerConfig};

use crate::args::Args;
use crate::figures::percentile;
use crate::load::{Load, Work, kernels};
use crate::process::{Pair, cpu, peak_kib};
use crate::seal;

/// Starts as many workers as asked for, each with a reactor and a pool of its own, and works.
pub fn worker(args: &Args) {
    let start = |_| {
        let mut reactor = Reactor::new(Side::Worker, PAYLOAD_BYTES_DEFAULT).expect("a reactor");
        set_keys(&mut reactor, args);
        let address = reactor.listen((Ipv4Addr::LOCALHOST, 0).into());
        reactor.start_pool(1).expect("a thread");
        let mut config = WorkerConfig::new(args.number("slots"), kernels());
        config.credit_tasks = args.number("credit");
        let work = move || reactor.run(&mut Worker::new(config));
        (address.expect("a port"), thread::spawn(work))
    };
    let workers: Vec<_> = (0..args.number("workers")).map(start).collect();
    let addresses: Vec<String> = workers.iter().map(|(a, _)| a.to_string()).collect();
    println!("Listening on {}", addresses.join(","));
    for (_, thread) in workers {
        thread.join().expect("no panic").expect("it polls");
    }
}

/// The arguments of a worker with one slot and the usual credit.
pub fn one_slot() -> [Pair<'static>; 3] {
    [("workers", &1), ("slots", &1), ("credit", &CREDIT_TASKS)]
}

/// Runs a load to its end and prints what it was like.
pub fn head(args: &Args) {
    let count: u64 = args.number("count");
    let names: Vec<String> = args.addresses().map(str::to_owned).collect();
    let target = |name: &String| {
        let (host, port) = name.rsplit_once(':').expect("HOST:PORT");
        let (host, port) = (host.to_owned(), port.parse().expect("a port"));
        Target { host, port }
    };
    let mut reactor = Reactor::new(Side::Head, PAYLOAD_BYTES_DEFAULT).expect("a reactor");
    set_keys(&mut reactor, args);
    reactor.set_targets(names.iter().map(target).collect());
    let load = Load::new(Work::parse(args), count, args.find("rtt").is_some());
    let mut config = HeadConfig::new(names);
    if let Some(path) = args.find("journal") {
        reactor.set_journal(journal(path.as_ref(), &load, &reactor));
        config.is_journalled = true;
    }
    let mut role = Observed::new(Head::new(config, load), count);
    let exit = reactor.run(&mut role).expect("it polls");
    assert_eq!(exit, Exit::Done);
    if let Some(journal) = reactor.take_journal() {
        journal.finish().result.expect("it is durable");
    }
    role.print();
}

fn set_keys(reactor: &mut Reactor, args: &Args) {
    if args.find("keyed").is_some() {
        reactor.set_keys(seal::keys()).expect("randomness");
    }
}

fn journal(path: &Path, load: &Load, reactor: &Reactor) -> Recorder {
    let header = Header::new(load.kernel(), &load.setup(), &load.describe());
    let file = JournalFile::open(path, &header, false).expect("a new file");
    let end = file.reader().expect("a file").end();
    let recorder = file.record(end, SYNC_DEFAULT, reactor.mailbox());
    recorder.expect("a thread")
}

/// A head that counts what it is told.
struct Observed {
    head: Head<Load>,
    /// Outcomes at which all workers are there and warm: a tenth.
    warm_at: u64,
    warm: Counted,
    now: Counted,
    in_flight_max: usize,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    /// Times that a connection was read.
    visits: u64,
    outcomes: u64,
    cpu: Duration,
}

impl Observed {
    fn new(head: Head<Load>, count: u64) -> Observed {
        Observed {
            head,
            warm_at: count.div_ceil(10),
            warm: Counted::default(),
            now: Counted::default(),
            in_flight_max: 0,
        }
    }

    fn count(&mut self, outcomes: u64) {
        let was_warm = self.now.outcomes >= self.warm_at;
        self.now.outcomes += outcomes;
        if !was_warm && self.now.outcomes >= self.warm_at {
            self.now.cpu = cpu(std::process::id());
            self.warm = self.now;
        }
    }

    fn print(mut self) {
        let pid = std::process::id();
        self.now.cpu = cpu(pid);
        println!("peak_kib={}", peak_kib(pid));
        let outcomes = (self.now.outcomes - self.warm.outcomes) as f64;
        let cpu_us = (self.now.cpu - self.warm.cpu).as_secs_f64() * 1e6;
        println!("cpu_us_per_task={}", cpu_us / outcomes);
        let visits = self.now.visits - self.warm.visits;
        println!("tasks_per_visit={}", outcomes / visits as f64);
        println!("in_flight_max={}", self.in_flight_max);
        let load = self.head.workload();
        println!("seconds={}", (load.last - load.first).as_secs_f64());
        for times in [load.round_trips_us.as_ref(), Some(&load.waits_us)] {
            let Some(mut times) = times.filter(|times| !times.is_empty()).cloned() else {
                continue;
            };
            println!("p50_us={}", percentile(&mut times, 50));
            println!("p99_us={}", percentile(&mut times, 99));
        }
        let marks = &load.marks;
        if let (Some(first), Some(last)) = (marks.get(9), marks.len().checked_sub(11)) {
            println!("first_s={}", (*first - load.first).as_secs_f64());
            println!("last_s={}", (load.last - marks[last]).as_secs_f64());
        }
    }
}

impl Role for Observed {
    #[inline(always)]
    fn handle(&mut self, event: Event<'_>, now: Time, out: &mut impl Sink) {
        match &event {
            Event::Heard { .. } => self.now.visits += 1,
            Event::Frame {
                frame: Frame::Outcome(_),
                ..
            } => self.count(1),
            _ => {}
        }
        self.head.handle(event, now, out);
    }

    #[inline(always)]
    fn handle_outcomes<'a>(
        &mut self,
        conn: ConnId,
        outcomes: impl Iterator<Item = Outcome<'a>>,
        now: Time,
        out: &mut impl Sink,
    ) {
        let mut count = 0;
        let outcomes = outcomes.inspect(|_| count += 1);
        self.head.handle_outcomes(conn, outcomes, now, out);
        self.count(count);
    }

    fn flush(&mut self, now: Time, out: &mut impl Sink) {
        self.head.flush(now, out);
        let in_flight = self.head.scheduler().counts().in_flight;
        self.in_flight_max = self.in_flight_max.max(in_flight);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.head.next_deadline()
    }

    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink) {
        self.head.handle_timeout(now, out);
    }
}
