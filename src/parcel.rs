//! Results for more places than one, in one stream.
//!
//! What it is: [`Parcel`], a piece of a job's results with where it belongs, as the job hands it to
//! the head and the output's thread takes it out again. What it is not: a format of files.
//!
//! One stream, so that all places share one order and one bound: a full disk under a log holds the
//! run up just as a full pipe does.
//!
//! Invariant: what was encoded comes out whole and in order.

/// A piece of results and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parcel<'a> {
    /// The results themselves.
    Output(&'a [u8]),
    /// Standard error.
    Errors(&'a [u8]),
    /// The log of `--joblog`.
    Log(&'a [u8]),
    /// The folder of `--results`.
    Folder {
        /// The line of the input that it came from, from 1.
        line: u64,
        /// What was written to standard output.
        stdout: &'a [u8],
        /// What was written to standard error.
        stderr: &'a [u8],
    },
}

const OUTPUT: u8 = 0;
const ERRORS: u8 = 1;
const LOG: u8 = 2;
const FOLDER: u8 = 3;
const HEADER_BYTES: usize = 5;

impl<'a> Parcel<'a> {
    /// Appends it to `text`.
    pub fn encode(&self, text: &mut Vec<u8>) {
        let (kind, bytes) = match *self {
            Parcel::Output(bytes) => (OUTPUT, bytes),
            Parcel::Errors(bytes) => (ERRORS, bytes),
            Parcel::Log(bytes) => (LOG, bytes),
            Parcel::Folder {
                line,
                stdout,
                stderr,
            } => {
                return wrap(FOLDER, text, |text| {
                    text.extend_from_slice(&line.to_be_bytes());
                    text.extend_from_slice(&length(stdout));
                    text.extend_from_slice(stdout);
                    text.extend_from_slice(stderr);
                });
            }
        };
        if !bytes.is_empty() {
            wrap(kind, text, |text| text.extend_from_slice(bytes));
        }
    }

    /// Takes the first one off `text`; `None` after the last.
    ///
    /// # Panics
    /// If the text is not made of parcels: ours to prevent.
    pub fn take(text: &mut &'a [u8]) -> Option<Parcel<'a>> {
        const WHOLE: &str = "a text is made of whole parcels";
        let (&[kind, length @ ..], rest) = text.split_first_chunk::<HEADER_BYTES>()?;
        let (bytes, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        *text = rest;
        Some(match kind {
            OUTPUT => Parcel::Output(bytes),
            ERRORS => Parcel::Errors(bytes),
            LOG => Parcel::Log(bytes),
            _ => {
                let (&line, bytes) = bytes.split_first_chunk().expect(WHOLE);
                let (&length, bytes) = bytes.split_first_chunk().expect(WHOLE);
                let (stdout, stderr) = bytes.split_at(u32::from_be_bytes(length) as usize);
                Parcel::Folder {
                    line: u64::from_be_bytes(line),
                    stdout,
                    stderr,
                }
            }
        })
    }
}

/// Appends a parcel of results that `fill` appends, without a copy of them.
pub fn output(text: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    wrap(OUTPUT, text, fill);
}

fn wrap(kind: u8, text: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    text.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let start = text.len();
    fill(text);
    let length = length(&text[start..]);
    text[start - length.len()..start].copy_from_slice(&length);
}

fn length(bytes: &[u8]) -> [u8; 4] {
    let length = u32::try_from(bytes.len()).expect("a payload is far below 4 GiB");
    length.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_order() {
        let parcels = [
            Parcel::Errors(b"oh"),
            Parcel::Output(&[0, 1, 2, 3, 255]),
            Parcel::Folder {
                line: 1 << 40,
                stdout: b"out",
                stderr: b"",
            },
            Parcel::Log(b"1\t-\n"),
        ];
        let mut text = Vec::new();
        Parcel::Output(b"").encode(&mut text);
        assert!(text.is_empty(), "nothing need not travel");
        parcels.iter().for_each(|parcel| parcel.encode(&mut text));
        let mut rest = &text[..];
        for parcel in parcels {
            assert_eq!(Parcel::take(&mut rest), Some(parcel));
        }
        assert_eq!(Parcel::take(&mut rest), None);
    }
}
