//! Payloads as long as they may be, and one byte longer.
//!
//! What it is: the real reactor with both roles in threads, and a kernel that answers with as many
//! bytes as it is told. What it is not: the parsing of `--payload-max`.
//!
//! Invariant: what is too long fails alone, with a reason that says what to do.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::common::worker_thread;
use teamster::frame::{Side, Status};
use teamster::head::{Head, HeadConfig};
use teamster::kernel::{Delivery, Kernel, Kernels, Next, Stop, Workload};
use teamster::output::Output;
use teamster::reactor::{Reactor, Target};
use teamster::role::Exit;

const MIB: usize = 1 << 20;

/// Answers as many bytes as the first four of its input say, each the input's last byte.
fn sized(_: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    struct Sized;
    impl Kernel for Sized {
        fn run(
            &self,
            input: &[u8],
            _: &Stop,
            output: &mut Vec<u8>,
        ) -> Result<(), teamster::kernel::KernelError> {
            let bytes = u32::from_be_bytes(input[..4].try_into().unwrap());
            output.resize(bytes as usize, *input.last().unwrap());
            Ok(())
        }
    }
    Ok(Arc::new(Sized))
}

/// One task per pair of lengths, input and output.
struct Sizes {
    sizes: Vec<(usize, usize)>,
    next: usize,
    /// The output's length, or the reason why there is none.
    outcomes: Vec<Result<usize, String>>,
}

impl Workload for Sizes {
    fn kernel(&self) -> &str {
        "sized"
    }

    fn describe(&self) -> String {
        "sized".into()
    }

    fn setup(&self) -> Vec<u8> {
        Vec::new()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        let Some(&(input_bytes, output_bytes)) = self.sizes.get(self.next) else {
            return Next::End;
        };
        self.next += 1;
        input.resize(input_bytes, self.next as u8);
        input[..4].copy_from_slice(&(output_bytes as u32).to_be_bytes());
        Next::Task
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, _: &mut Vec<u8>) {
        self.outcomes.push(match delivery.status {
            Status::Done => {
                let fill = delivery.task as u8 + 1;
                assert!(delivery.output.iter().all(|&byte| byte == fill));
                Ok(delivery.output.len())
            }
            _ => Err(String::from_utf8(delivery.output.to_vec()).unwrap()),
        });
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        true
    }
}

fn run(
    worker: SocketAddr,
    limit: usize,
    sizes: &[(usize, usize)],
) -> (Exit, Vec<Result<usize, String>>) {
    let mut reactor = Reactor::new(Side::Head, limit).unwrap();
    reactor.set_output(Output::to_stdout(None, reactor.mailbox()).unwrap());
    reactor.set_targets(vec![Target {
        host: worker.ip().to_string(),
        port: worker.port(),
    }]);
    let mut config = HeadConfig::new(vec![worker.to_string()]);
    config.payload_bytes_max = limit;
    let job = Sizes {
        sizes: sizes.to_vec(),
        next: 0,
        outcomes: Vec::new(),
    };
    let mut head = Head::new(config, job);
    let exit = reactor.run(&mut head).unwrap();
    (exit, head.workload().outcomes.clone())
}

fn start(limit: usize) -> SocketAddr {
    worker_thread(Kernels::new().with("sized", sized), limit)
}

#[test]
fn at_the_edge_and_beyond() {
    let worker = start(MIB);
    let sizes = [(MIB, MIB), (MIB + 1, 5), (5, MIB + 1), (MIB - 1, 0), (5, 5)];
    let (exit, outcomes) = run(worker, MIB, &sizes);
    assert_eq!(exit, Exit::Failed);
    let [whole, long_input, long_output, empty, after] = &outcomes[..] else {
        panic!("{} outcomes", outcomes.len());
    };
    assert_eq!((whole, empty, after), (&Ok(MIB), &Ok(0), &Ok(5)));
    for (reason, what) in [(long_input, "input"), (long_output, "output")] {
        let reason = reason.as_ref().unwrap_err();
        assert!(reason.starts_with(&format!("its {what}")), "{reason}");
        assert!(reason.contains("longer than the 1048576"), "{reason}");
        assert!(
            reason.ends_with("raise --payload-max on both sides"),
            "{reason}"
        );
    }
}

#[test]
fn the_largest_payload_there_is() {
    let largest = 64 * MIB;
    let sizes = [(largest, largest), (5, 5)];
    let (exit, outcomes) = run(start(largest), largest, &sizes);
    assert_eq!(exit, Exit::Done);
    assert_eq!(outcomes, [Ok(largest), Ok(5)]);
}

#[test]
fn many_large_payloads_share_credit_and_window() {
    let (exit, outcomes) = run(start(MIB), MIB, &[(MIB, MIB); 60]);
    assert_eq!(exit, Exit::Done);
    assert_eq!(outcomes, vec![Ok(MIB); 60]);
}

#[test]
fn the_smaller_limit_counts() {
    let roomy = start(2 * MIB);
    let (exit, outcomes) = run(roomy, MIB, &[(MIB, MIB), (5, MIB + 1)]);
    assert_eq!(exit, Exit::Failed);
    assert_eq!(outcomes[0], Ok(MIB));
    assert!(
        outcomes[1]
            .as_ref()
            .unwrap_err()
            .contains("longer than the 1048576 allowed")
    );
    let (exit, outcomes) = run(start(MIB), 2 * MIB, &[(5, 5)]);
    assert_eq!((exit, outcomes), (Exit::NoWorker, vec![]));
}
