//! Sends a job's tasks to workers and puts the answers together. See `head --help`.

use std::process::ExitCode;

use teamster::options::HeadOptions;

fn main() -> ExitCode {
    ExitCode::from(match HeadOptions::parse(std::env::args_os().skip(1)) {
        Ok(options) => teamster::run::head(&options),
        Err(early) => early.report(),
    })
}
