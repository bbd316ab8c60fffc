//! The programs in `examples/`, as a user starts them.
//!
//! What it is: each on workers inside it and on workers of its own. What it is not: a test of the
//! library's corners; those are in `cluster.rs`.
//!
//! Invariant: what they print is what other means find.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{Process, Worker};

/// `cargo test` builds the examples before it runs any test; `cargo test --test programs examples::` does not.
fn example(name: &str, args: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "first: cargo build --examples");
    let mut command = Command::new(path);
    command.args(args);
    command
}

/// Two workers of an example, on ports of their own, and the list that names them.
fn workers(name: &str) -> (Vec<Worker>, String) {
    let args = ["worker", "-l", "127.0.0.1:0", "-s", "1"];
    let workers = [(); 2].map(|()| Worker::listening(&mut example(name, &args)));
    let list = workers
        .each_ref()
        .map(|worker| worker.address.clone())
        .join(",");
    (workers.into(), list)
}

#[test]
fn pi_is_found_and_is_the_same_wherever() {
    let (_workers, list) = workers("pi");
    for cluster in ["local", &list] {
        let ended = Process::start(&mut example("pi", &[cluster]))
            .end()
            .expect(0);
        assert_eq!(ended.text(), "3.1415926536\n");
    }
}

#[test]
fn words_are_counted_as_other_tools_count_them() {
    let (_workers, list) = workers("wordcount");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // More than one piece, and no end of line.
    for i in 0..100_000 {
        write!(file, "to be, or NOT to be: {i} ").unwrap();
    }
    let path = file.path().to_str().unwrap();
    for cluster in ["local", &list] {
        let ended = Process::start(&mut example("wordcount", &[cluster, path]))
            .end()
            .expect(0);
        let expected = "  200000 be\n  200000 to\n  100000 not\n  100000 or\n       1 0\n";
        assert!(ended.text().starts_with(expected), "{}", ended.text());
    }
    let ended = Process::start(&mut example("wordcount", &["local", "/no/such"]))
        .end()
        .expect(1);
    ended.says("/no/such: No such file");
}

#[test]
fn an_example_is_a_worker_with_all_its_options() {
    let ended = Process::start(&mut example("pi", &["worker", "--help"]))
        .end()
        .expect(0);
    assert!(ended.text().starts_with("Usage: worker [OPTIONS]"));
    Process::start(&mut example("pi", &["worker", "--slot"]))
        .end()
        .expect(2);
}
