//! What must hold of command lines and key files for any bytes at all.
//!
//! What it is: the body of the fuzz target `arguments`. What it is not: a run of either program.
//!
//! Invariant: what is accepted prints as something that is accepted as the same.

use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use crate::key::{Key, Keys};
use crate::options::{Cluster, Early, HeadOptions, WorkerOptions};

/// Arguments that end in a zero byte each, to both programs; and the same bytes as a key file.
pub fn arguments(bytes: &[u8]) {
    let args = bytes.split(|&byte| byte == 0);
    let args = args.map(|arg| OsString::from_vec(arg.to_vec()));
    match HeadOptions::parse(args.clone()) {
        Ok(options) => {
            if let Cluster::Remote(workers) = &options.cluster {
                workers.iter().for_each(reads_back);
            }
        }
        Err(early) => check_early(&early),
    }
    match WorkerOptions::parse(args) {
        Ok(options) => {
            options.allow.iter().for_each(reads_back);
            assert!(options.key_file.is_none() || !options.is_insecure);
            for has_key in [false, true] {
                match options.address(has_key) {
                    Ok(address) => reads_back(&address),
                    Err(reason) => assert!(!has_key && !options.is_insecure, "{reason}"),
                }
            }
        }
        Err(early) => check_early(&early),
    }
    if let Ok(keys) = Keys::parse(bytes) {
        let lines: Vec<String> = keys.all().iter().map(Key::to_hex).collect();
        assert_eq!(Keys::parse(lines.join("\n").as_bytes()), Ok(keys));
    }
}

/// Whoever typed it is told something, which fits on a few lines.
fn check_early(early: &Early) {
    if let Early::Usage(text) = early {
        assert!(
            text.lines().count() >= 2,
            "what is wrong, and where to look"
        );
    }
}

fn reads_back<T: FromStr<Err = String> + Display + PartialEq + Debug>(value: &T) {
    assert_eq!(value.to_string().parse().as_ref(), Ok(value));
}
