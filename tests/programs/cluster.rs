//! The library as other programs use it.
//!
//! What it is: `Cluster` and what it gives, against workers inside this process. What it is not: a
//! test of runs; those of the program `head` are the same.
//!
//! Invariant: nothing but the public face is used.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use teamster::{Cluster, Error, Kernel, KernelError, Kernels, Stop};

fn reverse(input: &[u8]) -> Result<Vec<u8>, String> {
    match input {
        b"bad" => Err("no".into()),
        b"panic" => panic!("a test's panic, not a mistake"),
        _ => Ok(input.iter().rev().copied().collect()),
    }
}

fn cluster() -> Cluster {
    Cluster::local(2, &Kernels::new().with_fn("reverse", reverse)).unwrap()
}

#[test]
fn results_come_in_the_order_of_the_inputs() {
    let inputs = (0..20_000_u32).map(|i| i.to_string());
    let results = cluster().map("reverse", &[], inputs).unwrap();
    let mut count = 0;
    for (i, output) in results.enumerate() {
        let reversed: String = i.to_string().chars().rev().collect();
        assert_eq!(output.unwrap(), reversed.as_bytes());
        count += 1;
    }
    assert_eq!(count, 20_000);
}

#[test]
fn no_inputs_give_no_results_and_the_end_stays_the_end() {
    let mut results = cluster().map("reverse", &[], [""; 0]).unwrap();
    assert!(results.next().is_none() && results.next().is_none());
}

#[test]
fn a_failed_input_has_its_reason_and_the_others_their_outputs() {
    let results = cluster()
        .map("reverse", &[], ["ab", "bad", "panic", "cd"])
        .unwrap();
    let results: Vec<_> = results.collect();
    assert_eq!(results[0].as_ref().unwrap(), b"ba");
    let text = results[1].as_ref().unwrap_err().to_string();
    assert!(text.starts_with("task 1 failed at worker 127.0.0.1:") && text.ends_with(": no"));
    let text = results[2].as_ref().unwrap_err().to_string();
    assert!(
        text.ends_with("the kernel panicked: a test's panic, not a mistake"),
        "{text}"
    );
    assert_eq!(results[3].as_ref().unwrap(), b"dc");
    assert_eq!(results.len(), 4);
}

#[test]
fn inputs_are_pulled_only_as_far_ahead_as_there_is_room() {
    let pulled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pulled);
    let endless = (0..).map(move |i: u64| {
        count.fetch_add(1, Ordering::Relaxed);
        i.to_be_bytes()
    });
    let mut results = cluster().map("reverse", &[], endless).unwrap();
    for i in 0..100_u64 {
        assert_eq!(results.next().unwrap().unwrap(), i.to_le_bytes());
    }
    // The queue, what the workers hold, and what is on its way.
    assert!(pulled.load(Ordering::Relaxed) < 100_000);
}

#[test]
fn what_is_too_long_to_be_sent_is_said_before_anything_is() {
    let refused = |kernel: &str, setup_bytes| {
        let cluster = cluster().payload_max(1000);
        let results = cluster.map(kernel, &vec![0; setup_bytes], ["a"]);
        results.unwrap_err().to_string()
    };
    assert_eq!(
        refused(&"k".repeat(256), 0),
        "a kernel's name of 256 bytes; it has at most 255"
    );
    assert_eq!(
        refused("reverse", 1030),
        "set-up of 1030 bytes; at most 1000 are sent, see Cluster::payload_max"
    );
    let mut results = cluster().payload_max(1).map("reverse", &[], ["a"]).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), b"a");
}

#[test]
fn a_run_that_is_dropped_ends_and_stops_its_kernels() {
    struct Endless(Barrier);
    impl Kernel for Endless {
        fn run(&self, _: &[u8], stop: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            self.0.wait();
            assert!(stop.sleep(Duration::from_secs(600)));
            self.0.wait();
            Ok(())
        }
    }
    let kernel = Arc::new(Endless(Barrier::new(2)));
    let shared = Arc::clone(&kernel);
    let kernels = Kernels::new().with("endless", move |_| {
        Ok(Arc::clone(&shared) as Arc<dyn Kernel>)
    });
    let cluster = Cluster::local(1, &kernels).unwrap();
    // The second input is pulled while there is no result, and does not come: what unwinds takes
    // the run with it.
    let inputs = (0..2).map(|i| {
        if i == 1 {
            kernel.0.wait();
            panic!("a test's panic, not a mistake");
        }
        [i]
    });
    let run = || cluster.map("endless", &[], inputs).unwrap().next();
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    kernel.0.wait();
}

#[test]
fn what_takes_too_long_is_timed_out() {
    struct Sleeping;
    impl Kernel for Sleeping {
        fn run(&self, input: &[u8], stop: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            if !input.is_empty() {
                stop.sleep(Duration::from_secs(600));
            }
            Ok(())
        }
    }
    let kernels = Kernels::new().with("sleep", |_| Ok(Arc::new(Sleeping)));
    let cluster = Cluster::local(1, &kernels)
        .unwrap()
        .timeout(Duration::from_millis(50));
    let results: Vec<_> = cluster.map("sleep", &[], ["", "x", ""]).unwrap().collect();
    assert!(matches!(
        &results[..],
        [Ok(_), Err(Error::TimedOut { task: 1, .. }), Ok(_)]
    ));
}

#[test]
fn without_a_worker_of_use_a_run_says_so_last() {
    let mut results = cluster().map("revers", &[], ["a", "b"]).unwrap();
    let error = results.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("no kernel \"revers\" here, only reverse"),
        "{error}"
    );
    assert!(results.next().is_none());
    let mut results = cluster().map("reverse", b"set-up", ["a"]).unwrap();
    let error = results.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("this kernel takes none"), "{error}");

    // Nothing ever listens at port 1.
    let nobody = Cluster::connect("127.0.0.1:1,127.0.0.2:1")
        .unwrap()
        .give_up(Duration::from_millis(1));
    let mut results = nobody.map("reverse", &[], ["a"]).unwrap();
    let Some(Err(error @ Error::NoWorker(_))) = results.next() else {
        panic!("no worker");
    };
    let error = error.to_string();
    for worker in ["worker 127.0.0.1:1: ", "worker 127.0.0.2:1: "] {
        assert!(error.contains(worker), "{error}");
    }
    assert!(results.next().is_none());
}

#[test]
fn a_list_that_is_none_is_an_error() {
    let error = Cluster::connect("10.0.0.11,,").unwrap_err();
    assert_eq!(
        error.to_string(),
        "list of workers: part 2 of \"10.0.0.11,,\" is empty"
    );
}

#[test]
fn large_inputs_and_outputs_are_bounded_and_arrive() {
    let cluster = cluster().payload_max(4 << 20);
    let inputs = (0..40_u8).map(|i| vec![i; 3 << 20]);
    for (i, output) in cluster.map("reverse", &[], inputs).unwrap().enumerate() {
        assert_eq!(output.unwrap(), vec![i as u8; 3 << 20]);
    }
    let mut results = cluster
        .map("reverse", &[], [vec![0; (4 << 20) + 1]])
        .unwrap();
    let error = results.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("longer than the 4194304 bytes allowed"),
        "{error}"
    );
}

#[test]
fn two_runs_share_a_cluster() {
    let cluster = cluster();
    let mut first = cluster
        .map("reverse", &[], (0..).map(|i: u64| i.to_be_bytes()))
        .unwrap();
    assert!(first.next().unwrap().is_ok());
    let second = cluster.map("reverse", &[], ["ab"]).unwrap();
    assert_eq!(second.map(Result::unwrap).collect::<Vec<_>>(), [b"ba"]);
    assert!(first.next().unwrap().is_ok());
}

#[test]
fn a_key_file_that_is_not_there_is_an_error_and_not_a_run_without_a_key() {
    let cluster = Cluster::connect("127.0.0.1:1")
        .unwrap()
        .key_file("/no/such");
    let error = cluster.map("reverse", &[], ["a"]).unwrap_err().to_string();
    assert!(
        error.starts_with("key file /no/such: No such file"),
        "{error}"
    );
}
