//! The working directory of one program at a time.
//!
//! What it is: [`Folder`], below the system's folder for temporary files, for its user alone. What it
//! is not: shared, or a place where results are kept.
//!
//! Invariant: its name cannot be foreseen, so that nobody puts a link there; it is empty when a
//! program starts. After `kill -9` of the worker it stays behind.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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
            Ok(false) => remove(&self.0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        DirBuilder::new().mode(0o700).create(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        let _ = remove(&self.0);
    }
}

/// Removes a folder with all that is in it, also where a program has left folders that it must not
/// write to: a cache of modules, or what it has unpacked.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        removed => removed,
    }
}

/// Makes it, and all folders in it, its owner's to change. Follows no links.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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

    /// (Root removes them anyway; so it is asked whether another could.)
    #[test]
    fn folders_that_must_not_be_written_to_are_opened_and_links_left_alone() {
        let (folder, other) = (Folder::new(), Folder::new());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let close = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o500)).unwrap();
        folder.empty().unwrap();
        other.empty().unwrap();
        let (outer, inner) = (folder.path().join("a"), folder.path().join("a/b"));
        fs::create_dir_all(&inner).unwrap();
        symlink(other.path(), inner.join("link")).unwrap();
        for path in [&inner, &outer, folder.path(), other.path()] {
            close(path);
        }
        open_up(folder.path()).unwrap();
        let modes = [folder.path(), &outer, &inner, other.path()].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o500]);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists() && other.path().exists());
    }
}
