//! A head that is killed again and again.
//!
//! What it is: runs whose head is killed with -9 at random moments and resumed until it comes to its
//! end. What it is not: a power failure; what is written and not synced survives a kill.
//!
//! `JOURNAL_KILLS=1000 JOURNAL_SEED=7 cargo test --release --test programs journal:: -- --ignored --nocapture
//! heads_killed`
//!
//! Invariant: what a killed head printed is recorded; what is recorded never runs again; the last
//! head prints everything.

use std::io::Read;
use std::time::{Duration, Instant};

use teamster::rng::SplitMix64;

use super::team::{Journal, Team};
use crate::common::{Process, assert_same_text, squares};

const COUNT: u64 = 200;
const JOB: &str = "square --count 200 --work-ms 1 --sync-ms 4 --resume";
/// About as long as a run that is left alone.
const MOMENT_US: u64 = 200_000;

#[test]
fn a_killed_head_is_gone_on_with() {
    assert!(kill::<8>(10, 1) >= 10);
}

#[test]
#[ignore = "takes a minute; see the head of this file"]
fn heads_killed_often_are_gone_on_with() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let kills = number("JOURNAL_KILLS").unwrap_or(100);
    let seed = number("JOURNAL_SEED").unwrap_or(1);
    let start = Instant::now();
    let runs = kill::<9>(kills, seed);
    println!(
        "killed {kills} heads in {runs} starts, seed {seed}, {:.1?}",
        start.elapsed()
    );
}

/// Kills so many heads; returns how many were started.
fn kill<const KEY: usize>(mut kills: u64, seed: u64) -> u64 {
    let team = Team::<KEY>::start();
    let mut rng = SplitMix64::new(seed);
    let mut runs = 0;
    while kills > 0 {
        let journal = Journal::new();
        loop {
            runs += 1;
            let mut process = Process::start(&mut team.head(&journal, JOB));
            // A moment is a moment: there is no event to wait for.
            std::thread::sleep(Duration::from_micros(rng.below(MOMENT_US)));
            if kills == 0 || process.child.try_wait().unwrap().is_some() {
                let ended = process.end().expect(0);
                assert_same_text(ended.text(), &squares(COUNT));
                break;
            }
            kills -= 1;
            process.kill();
            let mut printed = String::new();
            process.stdout().read_to_string(&mut printed).unwrap();
            let recorded = journal.tasks();
            assert!(squares(COUNT).starts_with(&printed));
            let printed = printed.lines().count() as u64;
            let is_recorded = (0..printed).all(|task| recorded.contains(&task));
            assert!(
                is_recorded,
                "{printed} printed, recorded {recorded:?}, seed {seed}"
            );
        }
        assert_eq!(journal.tasks().len() as u64, COUNT);
        team.check_nothing_ran_again();
    }
    runs
}
