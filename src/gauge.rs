//! What this process has had of its machine, as Linux tells it.
//!
//! What it is: a reader of `/proc`: of processor time from `stat`, which has that of threads and
//! programs that have ended, of waiting from each thread's `schedstat`, the one place that tells who
//! could run and did not. What it is not: a sampler; nothing is read unless it is asked for.
//!
//! Programs are found through `children`, theirs as well. Of one that has come and gone between two
//! readings the waiting is not known, and nowhere to be read any more.
//!
//! Invariant: no figure ever falls; what the system does not tell is `None`, or zero, and no error.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::limits::PROCESSES_MAX;
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
    /// Of what came before, so that each figure begins at zero.
    ticks_before: u64,
    usage: Usage,
    /// How long each thread had waited when it was last looked at, in nanoseconds.
    waited_ns: BTreeMap<u32, u64>,
}

/// Of all threads there are.
#[derive(Default)]
struct Reading {
    processes: usize,
    ticks: u64,
    waited_ns: BTreeMap<u32, u64>,
}

impl Gauge {
    /// One whose figures begin now; `None` where there are none.
    pub fn new() -> Option<Gauge> {
        let mut gauge = Gauge {
            ticks_before: ticks(Path::new(OWN))?,
            usage: Usage::default(),
            waited_ns: BTreeMap::new(),
        };
        gauge.read();
        gauge.usage = Usage::default();
        Some(gauge)
    }

    /// Processor time of this process alone so far, with that of programs that have ended.
    pub fn cpu(&self) -> Option<Duration> {
        ticks(Path::new(OWN)).map(|ticks| self.since_begin(ticks))
    }

    /// What was had so far.
    pub fn read(&mut self) -> Usage {
        let mut reading = Reading::default();
        reading.add(Path::new(OWN));
        // A program that ended while this was read may have been missed.
        self.usage.cpu = self.usage.cpu.max(self.since_begin(reading.ticks));
        for (thread, &ns) in &reading.waited_ns {
            // Ids are used again, but not at once.
            let before = self.waited_ns.get(thread).copied().unwrap_or(0);
            self.usage.waited += Duration::from_nanos(ns.saturating_sub(before));
        }
        self.waited_ns = reading.waited_ns;
        self.usage
    }

    fn since_begin(&self, ticks: u64) -> Duration {
        Duration::from_millis(TICK_MS * ticks.saturating_sub(self.ticks_before))
    }
}

impl Reading {
    /// Adds a process and those it has started.
    fn add(&mut self, process: &Path) {
        self.processes += 1;
        self.ticks += ticks(process).unwrap_or(0);
        for (id, thread) in entries(&process.join("task")) {
            self.waited_ns.extend(waited_ns(&thread).map(|ns| (id, ns)));
            let mut bytes = [0; FILE_BYTES];
            let children = read(&thread.join("children"), &mut bytes);
            // A space stands behind each, so that one which is cut off is left out.
            let children = children.and_then(|text| text.rsplit_once(' '));
            for child in children.map_or("", |(whole, _)| whole).split(' ') {
                if !child.is_empty() && self.processes < PROCESSES_MAX {
                    self.add(&Path::new("/proc").join(child));
                }
            }
        }
    }
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
    use std::time::Instant;

    fn spin(wall: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < wall {}
    }

    #[test]
    fn what_is_computed_is_counted_and_never_falls() {
        let mut gauge = Gauge::new().unwrap();
        let before = gauge.read();
        let threads = [(); 3].map(|()| std::thread::spawn(|| spin(Duration::from_millis(100))));
        let during = gauge.read();
        for thread in threads {
            thread.join().unwrap();
        }
        let after = gauge.read();
        assert!(before.cpu <= during.cpu && before.waited <= during.waited);
        assert!(during.waited <= after.waited);
        // However many processors there are, whoever does not run waits. (Other tests add to it.)
        let had = (after.cpu - before.cpu) + (after.waited - before.waited);
        assert!(had >= Duration::from_millis(100), "{before:?}, {after:?}");
    }

    #[test]
    fn programs_are_found_however_deep() {
        let script = "sh -c 'while :; do :; done' & read _; kill -KILL $!; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped());
        let mut child = shell.stdout(Stdio::null()).spawn().unwrap();
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        loop {
            let mut reading = Reading::default();
            reading.add(&process);
            // The shell itself has hardly used any.
            if reading.processes == 2 && reading.ticks >= 10 {
                assert_eq!(reading.waited_ns.len(), 2);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(ticks(&process).unwrap() < 10, "it has waited for nobody");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(ticks(&process), None, "it is gone");
    }
}
