//! The working directory of one program at a time.
//!
//! What it is: [`Folder`], below the system's folder for temporary files, for its user alone. What it
//! is not: shared, or a place where results are kept.
//!
//! Invariant: its name cannot be foreseen, so that nobody puts a link there; it is empty when a
//! program starts. After `kill -9` of the worker it stays behind.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder that is removed when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Names one; nothing is created yet.
    pub fn new() -> Folder {
        let name = RandomState::new().build_hasher().finish();
        Folder(std::env::temp_dir().join(format!("teamster-{name:016x}")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates it, or empties it. It may have gone in the meantime: systems clean such places.
    ///
    /// # Errors
    /// The system's.
    pub fn empty(&self) -> io::Result<()> {
        match fs::read_dir(&self.0).map(|mut entries| entries.next().is_none()) {
            Ok(true) => return Ok(()),
            Ok(false) => fs::remove_dir_all(&self.0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        DirBuilder::new().mode(0o700).create(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_empty_each_time_and_gone_at_the_end() {
        let folder = Folder::new();
        let path = folder.path().to_owned();
        folder.empty().unwrap();
        fs::create_dir_all(path.join("a/b")).unwrap();
        folder.empty().unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::remove_dir(&path).unwrap();
        folder.empty().unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
