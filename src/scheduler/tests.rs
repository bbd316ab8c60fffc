//! The rules of the table, one by one.
//!
//! What it is: the scheduler's unit tests. What it is not: the simulator, which shows that the rules
//! together keep the promise.
//!
//! Invariant: every step ends with `check`.

use super::*;

const NOW: Time = Time::ZERO;
const SLOTS: u32 = 2;

/// An answer that was delivered.
#[derive(Debug)]
pub(super) struct Delivered {
    pub task: u64,
    pub status: Status,
    pub output: Vec<u8>,
    pub worker: u32,
    pub losses: u32,
    pub queue_us: u32,
    pub run_us: u32,
}

impl Scheduler {
    pub(super) fn next_answer(&mut self) -> Option<Delivered> {
        let answer = self.due()?;
        let delivered = Delivered {
            task: answer.task,
            status: answer.status,
            output: answer.output.to_vec(),
            worker: answer.worker,
            losses: answer.losses,
            queue_us: answer.queue_us,
            run_us: answer.run_us,
        };
        self.delivered();
        Some(delivered)
    }
}

/// A scheduler with tasks whose inputs are their numbers.
fn scheduler(workers: usize, ordered: bool, tasks: u8) -> Scheduler {
    let mut scheduler = Scheduler::new(workers, ordered, 3);
    (0..tasks).for_each(|task| scheduler.add(&[task]));
    scheduler
}

fn assign(scheduler: &mut Scheduler, worker: u32) -> Attempt {
    let attempt = send(scheduler, worker);
    let input = &scheduler.table.get(attempt.task).unwrap().payload;
    assert_eq!(u64::from(input[0]), attempt.task);
    scheduler.check();
    attempt
}

/// Sends whatever `worker`, which has `SLOTS`, may be sent.
fn try_send(scheduler: &mut Scheduler, worker: u32) -> Option<Attempt> {
    if scheduler.held_tasks(worker) >= scheduler.depth(worker, SLOTS, u32::MAX) {
        return None;
    }
    match scheduler.pick(worker, SLOTS, true) {
        Pick::Task { task, .. } => Some(scheduler.assign(task, worker, NOW).0),
        Pick::Wait | Pick::Nothing => None,
    }
}

fn send(scheduler: &mut Scheduler, worker: u32) -> Attempt {
    try_send(scheduler, worker).expect("one is ready")
}

fn answer(scheduler: &mut Scheduler, worker: u32, attempt: Attempt) -> Verdict {
    let output = [attempt.task as u8, attempt.number as u8];
    let verdict = scheduler.answer(worker, attempt, Status::Done, Bytes::from(&output), 0, NOW);
    scheduler.check();
    verdict
}

fn delivered(scheduler: &mut Scheduler) -> Vec<u64> {
    let answers = std::iter::from_fn(|| {
        let answer = scheduler.next_answer()?;
        scheduler.check();
        Some(answer.task)
    });
    answers.collect()
}

#[test]
fn ordered_waits_for_the_oldest_and_unordered_does_not() {
    for (ordered, early) in [(true, vec![]), (false, vec![2, 1])] {
        let mut scheduler = scheduler(1, ordered, 3);
        let attempts: [Attempt; 3] = std::array::from_fn(|_| assign(&mut scheduler, 0));
        answer(&mut scheduler, 0, attempts[2]);
        answer(&mut scheduler, 0, attempts[1]);
        assert_eq!(delivered(&mut scheduler), early);
        answer(&mut scheduler, 0, attempts[0]);
        let rest = if ordered { vec![0, 1, 2] } else { vec![0] };
        assert_eq!(delivered(&mut scheduler), rest);
        assert_eq!(scheduler.counts(), Counts::default());
    }
}

#[test]
fn an_answer_after_take_back_counts_while_its_task_is_open() {
    let mut scheduler = scheduler(2, true, 1);
    let first = assign(&mut scheduler, 0);
    assert_eq!(scheduler.take_back(0, &Loss::Planned), 1);
    assert_eq!(
        scheduler.take_back(0, &Loss::Planned),
        0,
        "it is back already"
    );
    assert_eq!(scheduler.held_tasks(0), 1, "it may still answer");
    assert_eq!(answer(&mut scheduler, 0, first), Verdict::Counted);
    assert_eq!(
        scheduler.pick(1, SLOTS, true),
        Pick::Nothing,
        "not sent again"
    );
    assert_eq!(scheduler.held_tasks(0), 0);
}

#[test]
fn of_two_answers_the_first_counts() {
    for (winner, loser) in [(0, 1), (1, 0)] {
        let mut scheduler = scheduler(2, true, 1);
        let mut attempts = [assign(&mut scheduler, 0); 2];
        scheduler.take_back(0, &Loss::Planned);
        attempts[1] = assign(&mut scheduler, 1);
        assert_eq!(attempts[1].number, 2);
        let (won, lost) = (attempts[winner], attempts[loser]);
        assert_eq!(answer(&mut scheduler, winner as u32, won), Verdict::Counted);
        assert_eq!(answer(&mut scheduler, loser as u32, lost), Verdict::Late);
        assert_eq!(
            answer(&mut scheduler, loser as u32, lost),
            Verdict::Stranger
        );
        let answer = scheduler.next_answer().expect("it is answered");
        assert_eq!(answer.output[1], won.number as u8);
        assert_eq!((answer.worker, answer.losses), (winner as u32, 0));
    }
}

#[test]
fn late_answers_are_known_after_delivery_too() {
    for ordered in [true, false] {
        let mut scheduler = scheduler(2, ordered, 1);
        let first = assign(&mut scheduler, 0);
        scheduler.take_back(0, &Loss::Planned);
        let second = assign(&mut scheduler, 1);
        answer(&mut scheduler, 1, second);
        assert_eq!(delivered(&mut scheduler), [0]);
        assert_eq!(answer(&mut scheduler, 0, first), Verdict::Late);
        assert_eq!((scheduler.held_tasks(0), scheduler.held_bytes(0)), (0, 0));
    }
}

#[test]
fn a_worker_that_was_not_sent_an_attempt_is_a_stranger() {
    let mut scheduler = scheduler(2, true, 2);
    let sent = assign(&mut scheduler, 0);
    let Attempt { task, number } = sent;
    let number_of_another = Attempt {
        task,
        number: number + 1,
    };
    let never_sent = Attempt { task: 1, number: 1 };
    let unknown = Attempt { task: 99, number };
    assert_eq!(answer(&mut scheduler, 1, sent), Verdict::Stranger);
    for attempt in [number_of_another, never_sent, unknown] {
        assert_eq!(answer(&mut scheduler, 0, attempt), Verdict::Stranger);
    }
    assert_eq!(answer(&mut scheduler, 0, sent), Verdict::Counted);
}

#[test]
fn the_end_of_a_session_returns_its_tasks_oldest_first_and_frees_its_credit() {
    let mut scheduler = scheduler(2, true, 5);
    let attempts: [Attempt; 4] = std::array::from_fn(|_| assign(&mut scheduler, 0));
    answer(&mut scheduler, 0, attempts[1]);
    assert_eq!(scheduler.end_session(0, &Loss::Planned), 3);
    scheduler.check();
    assert_eq!((scheduler.held_tasks(0), scheduler.held_bytes(0)), (0, 0));
    let order: [u64; 4] = std::array::from_fn(|_| assign(&mut scheduler, 1).task);
    assert_eq!(order, [0, 2, 3, 4], "before any new task");
    assert_eq!(answer(&mut scheduler, 0, attempts[0]), Verdict::Stranger);
}

#[test]
fn an_orphan_costs_credit_until_it_is_answered_or_its_session_ends() {
    let mut scheduler = scheduler(2, true, 1);
    let first = assign(&mut scheduler, 0);
    scheduler.take_back(0, &Loss::Planned);
    let second = assign(&mut scheduler, 1);
    answer(&mut scheduler, 0, first);
    assert_eq!(scheduler.held_tasks(1), 1, "it will still answer");
    assert_eq!(
        scheduler.end_session(1, &Loss::Planned),
        0,
        "nothing to send again"
    );
    scheduler.check();
    assert_eq!(scheduler.held_tasks(1), 0);
    assert_eq!(answer(&mut scheduler, 1, second), Verdict::Stranger);
}

#[test]
fn the_window_ends_at_its_tasks() {
    let mut scheduler = Scheduler::new(1, true, 3);
    for _ in 0..WINDOW_TASKS {
        assert!(scheduler.has_room());
        scheduler.add(&[]);
    }
    assert!(!scheduler.has_room());
    let attempt = send(&mut scheduler, 0);
    scheduler.answer(0, attempt, Status::Done, Bytes::default(), 0, NOW);
    assert!(!scheduler.has_room(), "answered is not delivered");
    scheduler.next_answer();
    assert!(scheduler.has_room());
}

#[test]
fn the_window_ends_at_its_bytes_but_takes_one_task_of_any_length() {
    let mut scheduler = Scheduler::new(1, true, 3);
    let half = vec![0; WINDOW_BYTES / 2];
    scheduler.add(&vec![0; WINDOW_BYTES + 1]);
    assert!(!scheduler.has_room());
    let attempt = send(&mut scheduler, 0);
    scheduler.answer(0, attempt, Status::Done, Bytes::default(), 0, NOW);
    scheduler.next_answer();
    scheduler.add(&half);
    assert!(scheduler.has_room());
    scheduler.add(&half);
    assert!(!scheduler.has_room());
    scheduler.check();
}

#[test]
fn expected_outputs_take_room_in_the_window() {
    let mut scheduler = Scheduler::new(1, true, 3);
    let output = vec![0; WINDOW_BYTES / 2];
    scheduler.add(&[]);
    scheduler.add(&[]);
    for _ in 0..2 {
        send(&mut scheduler, 0);
    }
    let first = Attempt { task: 0, number: 1 };
    scheduler.answer(0, first, Status::Done, Bytes::from(&output), 0, NOW);
    assert!(
        scheduler.has_room(),
        "half is held, a thirty-second is expected"
    );
    let second = Attempt { task: 1, number: 1 };
    scheduler.answer(0, second, Status::Done, Bytes::from(&output), 0, NOW);
    assert!(!scheduler.has_room());
}

#[test]
fn an_unordered_run_is_not_held_up_by_a_straggler() {
    let mut scheduler = Scheduler::new(1, false, 3);
    let tasks = 3 * WINDOW_TASKS as u64;
    scheduler.add(b"straggler");
    let straggler = send(&mut scheduler, 0);
    for task in 1..tasks {
        assert!(scheduler.has_room());
        scheduler.add(&[]);
        let attempt = send(&mut scheduler, 0);
        scheduler.answer(0, attempt, Status::Done, Bytes::default(), 0, NOW);
        assert_eq!(scheduler.next_answer().expect("it is answered").task, task);
        let table = &scheduler.table;
        let is_short = |(base, _)| table.end() - base <= WINDOW_TASKS as u64;
        assert!(table.oldest().is_none_or(is_short));
    }
    scheduler.check();
    assert_eq!(answer(&mut scheduler, 0, straggler), Verdict::Counted);
    assert_eq!(delivered(&mut scheduler), [0]);
    assert_eq!(scheduler.counts(), Counts::default());
}

#[test]
fn a_straggler_can_be_sent_again() {
    let mut scheduler = Scheduler::new(2, false, 3);
    scheduler.add(&[0]);
    assign(&mut scheduler, 0);
    for _ in 1..=WINDOW_TASKS {
        scheduler.add(&[]);
        let attempt = send(&mut scheduler, 1);
        scheduler.answer(1, attempt, Status::Done, Bytes::default(), 0, NOW);
        scheduler.next_answer();
    }
    assert_eq!(scheduler.table.oldest(), None, "it has been put aside");
    assert_eq!(scheduler.end_session(0, &Loss::Planned), 1);
    let again = assign(&mut scheduler, 1);
    assert_eq!((again.task, again.number), (0, 2));
    assert_eq!(answer(&mut scheduler, 1, again), Verdict::Counted);
    assert_eq!(delivered(&mut scheduler), [0]);
}

#[test]
fn the_list_of_what_was_sent_stays_short_behind_a_long_task() {
    let mut scheduler = Scheduler::new(1, false, 3);
    for _ in 0..10_000 {
        scheduler.add(&[]);
        let attempt = send(&mut scheduler, 0);
        if attempt.task > 0 {
            scheduler.answer(0, attempt, Status::Done, Bytes::default(), 0, NOW);
        }
        assert!(scheduler.seats[0].sent.len() <= 70);
    }
}

#[test]
fn it_stays_short_while_some_come_back_again_and_again() {
    let mut scheduler = Scheduler::new(1, false, 3);
    let mut held = std::collections::VecDeque::new();
    for step in 0..100_000 {
        scheduler.add(&[]);
        held.push_back(send(&mut scheduler, 0));
        if held.len() > 100 {
            // The one that comes back leaves a gap, the one behind it is answered out of turn.
            let attempt = held.pop_front().unwrap();
            match step % 50 {
                0 => scheduler.put_back(0, attempt),
                1 => scheduler.answer(0, attempt, Status::Done, Bytes::default(), 0, NOW),
                _ => {
                    let (task, number) = (attempt.task, attempt.number);
                    let done = row::tests::outcome(task, number, Status::Done);
                    assert_eq!(
                        scheduler.answer_row(0, &mut [done].into_iter(), NOW).1,
                        None
                    );
                    Verdict::Counted
                }
            };
        }
        while scheduler.next_answer().is_some() {}
        assert!(scheduler.seats[0].sent.len() <= 2 * 102 + 64);
    }
    scheduler.check();
}

#[test]
fn a_failed_task_of_the_heads_own_takes_its_place_in_the_order() {
    let mut scheduler = scheduler(1, true, 1);
    let first = assign(&mut scheduler, 0);
    scheduler.add_failed(&[9; 99], "too long");
    scheduler.add(&[2]);
    scheduler.check();
    let third = assign(&mut scheduler, 0);
    assert_eq!(third.task, 2);
    answer(&mut scheduler, 0, third);
    answer(&mut scheduler, 0, first);
    assert_eq!(delivered(&mut scheduler), [0, 1, 2]);
}

/// An unplanned loss.
fn lost(cause: &str) -> Loss<'_> {
    let slots = SLOTS;
    Loss::Unplanned { slots, cause }
}

#[test]
fn only_what_ran_is_blamed_and_only_the_killer_is_given_up() {
    let mut scheduler = scheduler(2, true, 9);
    // Task 3 kills its worker as soon as it runs. Nobody can tell at first.
    let sent: Vec<u64> = (0..6).map(|_| assign(&mut scheduler, 0).task).collect();
    assert_eq!(sent, [0, 1, 2, 3, 4, 5]);
    scheduler.end_session(0, &lost("first"));
    scheduler.check();
    let mut deaths = 1;
    let mut done = Vec::new();
    while scheduler.counts().open() > scheduler.counts().answered {
        let mut held = Vec::new();
        while let Some(attempt) = try_send(&mut scheduler, 0) {
            held.push(attempt);
        }
        assert!(!held.is_empty(), "it goes on");
        if held.iter().any(|attempt| attempt.task == 3) {
            deaths += 1;
            scheduler.end_session(0, &lost("again"));
            scheduler.check();
            continue;
        }
        for attempt in held {
            done.push(attempt.task);
            answer(&mut scheduler, 0, attempt);
        }
    }
    assert_eq!(deaths, 3, "as many as it may have");
    done.sort();
    assert_eq!(done, [0, 1, 2, 4, 5, 6, 7, 8]);
    assert_eq!(scheduler.failed(), 1);
    for task in 0..9 {
        let answer = scheduler.next_answer().unwrap();
        assert_eq!(answer.task, task);
        if task == 3 {
            let reason = String::from_utf8(answer.output.to_vec()).unwrap();
            assert!(
                reason.contains("3 workers lost while it ran (first; again; again)"),
                "{reason}"
            );
            assert_eq!(answer.losses, 3);
        } else {
            assert!(answer.losses < 3, "task {task}");
        }
    }
}

#[test]
fn a_task_before_its_last_loss_runs_alone() {
    let mut scheduler = Scheduler::new(2, true, 2);
    (0..4).for_each(|task| scheduler.add(&[task]));
    let poison = assign(&mut scheduler, 0);
    assign(&mut scheduler, 1);
    scheduler.end_session(0, &lost("first"));
    assert_eq!(
        scheduler.pick(1, SLOTS, true),
        Pick::Wait,
        "it is kept free for it"
    );
    let again = assign(&mut scheduler, 0);
    assert_eq!((again.task, again.number), (poison.task, 2));
    assert_eq!(scheduler.depth(0, SLOTS, 9), 0, "alone");
    assert_eq!(scheduler.depth(1, SLOTS, 9), 9, "nobody else is careful");
    assert_eq!(assign(&mut scheduler, 1).task, 2);
    scheduler.end_session(0, &lost("second"));
    scheduler.check();
    assert_eq!(scheduler.next_answer().unwrap().status, Status::Failed);
}

#[test]
fn with_one_attempt_the_first_loss_is_the_last() {
    let mut scheduler = Scheduler::new(1, true, 1);
    scheduler.add(&[0]);
    assign(&mut scheduler, 0);
    scheduler.end_session(0, &lost("only"));
    scheduler.check();
    assert_eq!(scheduler.next_answer().unwrap().losses, 1);
}

#[test]
fn what_another_has_answered_may_run_all_the_same_and_keeps_the_loss_uncertain() {
    let mut scheduler = Scheduler::new(2, true, 1);
    (0..3).for_each(|task| scheduler.add(&[task]));
    (0..2).for_each(|_| _ = assign(&mut scheduler, 0));
    let (twin, _) = scheduler.duplicate(0, 1, NOW);
    answer(&mut scheduler, 1, twin);
    // Worker 0 holds one more than it runs.
    assign(&mut scheduler, 0);
    scheduler.end_session(0, &lost("died"));
    scheduler.check();
    assert_eq!(delivered(&mut scheduler), [0]);
    assert_eq!(scheduler.counts().ready, 2, "neither is given up");
}

#[test]
fn planned_losses_and_forgiven_ones_cost_nothing() {
    let mut scheduler = scheduler(1, true, 1);
    assign(&mut scheduler, 0);
    scheduler.end_session(0, &Loss::Planned);
    assign(&mut scheduler, 0);
    scheduler.take_back(0, &lost("silent"));
    assert_eq!(scheduler.depth(0, SLOTS, 9), SLOTS, "careful with it");
    scheduler.forgive(0);
    scheduler.check();
    assert_eq!(scheduler.depth(0, SLOTS, 9), 9);
    let attempt = assign(&mut scheduler, 0);
    answer(&mut scheduler, 0, attempt);
    assert_eq!(scheduler.next_answer().unwrap().losses, 0);
}

#[test]
fn what_is_forgiven_is_the_loss_of_that_worker_and_no_other() {
    let mut scheduler = Scheduler::new(3, true, 3);
    (0..9).for_each(|task| scheduler.add(&[task]));
    // Worker 0 falls silent with more than it runs: task 0 is only suspected.
    for _ in 0..=SLOTS {
        assign(&mut scheduler, 0);
    }
    scheduler.take_back(0, &lost("silent"));
    assert_eq!(assign(&mut scheduler, 1).task, 0);
    scheduler.end_session(1, &lost("died"));
    scheduler.forgive(0);
    scheduler.check();
    let blame = &scheduler.table.get(0).unwrap().blame;
    assert_eq!(blame.losses(), 1, "one death is left");
    let reason = blame.verdict(1).unwrap();
    assert!(
        reason.contains("1 worker lost while it ran (died)"),
        "{reason}"
    );
}

#[test]
fn a_task_less_of_which_is_blamed_leaves_room_beside_it() {
    let mut scheduler = Scheduler::new(4, true, 3);
    scheduler.add(&[0]);
    for worker in 0..2 {
        assign(&mut scheduler, worker);
        scheduler.take_back(worker, &lost("silent"));
    }
    assign(&mut scheduler, 2);
    assert_eq!(scheduler.depth(2, SLOTS, 9), 0, "it runs alone");
    scheduler.forgive(0);
    scheduler.check();
    assert_eq!(
        scheduler.depth(2, SLOTS, 9),
        SLOTS,
        "it is still to be watched"
    );
}

#[test]
fn what_is_forgiven_may_be_handed_back() {
    let mut scheduler = Scheduler::new(3, true, 3);
    scheduler.add(&[0]);
    assign(&mut scheduler, 0);
    scheduler.take_back(0, &lost("silent"));
    assign(&mut scheduler, 1);
    assert_eq!(scheduler.recallable(1, 0), None, "it is to be watched");
    scheduler.forgive(0);
    scheduler.check();
    assert_eq!(scheduler.recallable(1, 0), Some((0, 1)));
    assert!(scheduler.longest_held(1).is_some());
    assert_eq!(scheduler.depth(1, SLOTS, 9), 9);
}

#[test]
fn a_task_that_was_put_back_goes_elsewhere() {
    let mut scheduler = scheduler(2, true, 2);
    let first = assign(&mut scheduler, 0);
    assert_eq!(scheduler.put_back(0, first), Verdict::Counted);
    scheduler.check();
    assert_eq!(scheduler.put_back(0, first), Verdict::Stranger);
    let again = assign(&mut scheduler, 1);
    assert_eq!((again.task, again.number), (0, 2));
}

#[test]
fn doubted_failures_are_confirmed_or_overruled() {
    for is_believed in [true, false] {
        let mut scheduler = scheduler(2, true, 2);
        for _ in 0..2 {
            let attempt = assign(&mut scheduler, 0);
            let verdict = scheduler.doubt(0, attempt, b"no", 5, NOW);
            assert_eq!(verdict, Verdict::Counted);
            scheduler.check();
        }
        assert_eq!((scheduler.doubted(0), scheduler.held_tasks(0)), (2, 0));
        assert!(scheduler.next_answer().is_none());
        if is_believed {
            scheduler.confirm(0);
            assert_eq!(delivered(&mut scheduler), [0, 1]);
            assert_eq!(scheduler.failed(), 2);
        } else {
            assert_eq!(scheduler.overrule(0), 2);
            scheduler.check();
            let again = assign(&mut scheduler, 1);
            assert_eq!((again.task, again.number), (0, 2));
            assert_eq!(scheduler.failed(), 0);
        }
    }
}

#[test]
fn a_task_that_fails_wherever_it_is_late_is_not_tried_for_ever() {
    let mut scheduler = scheduler(2, true, 1);
    let mut older = assign(&mut scheduler, 0);
    let (newer, _) = scheduler.duplicate(0, 1, NOW);
    // The older one's failure does not count while the newer one runs.
    assert_eq!(scheduler.doubt(0, older, b"no", 5, NOW), Verdict::Late);
    scheduler.check();
    assert!(scheduler.longest_held(1).is_none(), "no third attempt");
    assert_eq!(scheduler.doubt(1, newer, b"no", 5, NOW), Verdict::Counted);
    // Tried anew it may be late anew, and a holder that is lost counts for nothing.
    scheduler.overrule(1);
    older = assign(&mut scheduler, 0);
    assert_eq!(scheduler.longest_held(0).unwrap().0, older.task);
    scheduler.duplicate(0, 1, NOW);
    scheduler.end_session(0, &Loss::Planned);
    scheduler.check();
    assert_eq!(scheduler.longest_held(1).unwrap().0, older.task);
}
