//! Which programs a worker runs.
//!
//! What it is: [`Programs`], the list of `--allow-program`. What it is not: a judge of arguments; a
//! program that is allowed is allowed with any.
//!
//! Invariant: a command means at most one program, and that was an executable file when the worker
//! started; no search of a `PATH`, no symbolic link is followed later.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The programs that a worker runs for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    allowed: Vec<Allowed>,
    is_at_home: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    /// As it was named.
    named: PathBuf,
    /// Free of symbolic links.
    path: PathBuf,
}

impl Programs {
    /// Exactly these, for whoever may use the worker.
    ///
    /// # Errors
    /// Says which of them is no program, or has the file name of another.
    pub fn allow(paths: &[PathBuf]) -> Result<Programs, String> {
        let mut programs = Programs::default();
        for named in paths {
            let path = resolve(named)?;
            let twin = |other: &&Allowed| other.named.file_name() == named.file_name();
            if let Some(twin) = programs.allowed.iter().find(twin) {
                return Err(format!(
                    "{} and {} have the same file name, so that a head's command could mean either; \
                     allow one of them",
                    twin.named.display(),
                    named.display()
                ));
            }
            let named = named.clone();
            programs.allowed.push(Allowed { named, path });
        }
        Ok(programs)
    }

    /// The one program that the user of this very process wants to run, where and as the user would.
    ///
    /// # Errors
    /// Says why it is no program.
    pub fn at_home(path: &Path) -> Result<Programs, String> {
        let programs = Programs::allow(&[path.to_owned()])?;
        Ok(Programs {
            is_at_home: true,
            ..programs
        })
    }

    /// Whether they run as the user of this process would run them.
    pub(super) fn is_at_home(&self) -> bool {
        self.is_at_home
    }

    /// The program that a command means: by its file name, or by its path if it has a slash.
    pub(super) fn find(&self, command: &[u8]) -> Result<&Path, String> {
        let wanted = OsStr::from_bytes(command);
        let is_meant = |allowed: &&Allowed| match command.contains(&b'/') {
            true => allowed.path == wanted || allowed.named == wanted,
            false => allowed.named.file_name() == Some(wanted),
        };
        if let Some(allowed) = self.allowed.iter().find(is_meant) {
            return Ok(&allowed.path);
        }
        let name = Path::new(wanted).file_name();
        let has_its_name = |other: &&Allowed| name.is_some() && other.named.file_name() == name;
        Err(match self.allowed.iter().find(has_its_name) {
            Some(other) => format!(
                "{wanted:?} is not allowed here, but {} is: name it so, or by its file name alone",
                other.named.display()
            ),
            None => format!(
                "{wanted:?} is not allowed here; the worker needs --allow-program with its path"
            ),
        })
    }
}

fn resolve(named: &Path) -> Result<PathBuf, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", named.display());
    if named.components().count() == 1 && !named.exists() {
        return Err(wrong(
            &"no such file here; programs are named by their paths",
        ));
    }
    let path = fs::canonicalize(named).map_err(|error| wrong(&error))?;
    let metadata = fs::metadata(&path).map_err(|error| wrong(&error))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(wrong(&"that is no executable file"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_means_a_program_by_name_or_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::copy("/bin/true", &file).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let path = fs::canonicalize(&file).unwrap();
        let programs = Programs::allow(std::slice::from_ref(&link)).unwrap();
        for command in [&link, &path, Path::new("link")] {
            assert_eq!(programs.find(command.as_os_str().as_bytes()), Ok(&*path));
        }
        for command in ["file", "", "link ", "LINK", "/"] {
            let refused = programs.find(command.as_bytes()).unwrap_err();
            assert!(refused.contains("--allow-program"), "{refused}");
        }
        for command in ["./link", "/bin/link"] {
            let refused = programs.find(command.as_bytes()).unwrap_err();
            let hint = format!("but {} is: name it so", link.display());
            assert!(refused.contains(&hint), "{refused}");
        }
        assert!(!programs.is_at_home());
        assert!(Programs::at_home(&link).unwrap().is_at_home());
    }

    #[test]
    fn only_executable_files_with_names_of_their_own_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let twin = folder.path().join("true");
        fs::copy("/bin/true", &twin).unwrap();
        let data = folder.path().join("data");
        fs::write(&data, "").unwrap();
        let refusal = |paths: &[&Path]| {
            let paths: Vec<PathBuf> = paths.iter().map(|&path| path.into()).collect();
            Programs::allow(&paths).unwrap_err()
        };
        assert!(refusal(&["/bin/true".as_ref(), &twin]).contains("the same file name"));
        assert!(refusal(&[&data]).ends_with("that is no executable file"));
        assert!(refusal(&[folder.path()]).ends_with("that is no executable file"));
        assert!(refusal(&["wc".as_ref()]).contains("named by their paths"));
        assert!(refusal(&["/no/such".as_ref()]).contains("No such file"));
    }
}
