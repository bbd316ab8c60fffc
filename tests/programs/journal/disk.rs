//! A disk that fills up in mid-run.
//!
//! What it is: runs on a tmpfs of 1 MiB, in a mount namespace that ends with its shell. What it is
//! not: a disk that fails (`src/recorder/commit.rs`). Where there is no root or no namespace a line
//! `skipped: ` says so.
//!
//! Invariant: the full disk is exit 5, the journal stays valid, and with more room the run ends right.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::team::{Journal, Team};
use crate::common::{Process, assert_same_text, squares};

/// Its records are twice as long as the disk.
const COUNT: u64 = 40_000;

/// A file system of 1 MiB, gone when this is dropped.
struct Disk {
    /// In whose namespace it is mounted.
    holder: Process,
    mounted_at: tempfile::TempDir,
}

impl Disk {
    /// `None` if there is none to be had here.
    fn mount() -> Option<Disk> {
        let mounted_at = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=1m teamster \"$0\" && echo mounted && exec sleep 600";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let mut holder = Process::start(unshare.arg(mounted_at.path()));
        let mut said = [0; 7];
        let mut stdout = holder.stdout();
        if std::io::Read::read_exact(&mut stdout, &mut said).is_err() {
            let reason = holder.err_at_end();
            println!("skipped: full disk: no mounts in a namespace here: {reason:?}");
            return None;
        }
        Some(Disk { holder, mounted_at })
    }

    /// The disk as seen from outside its namespace.
    fn path(&self) -> PathBuf {
        let inside = self.mounted_at.path().strip_prefix("/").unwrap();
        let root = format!("/proc/{}/root", self.holder.child.id());
        PathBuf::from(root).join(inside)
    }

    fn make_room(&self) {
        let pid = self.holder.child.id().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args([
            "--target",
            &pid,
            "--mount",
            "mount",
            "-o",
            "remount,size=32m",
        ]);
        let status = nsenter.arg(self.mounted_at.path()).status();
        assert!(status.unwrap().success());
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }
}

#[test]
fn a_journal_on_a_full_disk_is_gone_on_with_once_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let team = Team::<10>::start();
    let journal = Journal::at(disk.path().join("journal"));
    let job = format!("square --count {COUNT} --work-ms 0 --resume");
    let ended = Process::start(&mut team.head(&journal, &job))
        .end()
        .expect(5);
    let path = journal.path.display();
    ended.says(&format!(
        "head: error: cannot write journal {path}: No space left on device"
    ));
    let recorded = journal.tasks().len() as u64;
    assert!((1000..COUNT).contains(&recorded));
    // Of the last batch some records may be whole and yet not reported.
    ended.says(&format!(
        " outcomes in {path}: the same command with --resume"
    ));
    let printed = ended.text();
    assert!(
        squares(recorded).starts_with(printed),
        "what was printed is recorded"
    );
    disk.make_room();
    let ended = Process::start(&mut team.head(&journal, &job))
        .end()
        .expect(0);
    assert_same_text(ended.text(), &squares(COUNT));
    team.check_nothing_ran_again();
}

#[test]
fn results_and_journal_on_a_full_disk_are_both_right_once_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let team = Team::<11>::start();
    let journal = Journal::at(disk.path().join("journal"));
    let results = disk.path().join("results");
    let job = format!(
        "square --count {COUNT} --work-ms 0 --resume --format tsv --details -o {}",
        results.display()
    );
    Process::start(&mut team.head(&journal, &job))
        .end()
        .expect(5);
    // Whichever of the two failed first.
    let is_partial = |name: &String| ["journal", "results.partial"].contains(&&name[..]);
    assert!(disk.names().iter().all(is_partial), "{:?}", disk.names());
    assert!(journal.tasks().len() > 1000);
    disk.make_room();
    Process::start(&mut team.head(&journal, &job))
        .end()
        .expect(0);
    let text = fs::read_to_string(&results).unwrap();
    for (task, line) in (0..).zip(text.lines()) {
        assert!(line.starts_with(&format!("{task}\tdone\t")), "{line}");
        assert!(line.ends_with(&format!("\t{}", task * task)), "{line}");
    }
    assert_eq!(text.lines().count() as u64, COUNT);
    team.check_nothing_ran_again();
}
