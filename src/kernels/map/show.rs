//! What people see of commands and programs.
//!
//! What it is: commands as a shell takes them, and a program's standard error as a terminal may
//! show it. What it is not: results; those are never changed.
//!
//! Invariant: what is said of one task cannot be taken for another's, and steers no terminal.

use crate::kernel::Delivery;
use crate::limits::STDERR_BYTES_MAX;

/// Words as a shell would read them back, with spaces between.
pub fn quoted(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words {
        if !out.is_empty() {
            out.push(b' ');
        }
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(byte);
        if !word.is_empty() && word.iter().all(is_plain) {
            out.extend_from_slice(word);
            continue;
        }
        out.push(b'\'');
        for &byte in word {
            match byte {
                b'\'' => out.extend_from_slice(b"'\\''"),
                _ => out.push(byte),
            }
        }
        out.push(b'\'');
    }
    out
}

/// What a program wrote to standard error, each line with whose it is in front.
pub(super) fn prefixed(delivery: &Delivery<'_>, stderr: &[u8]) -> Vec<u8> {
    let Delivery { task, worker, .. } = delivery;
    // An honest worker has cut it, and says so in a line between the halves.
    let stderr = &stderr[..stderr.len().min(2 * STDERR_BYTES_MAX)];
    let mut out = String::new();
    for line in stderr.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.push_str(&format!("task {task} at worker {worker}: "));
        show(line, &mut out);
        out.push('\n');
    }
    out.into_bytes()
}

/// That a task has failed, as a line of this program's own.
pub(super) fn failure(delivery: &Delivery<'_>, reason: &str) -> String {
    let Delivery { task, worker, .. } = delivery;
    let line = task + 1;
    match *worker {
        "-" => format!("head: error: task {task} (line {line}) failed: {reason}\n"),
        worker => {
            format!("head: error: task {task} (line {line}) failed at worker {worker}: {reason}\n")
        }
    }
}

/// Text as it is, but for what steers a terminal or is no text.
fn show(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => out.push(c),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
}
