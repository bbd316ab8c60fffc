//! Whole runs on loopback: real programs, real sockets, workers that come and go.
//!
//! What it is: the promise to users, seen from outside. What it is not: hostile peers (`hostile.rs`),
//! peers that are no workers (`strangers.rs`), or the command line (`cli.rs`).
//!
//! Invariant: nothing here depends on how fast the machine is, except that shares of equal sleeping
//! tasks are compared.

use std::sync::Arc;

use crate::common::net::{Client, HELLO, Relay, free_port, refusal};
use crate::common::{Run, Worker, assert_same_text, run_head, squares, worker, worker_thread};
use teamster::kernel::{Kernel, Kernels, Stop};

#[test]
fn a_million_tasks_over_one_connection_per_worker() {
    let workers = [Worker::start(1), Worker::start(1)];
    let relays = workers.each_ref().map(|w| Relay::to(&w.address));
    let [a, b] = relays.each_ref().map(|relay| relay.address.to_string());
    let ended = run_head(&format!("-w {a},{b} square --count 1000000 --work-ms 0"));
    let ended = ended.expect(0);
    assert_same_text(ended.text(), &squares(1_000_000));
    assert_eq!(relays.each_ref().map(Relay::accepts), [1, 1]);
    assert_eq!(ended.done_by(&a) + ended.done_by(&b), 1_000_000);
}

#[test]
fn slots_share_equal_tasks_equally() {
    let (three, one) = (Worker::start(3), Worker::start(1));
    let (a, b) = (&three.address, &one.address);
    let ended = run_head(&format!("-w {a},{b} square --count 400 --work-ms 100")).expect(0);
    assert_eq!(ended.text(), squares(400));
    let share = ended.done_by(a);
    assert!(
        (285..=315).contains(&share),
        "{share} of 400 on 3 of 4 slots"
    );
    assert_eq!(share + ended.done_by(b), 400);
}

fn fail_some(_: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    struct FailSome;
    impl Kernel for FailSome {
        fn run(
            &self,
            input: &[u8],
            _: &Stop,
            output: &mut Vec<u8>,
        ) -> Result<(), teamster::kernel::KernelError> {
            let n = u64::from_be_bytes(input.try_into().unwrap());
            match n % 10 {
                3 => return Err("no threes\nhere".into()),
                7 => panic!("no sevens"),
                _ => output.extend_from_slice(&(n * n).to_be_bytes()),
            }
            Ok(())
        }
    }
    Ok(Arc::new(FailSome))
}

#[test]
fn a_task_that_fails_is_reported_and_the_others_are_delivered() {
    let address = worker_thread(Kernels::new().with("square", fail_some), 1 << 20);
    let ended = run_head(&format!("-w {address} square --count 8")).expect(1);
    assert_eq!(
        ended.text(),
        "0 -> 0\n1 -> 1\n2 -> 4\n4 -> 16\n5 -> 25\n6 -> 36\n"
    );
    ended.says("task 3 failed: no threes\\nhere");
    ended.says("task 7 failed: the kernel panicked: no sevens");
    ended.says(&format!("worker {address}: 6 done, 2 failed, 0 lost"));
    let ended = run_head(&format!("-w {address} square --count 4 --format json")).expect(1);
    let last = "{\"task\":3,\"outcome\":\"failed\",\"error\":\"no threes\\\\nhere\"}";
    assert_eq!(ended.text().lines().nth(3), Some(last));
    let ended = run_head(&format!("-w {address} square --count 4 --format tsv")).expect(1);
    assert!(
        ended.text().ends_with("\n3\tfailed\t\n"),
        "{}",
        ended.text()
    );
}

#[test]
fn a_worker_without_the_kernel_is_of_no_use() {
    let address = worker_thread(Kernels::new().with("cube", fail_some), 1 << 20);
    let ended = run_head(&format!("-w {address} square")).expect(3);
    ended.says("no kernel \"square\" here, only cube");
}

#[test]
fn a_worker_killed_in_mid_run_loses_no_task() {
    let (mut dies, lives) = (Worker::start(1), Worker::start(1));
    let (a, b) = (&dies.address, &lives.address);
    let head = Run::start(&format!("-w {a},{b} square --count 200 --work-ms 10"));
    head.out.wait_for("20 -> 400");
    dies.process.kill();
    let ended = head.end().expect(0);
    assert_eq!(ended.text(), squares(200));
    ended.says(&format!("worker {a} is gone: "));
    ended.says(" elsewhere");
    assert_eq!(ended.done_by(a) + ended.done_by(b), 200);
}

#[test]
fn a_worker_that_comes_up_late_joins() {
    let early = Worker::start(1);
    let late = free_port("127.77.0.1").to_string();
    let workers = format!("-w {},{late}", early.address);
    let head = Run::start(&format!("{workers} square --count 300 --work-ms 20"));
    head.process
        .err
        .wait_for(&format!("worker {late} cannot be used yet"));
    head.out.wait_for("1 -> 1");
    let _late = Worker::start_at(&late);
    let ended = head.end().expect(0);
    assert_eq!(ended.text(), squares(300));
    assert!(ended.done_by(&late) > 0);
}

#[test]
fn a_head_waits_for_its_first_worker() {
    let late = free_port("127.77.0.2").to_string();
    let head = Run::start(&format!("-w {late} square --count 50 --work-ms 1"));
    head.process
        .err
        .wait_for("nothing listens there; it is tried again");
    let _late = Worker::start_at(&late);
    assert_eq!(head.end().expect(0).text(), squares(50));
}

#[test]
fn a_worker_that_restarts_is_used_again() {
    let mut first = Worker::listening(&mut worker("-l 127.77.0.3:0 -s 1"));
    let address = first.address.clone();
    let head = Run::start(&format!("-w {address} square --count 60 --work-ms 10"));
    head.out.wait_for("10 -> 100");
    first.process.kill();
    head.process
        .err
        .wait_for(&format!("worker {address} is gone"));
    let _second = Worker::start_at(&address);
    let ended = head.end().expect(0);
    assert_eq!(ended.text(), squares(60));
    assert_eq!(ended.done_by(&address), 60);
}

#[test]
fn names_work_as_well_as_addresses() {
    let named = Worker::listening(&mut worker("-l localhost:0 -s 1"));
    let (_, port) = named.address.rsplit_once(':').unwrap();
    let ended = run_head(&format!("-w localhost:{port} square --count 5 --work-ms 0")).expect(0);
    assert_eq!(ended.text(), squares(5));
    assert_eq!(ended.done_by(&format!("localhost:{port}")), 5);
    let unknown = run_head("-w no-such-host.invalid --give-up 0.5 square").expect(3);
    unknown.says("giving up");
}

#[test]
fn unordered_results_are_the_same_results() {
    let workers = [Worker::start(2), Worker::start(1)];
    let [a, b] = workers.each_ref().map(|w| &w.address[..]);
    let args = format!("-w {a},{b} square --count 20000 --work-ms 0 --unordered");
    let ended = run_head(&args).expect(0);
    let number = |line: &&str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let mut lines: Vec<&str> = ended.text().lines().collect();
    lines.sort_by_key(number);
    assert_same_text(&(lines.join("\n") + "\n"), &squares(20_000));
}

#[test]
fn two_heads_share_one_worker() {
    let shared = Worker::start(1);
    let long = Run::start(&format!(
        "-w {} square --count 100000 --work-ms 5",
        shared.address
    ));
    long.out.wait_for("5 -> 25");
    let args = format!("-w {} square --count 40 --work-ms 5", shared.address);
    assert_eq!(run_head(&args).expect(0).text(), squares(40));
    let seen = long.out.all().len();
    long.out.wait_for(&format!("{} -> ", seen + 5));
    drop(long);
    shared.says(" dropped");
    assert_eq!(
        run_head(&args).expect(0).text(),
        squares(40),
        "its slot is free again"
    );
}

#[test]
fn the_65th_connection_is_refused_and_the_others_go_on() {
    let full = Worker::start(1);
    let first = Run::start(&format!(
        "-w {} square --count 100000 --work-ms 5",
        full.address
    ));
    first.out.wait_for("1 -> 1");
    let mut others: Vec<Client> = (0..63).map(|_| Client::greeted(&full.address)).collect();
    let mut one_more = Client::opened(&full.address);
    one_more.frame(HELLO);
    let refused = one_more.until_closed();
    assert_eq!(
        refusal(&refused).unwrap(),
        "it serves 64 connections already"
    );
    full.says("turned away: it serves 64 connections already");

    let waits = Run::start(&format!(
        "-w {} square --count 20 --work-ms 0",
        full.address
    ));
    waits
        .process
        .err
        .wait_for("it refused: it serves 64 connections already");
    let seen = first.out.all().len();
    first.out.wait_for(&format!("{} -> ", seen + 5));
    others.pop();
    assert_eq!(waits.end().expect(0).text(), squares(20), "there was room");
    assert!(first.process.complaints().is_empty());
}
