//! Where a key lies, and who else can read it there.
//!
//! What it is: the look-up that both programs share, what is checked of a file before a key in it is
//! used, and how a new one is made. What it is not: what stands in the file; that is `key`'s.
//!
//! Invariants: a file that is named, or is there, is used or is an error; a program never goes on
//! without a key because something was wrong with it. What is checked is what is read, as both go by
//! one descriptor.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::info;

use crate::channel;
use crate::key::{KEY_BYTES, Key, Keys};
use crate::limits::KEY_FILE_BYTES_MAX;

/// The variable that may name the file.
pub const VARIABLE: &str = "TEAMSTER_KEY_FILE";
/// Where the file is unless something names it.
pub const DEFAULT_PATH: &str = "/etc/teamster/key";

/// The keys in the file that the command line names, or else in the one of [`implicit`].
///
/// # Errors
/// Names the file, what is wrong with it, and what to do.
pub fn find(named: Option<&Path>) -> Result<Option<Keys>, String> {
    let path = match named {
        Some(path) => Some(path.to_owned()),
        None => implicit()?,
    };
    match path {
        None => Ok(None),
        Some(path) if !channel::IS_AVAILABLE => Err(format!(
            "this build has no encryption, so the key in {} is of no use; build it with the feature \
             noise",
            path.display()
        )),
        Some(path) => read(&path).map(Some),
    }
}

/// The file that is used unless the command line names one: `$TEAMSTER_KEY_FILE`, else
/// `/etc/teamster/key` if there is such a thing.
///
/// # Errors
/// If the variable is empty, which may be meant as either.
pub fn implicit() -> Result<Option<PathBuf>, String> {
    implicit_of(std::env::var_os(VARIABLE), Path::new(DEFAULT_PATH))
}

fn implicit_of(variable: Option<OsString>, default: &Path) -> Result<Option<PathBuf>, String> {
    match variable {
        Some(path) if path.is_empty() => Err(format!(
            "{VARIABLE} is empty; have it name a key file, or unset it"
        )),
        Some(path) => Ok(Some(path.into())),
        // Whatever else is wrong with it is for who reads it to say, a link to nowhere included.
        None => match fs::symlink_metadata(default) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => Ok(Some(default.to_owned())),
        },
    }
}

fn read(path: &Path) -> Result<Keys, String> {
    let keys = read_checked(path);
    let keys = keys.map_err(|reason| format!("key file {}: {reason}", path.display()))?;
    info!("using the key in {}", path.display());
    Ok(keys)
}

fn read_checked(path: &Path) -> Result<Keys, String> {
    // Opening a pipe would wait for its writer.
    fs::metadata(path).map_err(explain).and_then(regular)?;
    let file = File::open(path).map_err(explain)?;
    let metadata = file.metadata().map_err(explain).and_then(regular)?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden(metadata.uid(), own_uid()) != 0 {
        return Err(format!(
            "others can use it (its mode is {mode:04o}); chmod 600 {}, and make a new key if \
             somebody may have read this one",
            path.display()
        ));
    }
    let mut text = Vec::new();
    let mut bounded = file.take(KEY_FILE_BYTES_MAX as u64 + 1);
    bounded.read_to_end(&mut text).map_err(explain)?;
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(format!(
            "it has more than {KEY_FILE_BYTES_MAX} bytes, so it is something else"
        ));
    }
    Keys::parse(&text).map_err(|error| error.to_string())
}

fn explain(error: io::Error) -> String {
    let next = match error.kind() {
        ErrorKind::NotFound => "; head --keygen FILE makes one",
        ErrorKind::PermissionDenied => "; have a copy of your own, and name it by --key-file",
        _ => "",
    };
    format!("{error}{next}")
}

fn regular(metadata: Metadata) -> Result<Metadata, String> {
    match metadata.is_file() {
        true => Ok(metadata),
        false => Err("it is no regular file".into()),
    }
}

/// The permissions that must not be there. Whoever it belongs to is to be its only reader; but what
/// root gives to a group that includes us was meant to be read by it, as systemd's `LoadCredential=`
/// does with an access control list.
fn forbidden(owner: u32, us: Option<u32>) -> u32 {
    match us {
        Some(us) if owner == 0 && us != 0 => 0o037,
        _ => 0o077,
    }
}

/// Who this process acts as: `geteuid` without its `unsafe`.
fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|own| own.uid())
}

/// Writes a fresh key to a new file that only its owner can read.
///
/// # Errors
/// If something of that name is there, or the system refuses; then there is no new file.
pub fn generate(path: &Path) -> Result<(), String> {
    write_new(path).map_err(|error| {
        let next = match error.kind() {
            ErrorKind::AlreadyExists => "; a key is not written over another, name a new file",
            _ => "",
        };
        format!("cannot write a key to {}: {error}{next}", path.display())
    })
}

fn write_new(path: &Path) -> io::Result<()> {
    let key = random()?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = writeln!(file, "{}", key.to_hex()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// A key that nobody else has. The system waits with it until it has been seeded.
///
/// # Errors
/// If the system has no randomness.
pub fn random() -> io::Result<Key> {
    let mut bytes = [0; KEY_BYTES];
    randomness()?.read_exact(&mut bytes)?;
    Ok(Key::new(bytes))
}

/// Where random bytes come from without a wait, once the system has been seeded.
///
/// # Errors
/// If the system has no randomness.
pub fn randomness() -> io::Result<File> {
    // Before Linux 5.6 this one waits whenever others have drained it, so it is asked for one byte
    // only, and the other, which never waits, for the rest.
    File::open("/dev/random")?.read_exact(&mut [0])?;
    File::open("/dev/urandom")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    /// A folder with a key in it.
    fn with_key() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate(&path).unwrap();
        (folder, path)
    }

    fn reason(path: &Path) -> String {
        let error = read(path).unwrap_err();
        let start = format!("key file {}: ", path.display());
        error.strip_prefix(&start).expect("which file").to_owned()
    }

    #[test]
    fn a_new_key_is_random_and_only_its_owner_can_read_it() {
        let (_folder, path) = with_key();
        let (_other_folder, other) = with_key();
        let keys = read(&path).unwrap();
        assert_eq!(keys.all().len(), 1);
        assert_ne!(keys, read(&other).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_new_key_takes_no_file_s_place() {
        let (folder, path) = with_key();
        let before = fs::read(&path).unwrap();
        let link = folder.path().join("link");
        symlink("nowhere", &link).unwrap();
        for taken in [&path, &link] {
            let error = generate(taken).unwrap_err();
            assert!(error.contains("not written over another"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        let error = generate(&folder.path().join("no/key")).unwrap_err();
        assert!(error.starts_with("cannot write a key to "), "{error}");
    }

    #[test]
    fn a_key_that_others_can_use_is_refused() {
        let (_folder, path) = with_key();
        for mode in [0o400, 0o600, 0o700] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(read(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = reason(&path);
            let expected = format!("(its mode is {mode:04o}); chmod 600 {}", path.display());
            assert!(said.contains(&expected), "{said}");
        }
    }

    #[test]
    fn only_root_may_share_a_key_and_only_with_a_group() {
        let (root, user, other) = (0, 1000, 1001);
        for (owner, us, mode, is_refused) in [
            (user, Some(user), 0o040, true),
            (other, Some(root), 0o040, true),
            (root, Some(root), 0o040, true),
            (root, Some(user), 0o040, false),
            (root, Some(user), 0o020, true),
            (root, Some(user), 0o004, true),
            (root, None, 0o040, true),
        ] {
            let found = mode & forbidden(owner, us) != 0;
            assert_eq!(found, is_refused, "{owner} {us:?} {mode:o}");
        }
        let (_folder, path) = with_key();
        assert_eq!(own_uid(), Some(fs::metadata(path).unwrap().uid()));
    }

    #[test]
    fn what_is_no_key_file_is_refused_with_its_name() {
        let (folder, path) = with_key();
        let write = |text: &[u8]| fs::write(&path, text).unwrap();
        write(b"");
        assert!(reason(&path).starts_with("it holds no key"));
        write(b"secret");
        assert_eq!(
            reason(&path),
            "line 1 is no key, which is 64 hexadecimal digits"
        );
        write(&[b'#'; KEY_FILE_BYTES_MAX + 1]);
        assert!(reason(&path).contains("more than 4096 bytes"));
        assert_eq!(reason(folder.path()), "it is no regular file");
        assert_eq!(reason(Path::new("/dev/null")), "it is no regular file");
        assert!(reason(&folder.path().join("none")).contains("head --keygen"));
    }

    #[test]
    fn the_file_is_the_named_one_else_the_variable_s_else_the_default_if_it_is_there() {
        let (folder, path) = with_key();
        let none = folder.path().join("none");
        assert_eq!(implicit_of(None, &none), Ok(None));
        assert_eq!(implicit_of(None, &path), Ok(Some(path.clone())));
        let named = Some("missing".into());
        assert_eq!(implicit_of(named, &path), Ok(Some("missing".into())));
        let empty = implicit_of(Some(OsString::new()), &path);
        assert!(empty.unwrap_err().starts_with("TEAMSTER_KEY_FILE is empty"));
        symlink("nowhere", &none).unwrap();
        assert_eq!(implicit_of(None, &none), Ok(Some(none.clone())));
        assert!(read(&none).is_err(), "there, and of no use");
        // Below a file nothing can be, which is not the same as nothing being there.
        assert!(implicit_of(None, &path.join("key")).unwrap().is_some());
        assert_eq!(find(Some(&path)).is_ok(), channel::IS_AVAILABLE);
    }
}
