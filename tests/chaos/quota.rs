//! A processor that is only partly there, as on a burstable machine without credits.
//!
//! What it is: [`Quota`], a control group (version 1, `cpu`) with one process in it. What it is not:
//! the rest of the resources.
//!
//! Invariant: the group is removed when its process is gone and the quota dropped, those of killed
//! tests when the next quota is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::is_test;

/// Begins the name of every group; the process id of the test and a number follow.
const PREFIX: &str = "teamster-chaos";
const PERIOD: Duration = Duration::from_millis(100);

/// A limit on one process.
#[derive(Debug)]
pub struct Quota {
    group: PathBuf,
}

impl Quota {
    /// Gives the process `percent` of one processor from now on.
    pub fn new(pid: u32, percent: u32) -> Result<Quota, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let root = root().ok_or("there is no cpu controller of version 1")?;
        sweep(&root);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let group = root.join(format!("{PREFIX}-{}-{number}", std::process::id()));
        fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let quota = Quota { group };
        let quota_us = PERIOD.as_micros() * u128::from(percent) / 100;
        quota.write("cpu.cfs_period_us", &PERIOD.as_micros().to_string())?;
        quota.write("cpu.cfs_quota_us", &quota_us.to_string())?;
        quota.write("cgroup.procs", &pid.to_string())?;
        Ok(quota)
    }

    /// How often the process had to wait for the next period.
    pub fn throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let line = stat.lines().find_map(|l| l.strip_prefix("nr_throttled "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.group.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}

/// Why there can be no quota here; `None` if there can.
pub fn obstacle() -> Option<&'static str> {
    match root() {
        Some(_) => None,
        None => Some("no cgroup controller cpu of version 1 is mounted"),
    }
}

/// Where the controller is mounted.
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    // Device, directory, type, options, and two numbers.
    let directory = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (directory, kind, options) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup" && options.split(',').any(|option| option == "cpu")).then_some(directory)
    });
    directory.map(PathBuf::from)
}

fn sweep(root: &Path) {
    let Ok(groups) = fs::read_dir(root) else {
        return;
    };
    for group in groups.flatten() {
        let name = group.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').nth(1)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !is_test(pid)) {
            let _ = fs::remove_dir(group.path());
        }
    }
}
