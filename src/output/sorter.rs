//! Parcels to their places.
//!
//! What it is: a writer that takes texts of parcels and writes each where it belongs. What it is
//! not: a thread; it runs on the output's.
//!
//! Invariant: what could not be written is the run's failure, whatever the place but standard
//! error, and only an output that was closed counts as one whose reader went away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::messages;
use crate::parcel::Parcel;

/// Where results go beside the output.
#[derive(Debug, Default)]
pub struct Places {
    log: Option<(PathBuf, File)>,
    folder: Option<PathBuf>,
}

impl Places {
    /// The log, which begins anew with the line `head`, and the folder; each if it is wanted.
    ///
    /// # Errors
    /// If one of them cannot be created; names it.
    pub fn open(log: Option<&Path>, folder: Option<&Path>, head: &str) -> io::Result<Places> {
        let open = |path: &Path| {
            let mut file = File::create(path)?;
            file.write_all(head.as_bytes())?;
            Ok((path.to_owned(), file))
        };
        if let Some(path) = folder {
            fs::create_dir_all(path).map_err(|error| named(path, &error))?;
        }
        let log = log.map(|path| open(path).map_err(|error: io::Error| named(path, &error)));
        Ok(Places {
            log: log.transpose()?,
            folder: folder.map(Path::to_owned),
        })
    }
}

/// A writer for parcels, of which those for the output go to `output`.
pub(super) struct Sorter<W> {
    pub output: W,
    pub places: Places,
}

impl<W: Write> Sorter<W> {
    fn put(&mut self, parcel: &Parcel<'_>) -> io::Result<()> {
        match *parcel {
            Parcel::Output(bytes) => self.output.write_all(bytes),
            Parcel::Errors(bytes) => {
                // With standard error gone there is nobody left to tell.
                let _ = messages::above_line(bytes, |bytes| io::stderr().write_all(bytes));
                Ok(())
            }
            Parcel::Log(bytes) => match &mut self.places.log {
                Some((path, file)) => file.write_all(bytes).map_err(|error| named(path, &error)),
                None => Ok(()),
            },
            Parcel::Folder {
                line,
                stdout,
                stderr,
            } => match &self.places.folder {
                Some(folder) => {
                    let place = folder.join(line.to_string());
                    let write = || {
                        fs::create_dir_all(&place)?;
                        fs::write(place.join("stdout"), stdout)?;
                        fs::write(place.join("stderr"), stderr)
                    };
                    write().map_err(|error| named(&place, &error))
                }
                None => Ok(()),
            },
        }
    }
}

impl<W: Write> Write for Sorter<W> {
    /// Takes a whole text.
    fn write(&mut self, mut text: &[u8]) -> io::Result<usize> {
        let bytes = text.len();
        while let Some(parcel) = Parcel::take(&mut text) {
            self.put(&parcel)?;
        }
        // The end of a program's output may be no end of a line.
        self.output.flush()?;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// An error that says where it happened, and is no closed output.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parcel_goes_to_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (log, results) = (folder.path().join("log"), folder.path().join("a/b"));
        let places = Places::open(Some(&log), Some(&results), "Seq\n").unwrap();
        let output = Vec::new();
        let mut sorter = Sorter { output, places };
        let mut text = Vec::new();
        for parcel in [
            Parcel::Output(b"o"),
            Parcel::Log(b"1\n"),
            Parcel::Folder {
                line: 7,
                stdout: b"out",
                stderr: b"err",
            },
            Parcel::Output(b"p"),
        ] {
            parcel.encode(&mut text);
        }
        sorter.write_all(&text).unwrap();
        assert_eq!(sorter.output, b"op");
        assert_eq!(fs::read(log).unwrap(), b"Seq\n1\n");
        assert_eq!(fs::read(results.join("7/stdout")).unwrap(), b"out");
        assert_eq!(fs::read(results.join("7/stderr")).unwrap(), b"err");
    }

    #[test]
    fn a_place_that_cannot_be_is_named() {
        let nowhere = Path::new("/dev/null/x");
        for (log, folder) in [(Some(nowhere), None), (None, Some(nowhere))] {
            let error = Places::open(log, folder, "").unwrap_err();
            assert!(error.to_string().starts_with("/dev/null/x: "), "{error}");
        }
    }
}
