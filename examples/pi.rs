//! Pi, by summing up the area below 4/(1+x²).
//!
//! What it is: a kernel with a set-up, and numbers as bytes. What it is not: how anybody should
//! find pi.
//!
//! ```sh
//! pi local
//! pi worker --key-file key                                    # there, as `worker`
//! TEAMSTER_KEY_FILE=key pi 10.0.0.11,10.0.0.12                # here
//! ```
//!
//! Invariant: the slices are summed in their order, so the last digit is the same wherever each of
//! them was computed.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use teamster::{Cluster, Kernel, Kernels};

const SLICES: u32 = 1000;
const STEPS_PER_SLICE: u32 = 100_000;

/// A kernel whose set-up is the number of slices, input the slice, and output its area.
fn area(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    let slices = number(setup)?;
    Ok(Arc::new(move |input: &[u8]| {
        let first = u64::from(number(input)?) * u64::from(STEPS_PER_SLICE);
        let step = 1.0 / (f64::from(slices) * f64::from(STEPS_PER_SLICE));
        let heights = (0..u64::from(STEPS_PER_SLICE)).map(|i| {
            let x = ((first + i) as f64 + 0.5) * step;
            4.0 / (1.0 + x * x)
        });
        Ok((heights.sum::<f64>() * step).to_be_bytes().to_vec())
    }))
}

fn number(bytes: &[u8]) -> Result<u32, String> {
    let bytes = bytes
        .try_into()
        .map_err(|_| format!("{} bytes, not 4", bytes.len()))?;
    Ok(u32::from_be_bytes(bytes))
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let kernels = Kernels::new().with("area", area);
    let mut args = env::args_os().skip(1);
    let first = args
        .next()
        .ok_or("who? worker, local, or a list of workers")?;
    let cluster = match first.to_str().ok_or("workers have names in UTF-8")? {
        "worker" => return Ok(teamster::worker(args, kernels)),
        "local" => Cluster::local(2, &kernels)?,
        workers => Cluster::connect(workers)?,
    };
    let mut pi = 0.0;
    let slices = (0..SLICES).map(u32::to_be_bytes);
    for area in cluster.map("area", &SLICES.to_be_bytes(), slices)? {
        pi += f64::from_be_bytes(area?.as_slice().try_into()?);
    }
    println!("{pi:.10}");
    Ok(ExitCode::SUCCESS)
}
