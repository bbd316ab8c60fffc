//! The check one event at a time.
//!
//! What it is: what it answers to a worker, when it stops waiting, and what it finds. What it is not:
//! the words for each defect; `tests/programs/check.rs` has those.
//!
//! Invariant: no wait is longer than its deadline.

use super::*;
use crate::format::Rows;
use crate::kernels::square::Squares;
use crate::payload::Bytes;

const PONG: Frame<'static> = Frame::Pong;
const WELCOME: Frame<'static> = Frame::Welcome {
    slots: 2,
    credit_tasks: 3,
    credit_bytes: 1 << 20,
    payload_max: 1 << 20,
    incarnation: 1,
    release: "9\n9",
};

/// What was said: frames by kind, the rest in words.
#[derive(Default)]
struct Said(Vec<String>);

impl Sink for Said {
    fn dial(&mut self, dial: u32) {
        self.0.push(format!("dial {dial}"));
    }
    fn send(&mut self, conn: ConnId, frame: Frame<'_>) {
        self.0.push(format!("{} {:?}", conn.slot, frame.kind()));
    }
    fn close(&mut self, conn: ConnId) {
        self.0.push(format!("{} close", conn.slot));
    }
    fn exit(&mut self, exit: Exit) {
        self.0.push(format!("exit {exit:?}"));
    }
    fn prepare(
        &mut self,
        _: ConnId,
        _: std::sync::Arc<dyn crate::kernel::Kernel>,
        _: Option<Duration>,
    ) {
        unreachable!("a worker's");
    }
    fn submit(&mut self, _: ConnId, _: Attempt, _: Bytes<'_>) {
        unreachable!("a worker's");
    }
    fn revoke(&mut self, _: ConnId) {
        unreachable!("a worker's");
    }
    fn recall(&mut self, _: ConnId) {
        unreachable!("a worker's");
    }
    fn cancel(&mut self, _: ConnId, _: Attempt, _: bool) {
        unreachable!("a worker's");
    }
    fn pause(&mut self, _: ConnId, _: bool) {
        unreachable!("a worker's");
    }
    fn record(&mut self, _: &[u8], _: usize) {
        unreachable!("there is no journal");
    }
    fn read(&mut self) {
        unreachable!("there is no input");
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("there are no results");
    }
}

struct Bench {
    role: Check<Squares>,
    said: Said,
    now: Time,
}

fn conn(slot: u32) -> ConnId {
    let generation = 1;
    ConnId { slot, generation }
}

impl Bench {
    /// A check of so many workers, all of which are being dialled.
    fn new(count: u32) -> Bench {
        let names = (0..count).map(|index| format!("w{index}:5000")).collect();
        let mut bench = Bench {
            role: Check::new(names, Squares::new(1 << 32, 0, Rows::default())),
            said: Said::default(),
            now: Time::ZERO,
        };
        bench.wait(Duration::ZERO);
        let dials: Vec<String> = (0..count).map(|index| format!("dial {index}")).collect();
        assert_eq!(bench.take(), dials);
        bench
    }

    fn tell(&mut self, event: Event<'_>) {
        self.role.handle(event, self.now, &mut self.said);
    }

    fn hear(&mut self, slot: u32, frame: Frame<'_>) {
        let frame = &frame;
        self.tell(Event::Frame {
            conn: conn(slot),
            frame,
        });
    }

    fn wait(&mut self, wait: Duration) {
        self.now = self.now + wait;
        if self.role.next_deadline().is_some_and(|at| at <= self.now) {
            self.role.handle_timeout(self.now, &mut self.said);
        }
        self.role.flush(self.now, &mut self.said);
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said.0)
    }

    /// Opens, welcomes, and answers every ping after `trip`.
    fn reach(&mut self, slot: u32, trip: Duration) {
        let event = Event::Opened {
            conn: conn(slot),
            dial: Some(slot),
            peer: "",
        };
        self.tell(event);
        self.hear(slot, WELCOME);
        for _ in 0..CHECK_PINGS {
            self.wait(trip);
            self.hear(slot, PONG);
        }
        let mut expected = vec![format!("{slot} Hello"), format!("{slot} Job")];
        expected.resize(2 + CHECK_PINGS, format!("{slot} Ping"));
        assert_eq!(self.take(), expected);
    }

    fn answer(&mut self, slot: u32, status: Status) {
        let attempt = Attempt { task: 0, number: 1 };
        let frame = Frame::Outcome(Outcome {
            attempt,
            status,
            run_us: 0,
            output: b"no".into(),
        });
        self.hear(slot, frame);
    }

    /// What was found of the first worker.
    fn found(&self) -> Result<&Finding, &str> {
        self.role.findings().next().expect("it is known").1
    }
}

#[test]
fn a_worker_is_greeted_pinged_measured_and_let_go() {
    let mut bench = Bench::new(1);
    bench.reach(0, Duration::from_micros(1234));
    bench.wait(Duration::ZERO);
    assert_eq!(bench.take(), ["0 Task"; 3], "as many as its credit");
    bench.wait(Duration::from_millis(20));
    bench.answer(0, Status::Done);
    for _ in 0..10 {
        bench.wait(CHECK_MEASURE_TIME / 10);
        bench.answer(0, Status::Done);
    }
    // The moment is over: what is out comes back, and nothing more is sent.
    assert_eq!(bench.take(), ["0 Task"; 9]);
    bench.answer(0, Status::Done);
    bench.wait(Duration::ZERO);
    assert_eq!(bench.take(), ["0 close", "exit Done"]);
    assert_eq!(
        bench.found().unwrap().words(false, "square"),
        "release 9\\n9, no key, 2 slots, credit 3 tasks and 1.0 MiB, round trip 1.23 ms, 45.0/s \
         tasks of square"
    );
}

#[test]
fn tasks_wait_until_all_are_reached_or_late() {
    let mut bench = Bench::new(2);
    bench.reach(0, Duration::from_millis(1));
    bench.wait(CHECK_ANSWER_TIMEOUT / 2);
    assert_eq!(bench.take(), [""; 0]);
    bench.hear(0, Frame::Ping);
    bench.wait(CHECK_ANSWER_TIMEOUT / 2);
    assert_eq!(bench.take(), ["0 Pong", "0 Task", "0 Task", "0 Task"]);
    // Who comes now comes too late.
    bench.tell(Event::Opened {
        conn: conn(1),
        dial: Some(1),
        peer: "",
    });
    assert_eq!(bench.take(), ["1 close"]);
    bench.wait(CHECK_TASK_TIMEOUT);
    assert_eq!(
        bench.take(),
        ["0 close", "exit Failed"],
        "it has not answered a task"
    );
    let words = bench.found().unwrap().words(true, "square");
    assert!(
        words.ends_with(" too busy to answer tasks of square at once"),
        "{words}"
    );
}

#[test]
fn a_worker_that_breaks_off_or_answers_what_it_never_got_is_defective() {
    let closed = |reason| Event::Closed {
        conn: conn(0),
        reason,
    };
    let mut bench = Bench::new(1);
    bench.reach(0, Duration::ZERO);
    bench.tell(closed(CloseReason::Peer));
    bench.wait(Duration::ZERO);
    assert_eq!(bench.take(), ["exit NoWorker"]);
    assert!(
        bench
            .found()
            .unwrap_err()
            .starts_with("closed by the other side in the middle")
    );

    for status in [Status::Failed, Status::Returned] {
        let mut bench = Bench::new(1);
        bench.reach(0, Duration::ZERO);
        bench.wait(Duration::ZERO);
        assert_eq!(bench.take(), ["0 Task"; 3]);
        bench.answer(0, status);
        bench.wait(Duration::ZERO);
        assert_eq!(bench.take(), ["0 close", "exit NoWorker"]);
        assert!(
            bench
                .found()
                .unwrap_err()
                .starts_with("it fails empty tasks of square: no;")
        );
    }

    let mut bench = Bench::new(1);
    bench.reach(0, Duration::ZERO);
    bench.wait(Duration::ZERO);
    (0..4).for_each(|_| bench.answer(0, Status::Done));
    assert!(
        bench
            .found()
            .unwrap_err()
            .starts_with("Outcome frame at the wrong moment")
    );
    bench.take();

    let mut bench = Bench::new(1);
    bench.reach(0, Duration::ZERO);
    bench.hear(0, Frame::Drain);
    assert_eq!(bench.found(), Err("it is about to end; start it again"));
}

#[test]
fn an_interrupt_leaves_out_what_is_not_known() {
    let mut bench = Bench::new(2);
    bench.tell(Event::DialFailed {
        dial: 0,
        reason: "no",
    });
    bench.tell(Event::Interrupted);
    assert_eq!(bench.take(), ["exit Interrupted"]);
    let names: Vec<&str> = bench.role.findings().map(|(name, _)| name).collect();
    assert_eq!(names, ["w0:5000"]);
}
