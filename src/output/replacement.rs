//! A file that takes the place of another when it is complete.
//!
//! What it is: the temporary file beside the other, and the change of places. What it is not: a
//! thread, or a promise that the folder's entry is on disk.
//!
//! Invariant: what was there is replaced whole or not at all, and nothing else is left behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file to be written, that takes the place of another.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// `None` if it is written where it is.
    pending: Option<Pending>,
}

/// A file that is not in its place yet; unless it gets there, nothing is left of it.
#[derive(Debug)]
struct Pending {
    temporary: PathBuf,
    target: PathBuf,
}

impl Replacement {
    /// For `target`. What is there and no file (a pipe, `/dev/null`) is written as it is, and of a
    /// link the file that it names.
    ///
    /// # Errors
    /// If the temporary file beside it cannot be created, or `target` can only be a directory.
    pub fn open(target: &Path) -> io::Result<Replacement> {
        let typed = target.as_os_str().as_encoded_bytes();
        if typed.ends_with(b"/") || typed.ends_with(b"/.") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let mut permissions = None;
        let target = match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(target)?;
                let pending = None;
                return Ok(Replacement { file, pending });
            }
            Ok(there) => {
                permissions = Some(there.permissions());
                target.canonicalize()?
            }
            Err(_) => target.to_owned(),
        };
        let name = target.file_name().ok_or(ErrorKind::IsADirectory)?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(temporary);
        // Nobody is to foresee the name and put a link there; what an earlier process of this number
        // has left is no use.
        let _ = fs::remove_file(&temporary);
        let file = File::create_new(&temporary)?;
        if let Some(permissions) = permissions {
            // Some file systems have none.
            let _ = file.set_permissions(permissions);
        }
        let pending = Some(Pending { temporary, target });
        Ok(Replacement { file, pending })
    }

    /// Puts what was written in its place, on disk; or if it is not complete beside that, as
    /// `FILE.partial`, and returns that name.
    ///
    /// # Errors
    /// What kept it from being written for good.
    pub fn finish(self, is_complete: bool) -> io::Result<Option<PathBuf>> {
        let Some(pending) = &self.pending else {
            return Ok(None);
        };
        let mut place = pending.target.clone();
        if !is_complete {
            place.as_mut_os_string().push(".partial");
        }
        self.file.sync_all()?;
        fs::rename(&pending.temporary, &place)?;
        Ok((!is_complete).then_some(place))
    }

    /// Another handle to write it with.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Write for Replacement {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.file.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Once it is in its place there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}
