//! A kernel without a head: `worker --run`.
//!
//! What it is: one input from standard input, one output to standard output, so that another engine
//! runs the kernels that workers have. What it is not: a session. There is no socket, no limit on
//! time, and a signal ends the process as it ends any other: all that is the engine's.
//!
//! Invariant: nothing is written unless the kernel has done its task.

use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::error;

use crate::kernel::{KernelError, Kernels, Stop};
use crate::role::Exit;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// The kernel's name.
    pub kernel: String,
    /// Its set-up, in the kernel's words if it has some.
    pub setup: String,
}

/// Runs it; says on standard error why there is no output.
pub fn run(
    single: &Single,
    kernels: &Kernels,
    payload_bytes_max: usize,
    source: impl Read,
    mut sink: impl Write,
) -> Exit {
    let output = match compute(single, kernels, payload_bytes_max, source) {
        Ok(output) => output,
        Err((exit, reason)) => {
            error!("{reason}");
            return exit;
        }
    };
    match sink.write_all(&output).and_then(|()| sink.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::ReaderGone,
        Err(error) => {
            error!("cannot write the output: {error}");
            Exit::Output
        }
    }
}

fn compute(
    single: &Single,
    kernels: &Kernels,
    payload_bytes_max: usize,
    source: impl Read,
) -> Result<Vec<u8>, (Exit, String)> {
    let usage = |reason| (Exit::Usage, reason);
    let words = kernels.words(&single.kernel);
    let setup = match words {
        None => single.setup.clone().into_bytes(),
        Some(words) => {
            (words.setup)(&single.setup).map_err(|reason| usage(format!("--setup: {reason}")))?
        }
    };
    let kernel = kernels.open(&single.kernel, &setup).map_err(usage)?;
    let mut input = Vec::new();
    let mut bounded = source.take(payload_bytes_max as u64 + 1);
    bounded
        .read_to_end(&mut input)
        .map_err(|error| (Exit::Output, format!("cannot read the input: {error}")))?;
    if input.len() > payload_bytes_max {
        let reason = format!("the input is longer than the {payload_bytes_max} bytes allowed");
        return Err(usage(format!("{reason}; raise --payload-max")));
    }
    if let Some(words) = words {
        let parsed = str::from_utf8(&input).map_err(|error| error.to_string());
        let parsed = parsed.and_then(words.input);
        input = parsed.map_err(|reason| usage(format!("standard input: {reason}")))?;
    }
    let mut output = Vec::new();
    let stop = Stop::new();
    match catch_unwind(AssertUnwindSafe(|| kernel.run(&input, &stop, &mut output))) {
        Ok(Ok(())) => {}
        Ok(Err(KernelError::Host(reason))) => return Err((Exit::NoWorker, reason)),
        Ok(Err(error)) => return Err((Exit::Failed, error.to_string())),
        Err(_) => return Err((Exit::Failed, "the kernel panicked".into())),
    }
    Ok(match words {
        None => output,
        Some(words) => (words.output)(&output).into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::builtin;
    use std::io;
    use std::sync::Arc;

    fn run_on(kernel: &str, setup: &str, input: &[u8]) -> (u8, String) {
        let kernels = builtin()
            .with_fn("reverse", |input| match input {
                b"panic" => panic!("a test's panic, not a mistake"),
                _ => Ok(input.iter().rev().copied().collect()),
            })
            .with("nowhere", |_| {
                struct Nowhere;
                impl crate::kernel::Kernel for Nowhere {
                    fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
                        Err(KernelError::Host("the disk is full".into()))
                    }
                }
                Ok(Arc::new(Nowhere))
            });
        let (kernel, setup) = (kernel.to_owned(), setup.to_owned());
        let mut output = Vec::new();
        let exit = run(&Single { kernel, setup }, &kernels, 20, input, &mut output);
        (exit.code(), String::from_utf8(output).unwrap())
    }

    fn gives(output: &str) -> (u8, String) {
        (0, output.to_owned())
    }

    fn fails(code: u8) -> (u8, String) {
        (code, String::new())
    }

    #[test]
    fn kernels_with_words_take_and_give_text_and_others_bytes() {
        assert_eq!(run_on("square", "", b"7\n"), gives("49\n"));
        assert_eq!(run_on("square", "1", b" 7"), gives("49\n"));
        assert_eq!(run_on("primes", "", b"1 1000000\n"), gives("78498\n"));
        assert_eq!(run_on("primes", "", b"1 1_000_000\n"), gives("78498\n"));
        assert_eq!(run_on("reverse", "", b"deer\n"), gives("\nreed"));
    }

    #[test]
    fn every_end_has_its_exit_code() {
        assert_eq!(run_on("square", "", b"4294967296"), fails(1));
        assert_eq!(run_on("reverse", "", b"panic"), fails(1));
        for (kernel, setup, input) in [
            ("cube", "", &b"7"[..]),
            ("square", "soon", b"7"),
            ("square", "", b"seven"),
            ("square", "", b"7 8"),
            ("square", "", b"+7"),
            ("square", "", b"99999999999999999999"),
            ("square", "", b"\xff"),
            ("primes", "1", b"1 10"),
            ("primes", "", b"10"),
            ("reverse", "x", b"deer"),
            ("reverse", "", &[b'x'; 21]),
        ] {
            assert_eq!(run_on(kernel, setup, input), fails(2), "{kernel} {setup}");
        }
        assert_eq!(run_on("nowhere", "", b""), fails(3));
    }

    #[test]
    fn an_output_that_cannot_be_written_is_told_apart_from_a_reader_that_has_gone() {
        struct Broken(ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let single = Single {
            kernel: "square".into(),
            setup: String::new(),
        };
        for (kind, code) in [(ErrorKind::BrokenPipe, 141), (ErrorKind::StorageFull, 5)] {
            let exit = run(&single, &builtin(), 20, &b"7"[..], Broken(kind));
            assert_eq!(exit.code(), code);
        }
    }
}
