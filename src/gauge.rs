//! What this process has had of its machine, as Linux tells it.
//!
//! What it is: a reader of `/proc`: of processor time from `stat`, which has that of threads and
//! programs that have ended, of waiting from each thread's `schedstat`, the one place that tells who
//! could run and did not. What it is not: a sampler; nothing is read unless it is asked for.
//!
//! Programs are found through `children`, theirs as well. Of one that has come and gone between two
//! readings the waiting is not known, and nowhere to be read any more; and the processor time of one
//! that was killed together with whoever would have waited for it is nobody's since the last reading.
//! Who has the use of half the machine waits for nobody but himself, and that is not told.
//!
//! Invariant: no figure ever falls; what the system does not tell is `None`, or zero, and no error. No
//! more than [`GAUGED_THREADS_MAX`] are looked at; where there are more the figures are rough.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::limits::GAUGED_THREADS_MAX;
use crate::role::Usage;
use crate::time::Duration;

const OWN: &str = "/proc/self";
/// Read of each file: more than there is in any but a long list of programs.
const FILE_BYTES: usize = 1 << 10;
/// Processor time in `stat` is counted in these, on every machine (`USER_HZ`).
const TICK_MS: u64 = 10;
/// Where it stands behind the name: of the process, in user mode and in the kernel, and the same of
/// those it has waited for.
const STAT_CPU: std::ops::Range<usize> = 11..15;

/// The figures of this process and the programs it has started.
#[derive(Debug)]
pub struct Gauge {
    /// Of what came before, so that the own figure begins at zero.
    ticks_before: u64,
    usage: Usage,
    latest: Reading,
    read_at: Instant,
    /// The latest reading has fewer ticks than one before it.
    is_short: bool,
    processors: u32,
}

/// Of all threads there are, or of as many as may be looked at.
#[derive(Debug, Default)]
struct Reading {
    ticks: u64,
    /// How long each thread has waited, in nanoseconds.
    waited_ns: BTreeMap<u32, u64>,
    /// There were more.
    is_cut: bool,
}

impl Gauge {
    /// One whose figures begin now; `None` where there are none.
    pub fn new() -> Option<Gauge> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Some(Gauge {
            ticks_before: ticks(Path::new(OWN))?,
            usage: Usage::default(),
            latest: Reading::of(Path::new(OWN)),
            read_at: Instant::now(),
            is_short: false,
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
        })
    }

    /// Processor time of this process alone so far, with that of programs that have ended.
    pub fn cpu(&self) -> Option<Duration> {
        let ticks = ticks(Path::new(OWN))?;
        Some(cpu(ticks.saturating_sub(self.ticks_before)))
    }

    /// What was had so far.
    pub fn read(&mut self) -> Usage {
        let (reading, now) = (Reading::of(Path::new(OWN)), Instant::now());
        let cpu = self.note_ticks(reading.ticks);
        self.usage.cpu += cpu;
        let is_at_home = cpu * 2 >= (now - self.read_at) * self.processors;
        if !is_at_home {
            self.usage.waited += reading.waited_since(&self.latest);
        }
        self.read_at = now;
        self.latest = Reading {
            ticks: self.latest.ticks,
            ..reading
        };
        self.usage
    }

    /// How much processor time came to that of the latest reading. A program that ended while it was
    /// looked for is missed once, and its time comes back with whoever waited for it; if it has not by
    /// the next reading, nobody did.
    fn note_ticks(&mut self, ticks: u64) -> Duration {
        let is_short = ticks < self.latest.ticks;
        let gained = ticks.saturating_sub(self.latest.ticks);
        if !is_short || self.is_short {
            self.latest.ticks = ticks;
        }
        self.is_short = is_short && !self.is_short;
        cpu(gained)
    }
}

impl Reading {
    /// Of a process and those it has started.
    fn of(process: &Path) -> Reading {
        let mut reading = Reading::default();
        reading.add(process);
        reading
    }

    fn add(&mut self, process: &Path) {
        self.ticks += ticks(process).unwrap_or(0);
        for (id, thread) in entries(&process.join("task")) {
            if self.waited_ns.len() == GAUGED_THREADS_MAX {
                self.is_cut = true;
                return;
            }
            self.waited_ns.extend(waited_ns(&thread).map(|ns| (id, ns)));
            let mut bytes = [0; FILE_BYTES];
            let children = read(&thread.join("children"), &mut bytes);
            // A space stands behind each, so that one which is cut off is left out.
            let children = children.and_then(|text| text.rsplit_once(' '));
            for child in children.map_or("", |(whole, _)| whole).split(' ') {
                if !child.is_empty() {
                    self.add(&Path::new("/proc").join(child));
                }
            }
        }
    }

    /// How long threads have waited since an earlier reading. One that is new has waited since it
    /// began, unless it may have been left out then. (Ids are used again, but not at once.)
    fn waited_since(&self, earlier: &Reading) -> Duration {
        let waited = self.waited_ns.iter().map(|(thread, &ns)| {
            let unseen = if earlier.is_cut { ns } else { 0 };
            let before = earlier.waited_ns.get(thread).copied().unwrap_or(unseen);
            Duration::from_nanos(ns.saturating_sub(before))
        });
        waited.sum()
    }
}

fn cpu(ticks: u64) -> Duration {
    Duration::from_millis(TICK_MS * ticks)
}

/// What a process has had of the processors, with those it has waited for.
fn ticks(process: &Path) -> Option<u64> {
    let mut bytes = [0; FILE_BYTES];
    let stat = read(&process.join("stat"), &mut bytes)?;
    let fields = stat.split_ascii_whitespace();
    let ticks = fields.skip(STAT_CPU.start).take(STAT_CPU.len());
    ticks.map(|field| field.parse::<u64>().ok()).sum()
}

/// How long a thread could have run and did not.
fn waited_ns(thread: &Path) -> Option<u64> {
    let mut bytes = [0; FILE_BYTES];
    let text = read(&thread.join("schedstat"), &mut bytes)?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The beginning of a small file, from behind what stands in brackets: that is a name, and any bytes.
/// One read has it whole, which is half the system calls of `fs::read`, and there are two such files
/// per thread.
fn read<'a>(path: &Path, bytes: &'a mut [u8; FILE_BYTES]) -> Option<&'a str> {
    let count = File::open(path).ok()?.read(bytes).ok()?;
    let name_end = bytes[..count].iter().rposition(|&byte| byte == b')');
    str::from_utf8(&bytes[name_end.map_or(0, |at| at + 1)..count]).ok()
}

fn entries(tasks: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, entry.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// However busy the machine is.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_computed_is_counted_and_never_falls() {
        let mut gauge = Gauge::new().unwrap();
        let (begun, mut before) = (Instant::now(), gauge.read());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let target = before.cpu + Duration::from_millis(100);
            while before.cpu < target && begun.elapsed() < PATIENCE {
                let usage = gauge.read();
                assert!(before.cpu <= usage.cpu && before.waited <= usage.waited);
                before = usage;
                thread::sleep(Duration::from_millis(10));
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(before.cpu >= target);
        });
    }

    #[test]
    fn time_that_is_gone_for_good_is_no_debt() {
        let mut gauge = Gauge::new().unwrap();
        gauge.latest.ticks = 100;
        let ms = |gauge: &mut Gauge, ticks| gauge.note_ticks(ticks).as_millis();
        assert_eq!(ms(&mut gauge, 110), 100);
        assert_eq!(ms(&mut gauge, 50), 0, "one was missed");
        assert_eq!(ms(&mut gauge, 115), 50, "and is back");
        assert_eq!(ms(&mut gauge, 50), 0);
        assert_eq!(ms(&mut gauge, 52), 0, "it does not come back");
        assert_eq!(ms(&mut gauge, 55), 30);
    }

    #[test]
    fn who_was_left_out_has_waited_since_he_is_seen() {
        let reading = |waited_ns: &[(u32, u64)], is_cut| Reading {
            waited_ns: waited_ns.iter().copied().collect(),
            is_cut,
            ..Reading::default()
        };
        let later = reading(&[(1, 30), (2, 500)], false);
        let waited_ns = |earlier: &Reading| later.waited_since(earlier).as_nanos();
        assert_eq!(waited_ns(&reading(&[(1, 10)], false)), 520);
        assert_eq!(waited_ns(&reading(&[(1, 10)], true)), 20);
    }

    #[test]
    fn programs_are_found_however_deep() {
        let script = "sh -c 'while :; do :; done' & read _; kill -KILL $!; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped());
        let mut child = shell.stdout(Stdio::null()).spawn().unwrap();
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE);
            let reading = Reading::of(&process);
            // The shell itself has hardly used any.
            if reading.waited_ns.len() == 2 && reading.ticks >= 10 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(ticks(&process).unwrap() < 10, "it has waited for nobody");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(ticks(&process), None, "it is gone");
    }
}
