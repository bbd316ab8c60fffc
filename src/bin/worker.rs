//! Computes the tasks that heads send. See `worker --help`.

use std::process::ExitCode;

use teamster::options::WorkerOptions;

fn main() -> ExitCode {
    ExitCode::from(match WorkerOptions::parse(std::env::args_os().skip(1)) {
        Ok(options) => teamster::run::worker(&options),
        Err(early) => early.report(),
    })
}
