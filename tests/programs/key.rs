//! Keys as a user handles them: made, found, refused, one-sided, wrong, and changed.
//!
//! What it is: the two programs, their exit codes and what they say. What it is not: what goes over the
//! wire in a keyed session, or the rules of the file alone, which are tested where they are written.
//!
//! Invariant: no test depends on this machine's own key: each names a file, or expects an end before
//! one is looked for.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::common::{Ended, Process, Worker, head, run_head, squares, worker};
use teamster::keyfile::VARIABLE;
use tempfile::TempDir;

const JOB: &str = "square --count 3 --work-ms 0";

/// A folder for key files.
struct Keys(TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.into_os_string().into_string().unwrap()
    }

    /// Has the program make one.
    fn make(&self, name: &str) -> String {
        let path = self.path(name);
        run_head(&format!("--keygen {path}")).expect(0);
        path
    }
}

/// A worker with these arguments.
fn listen(args: &str) -> Worker {
    Worker::listening(&mut worker(&format!("-l 127.0.0.1:0 -s 1 {args}")))
}

fn run_worker(args: &str) -> Ended {
    Process::start(&mut worker(args)).end()
}

/// A short job on `worker`.
fn run(worker: &Worker, args: &str) -> Ended {
    run_head(&format!("-w {} --give-up 5 {args} {JOB}", worker.address))
}

#[test]
fn a_new_key_is_made_once_and_what_to_do_with_it_is_said() {
    let keys = Keys::new();
    let path = keys.path("key");
    let made = run_head(&format!("--keygen {path}")).expect(0);
    assert!(made.out.is_empty());
    made.says(&format!("{path} has a new key. Copy it"));
    made.says("/etc/teamster/key");
    let before = fs::read(&path).unwrap();
    assert_eq!(before.len(), 65);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = run_head(&format!("--keygen {path}")).expect(5);
    again.says("a key is not written over another");
    assert_eq!(fs::read(&path).unwrap(), before);
    run_head("--keygen /proc/key").expect(5);
    run_head(&format!("--keygen {path} {JOB}"))
        .expect(2)
        .says("--keygen FILE stands alone");
}

#[test]
fn whoever_has_the_key_is_served() {
    let keys = Keys::new();
    let key = keys.make("key");
    let by_flag = listen(&format!("--key-file {key}"));
    let ended = run(&by_flag, &format!("--key-file {key}")).expect(0);
    assert_eq!(ended.text(), squares(3));
    // By the variable, both.
    let mut command = worker("-l 127.0.0.1:0 -s 1");
    let by_variable = Worker::listening(command.env(VARIABLE, &key));
    let mut command = head(&format!("-w {} {JOB}", by_variable.address));
    let ended = Process::start(command.env(VARIABLE, &key)).end().expect(0);
    assert_eq!(ended.text(), squares(3));
    by_variable.says(&format!("using the key in {key}"));
}

#[test]
fn a_key_is_what_lets_others_reach_a_worker() {
    let keys = Keys::new();
    let key = keys.make("key");
    let mut process = Process::start(&mut worker(&format!("-l 0.0.0.0:0 --key-file {key}")));
    process.stdout_lines().wait_for("Listening on 0.0.0.0:");
    for args in ["-l 0.0.0.0:0", "-l [::]:0", "-l 192.0.2.1:0"] {
        // Without one, unless this machine has its own.
        if !std::path::Path::new(teamster::keyfile::DEFAULT_PATH).exists() {
            let ended = run_worker(args).expect(2);
            assert!(ended.out.is_empty());
            ended.says("there is no key; head --keygen FILE makes one for --key-file");
        }
    }
}

#[test]
fn a_key_file_that_is_of_no_use_is_2_wherever_it_is_named() {
    let keys = Keys::new();
    let open = keys.make("open");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let garbled = keys.path("garbled");
    fs::write(&garbled, "secret\n").unwrap();
    fs::set_permissions(&garbled, Permissions::from_mode(0o600)).unwrap();
    let missing = keys.path("missing");
    let folder = keys.path(".");
    for (path, reason) in [
        (&open, "others can use it (its mode is 0644); chmod 600 "),
        (&garbled, "line 1 is no key, which is 64 hexadecimal digits"),
        (&missing, "head --keygen FILE makes one"),
        (&folder, "it is no regular file"),
    ] {
        for mut command in [
            head(&format!("-w 127.0.0.1:1 --key-file {path} {JOB}")),
            worker(&format!("-l 127.0.0.1:0 --key-file {path}")),
        ] {
            let ended = Process::start(&mut command).end().expect(2);
            assert!(ended.out.is_empty());
            ended.says(&format!("error: key file {path}: "));
            ended.says(reason);
        }
        for mut command in [
            head(&format!("-w 127.0.0.1:1 {JOB}")),
            worker("-l 127.0.0.1:0"),
        ] {
            let ended = Process::start(command.env(VARIABLE, path)).end().expect(2);
            ended.says(reason);
        }
    }
    let mut command = worker("-l 127.0.0.1:0");
    let empty = Process::start(command.env(VARIABLE, "")).end();
    empty.expect(2).says("TEAMSTER_KEY_FILE is empty");
}

#[test]
fn insecure_is_said_instead_of_a_key() {
    let keys = Keys::new();
    let key = keys.make("key");
    run_worker(&format!("--insecure --key-file {key}"))
        .expect(2)
        .says("--insecure is for a worker without a key");
    // What was typed beats what happens to be there, and that is said.
    let mut command = worker("-l 0.0.0.0:0 -s 1 --insecure");
    let insecure = Worker::listening(command.env(VARIABLE, &key));
    insecure.says(&format!("--insecure: the key in {key} is not used"));
    let address = insecure.address.replace("0.0.0.0", "127.0.0.1");
    let ended = run_head(&format!("-w {address} {JOB}")).expect(0);
    assert_eq!(ended.text(), squares(3));
    assert!(!ended.err.iter().any(|line| line.contains("no key")));
}

#[test]
fn workers_inside_the_head_need_no_key() {
    let mut command = head(&format!("--local 1 {JOB}"));
    let ended = Process::start(command.env(VARIABLE, "/missing")).end();
    assert_eq!(ended.expect(0).text(), squares(3));
    run_head(&format!("--key-file /missing {JOB}"))
        .expect(2)
        .says("--key-file is for --workers; those inside this process need none");
}

#[test]
fn a_head_without_a_key_says_once_that_others_can_read_along() {
    let ended = run_head(&format!("-w 192.0.2.1,192.0.2.2 --give-up 0.2 {JOB}")).expect(3);
    let warned = |line: &&String| line.starts_with("head: warning: no key: whoever is between");
    assert_eq!(
        ended.err.iter().filter(warned).count(),
        1,
        "{:?}",
        ended.err
    );
}

#[test]
fn a_key_on_one_side_only_is_named_on_both() {
    let keys = Keys::new();
    let key = keys.make("key");
    let keyed = listen(&format!("--key-file {key}"));
    run(&keyed, "").expect(3).says(&format!(
        "worker {} cannot be used: it has a key and this side has none; give this side the same by",
        keyed.address
    ));
    keyed.says("closed: this side has a key and it has none; give it the same by --key-file FILE");
    let unkeyed = listen("");
    run(&unkeyed, &format!("--key-file {key}"))
        .expect(3)
        .says(&format!(
            "worker {} cannot be used: this side has a key and it has none",
            unkeyed.address
        ));
    unkeyed.says("closed: it has a key and this side has none");
}

#[test]
fn a_wrong_key_ends_the_run_and_is_called_so() {
    let keys = Keys::new();
    let (right, wrong) = (keys.make("right"), keys.make("wrong"));
    let keyed = listen(&format!("--key-file {right}"));
    let ended = run(&keyed, &format!("--key-file {wrong}")).expect(3);
    ended.says(&format!(
        "worker {} cannot be used: it does not have the key of this side",
        keyed.address
    ));
    keyed.says("closed: it does not have the key of this side");
    // It is none the worse for that.
    run(&keyed, &format!("--key-file {right}")).expect(0);
}

#[test]
fn a_worker_takes_the_old_key_and_the_new_one_while_they_change() {
    let keys = Keys::new();
    let (old, new) = (keys.make("old"), keys.make("new"));
    let both = keys.path("both");
    let text = |path| fs::read_to_string(path).unwrap();
    fs::write(&both, format!("{}# new\n{}", text(&old), text(&new))).unwrap();
    fs::set_permissions(&both, Permissions::from_mode(0o600)).unwrap();
    let changing = listen(&format!("--key-file {both}"));
    for key in [&old, &new, &both] {
        let ended = run(&changing, &format!("--key-file {key}")).expect(0);
        assert_eq!(ended.text(), squares(3));
    }
    // A head dials with the first.
    let changed = listen(&format!("--key-file {new}"));
    run(&changed, &format!("--key-file {both}")).expect(3);
}
