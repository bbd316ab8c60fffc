//! The command line of `worker`.
//!
//! What it is: [`WorkerOptions`]. What it is not: anything of the head's.
//!
//! Invariant: a worker that others can reach is one that somebody asked for in so many words.

mod flags;

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::available_parallelism;

use getopts::Matches;

use super::cli::{key_file, payload_max_bytes, seconds, whole};
use super::{Address, Early, THREADS_MAX};
use crate::alone::Single;
use crate::limits::GRACE_DEFAULT;
use crate::network::Network;
use crate::program::Programs;
use crate::time::Duration;
pub(super) use flags::program;
use flags::{computing_flags, listening_flags};

/// What `worker` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Where it is to listen, if that was said; see [`WorkerOptions::address`].
    pub listen: Option<Address>,
    /// The file with the key, if it is not where it usually is.
    pub key_file: Option<PathBuf>,
    /// Whether to go without a key wherever it listens; not with `key_file`.
    pub is_insecure: bool,
    /// Who may connect; everyone if there are none.
    pub allow: Vec<Network>,
    /// Pool threads; at least 1.
    pub slots: usize,
    /// What it is to run for heads, as it was named; see [`WorkerOptions::programs`].
    pub programs: Vec<PathBuf>,
    /// How long kernels may go on once it is told to end; above zero.
    pub grace: Duration,
    /// Largest task input or output, in bytes.
    pub payload_max_bytes: usize,
    /// What it runs alone instead of listening; then nothing above means anything.
    pub single: Option<Single>,
    /// Whether to say only what went wrong.
    pub quiet: bool,
}

impl WorkerOptions {
    /// Understands a command line, given without the program's name.
    ///
    /// # Errors
    /// The end of the program: an answer that was asked for, or what is wrong.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<WorkerOptions, Early> {
        let program = program();
        let matches = program.parse(args)?;
        understand(&matches).map_err(|reason| program.usage(&reason))
    }

    /// Where it listens, now that it is known whether there is a key; port 0 lets the system choose.
    ///
    /// # Errors
    /// If others could use it without a key and nobody has said that they may.
    pub fn address(&self, has_key: bool) -> Result<Address, String> {
        let default = match has_key {
            true => Address::ANYWHERE,
            false => Address::LOOPBACK,
        };
        let address = self.listen.clone().unwrap_or(default);
        if has_key || self.is_insecure || address.is_loopback() {
            return Ok(address);
        }
        Err(format!(
            "listening on {address} would let everyone who reaches it use this machine, as there is \
             no key; head --keygen FILE makes one for --key-file; add --insecure if only friends \
             reach it, or listen on {}",
            Address::LOOPBACK
        ))
    }

    /// The programs it runs for heads, now that it is known whether there is a key.
    ///
    /// # Errors
    /// If one of them is no program, or if others could have them run without a key and nobody has
    /// said that they may. That is so on loopback, too: another user of the machine would get the
    /// rights of this one.
    pub fn programs(&self, has_key: bool) -> Result<Programs, String> {
        if self.programs.is_empty() || has_key || self.is_insecure {
            let programs = Programs::allow(&self.programs);
            return programs.map_err(|reason| format!("--allow-program {reason}"));
        }
        Err(
            "--allow-program would let everyone who reaches this worker run programs, as there is \
             no key; head --keygen FILE makes one for --key-file; add --insecure if only friends \
             reach it"
                .into(),
        )
    }
}

fn understand(matches: &Matches) -> Result<WorkerOptions, String> {
    if let Some(extra) = matches.free.first() {
        return Err(format!(
            "there is {extra:?}, and worker takes options only; jobs are named at the head"
        ));
    }
    let key_file = key_file(matches)?;
    let is_insecure = matches.opt_present("insecure");
    if key_file.is_some() && is_insecure {
        return Err("--insecure is for a worker without a key, and --key-file names one".into());
    }
    Ok(WorkerOptions {
        listen: match matches.opt_str("listen") {
            Some(typed) => Some(
                typed
                    .parse()
                    .map_err(|reason| format!("--listen: {reason}"))?,
            ),
            None => None,
        },
        key_file,
        is_insecure,
        allow: allow(matches)?,
        slots: match matches.opt_str("slots") {
            Some(typed) => whole("--slots", &typed, 1..=THREADS_MAX)? as usize,
            None => slots_default(),
        },
        programs: (matches.opt_strs("allow-program").into_iter())
            .map(PathBuf::from)
            .collect(),
        grace: match matches.opt_str("grace") {
            Some(typed) => seconds("--grace", &typed)?,
            None => GRACE_DEFAULT,
        },
        payload_max_bytes: payload_max_bytes(matches)?,
        single: single(matches)?,
        quiet: matches.opt_present("quiet"),
    })
}

/// What `--run` says, with which no option of a listening worker has a meaning.
fn single(matches: &Matches) -> Result<Option<Single>, String> {
    let Some(kernel) = matches.opt_str("run") else {
        return match matches.opt_present("setup") {
            true => Err("--setup needs --run KERNEL".into()),
            false => Ok(None),
        };
    };
    let mut flags = listening_flags().into_iter().chain(computing_flags());
    if let Some(flag) = flags.find(|flag| matches.opt_present(flag.long)) {
        return Err(format!(
            "--{} is for a worker that waits for heads, not for --run",
            flag.long
        ));
    }
    let setup = matches.opt_str("setup").unwrap_or_default();
    Ok(Some(Single { kernel, setup }))
}

fn allow(matches: &Matches) -> Result<Vec<Network>, String> {
    let networks = matches.opt_strs("allow").into_iter();
    let parsed = networks.map(|typed| typed.parse().map_err(|reason| format!("--allow: {reason}")));
    parsed.collect()
}

/// As many as the machine runs at once, or one if it does not tell.
fn slots_default() -> usize {
    available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX as usize))
}

#[cfg(test)]
mod tests {
    use super::super::cli::tests::{assert_fits_a_screen, split};
    use super::*;

    fn ok(line: &str) -> WorkerOptions {
        WorkerOptions::parse(split(line)).unwrap_or_else(|early| panic!("{line}: {early:?}"))
    }

    fn error(line: &str) -> String {
        match WorkerOptions::parse(split(line)) {
            Err(Early::Usage(text)) => {
                let reason = text.strip_suffix("\nTry 'worker --help'.").unwrap();
                reason.strip_prefix("worker: ").unwrap().to_owned()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn nothing_typed_is_this_machine_only() {
        let expected = WorkerOptions {
            listen: None,
            key_file: None,
            is_insecure: false,
            allow: Vec::new(),
            slots: slots_default(),
            programs: Vec::new(),
            grace: GRACE_DEFAULT,
            payload_max_bytes: 1 << 20,
            single: None,
            quiet: false,
        };
        assert_eq!(ok(""), expected);
        assert_eq!(expected.address(false), Ok(Address::LOOPBACK));
        assert!((1..=1024).contains(&expected.slots));
    }

    #[test]
    fn others_reach_a_worker_with_a_key_or_by_insecure() {
        for (line, without_key, with_key) in [
            ("", Some("127.0.0.1:5000"), Some("0.0.0.0:5000")),
            ("-l 127.0.0.1:0", Some("127.0.0.1:0"), Some("127.0.0.1:0")),
            (
                "--listen localhost",
                Some("localhost:5000"),
                Some("localhost:5000"),
            ),
            ("-l::1", Some("[::1]:5000"), Some("[::1]:5000")),
            ("-l 0.0.0.0", None, Some("0.0.0.0:5000")),
            ("-l ::", None, Some("[::]:5000")),
            ("-l 10.0.0.11:81", None, Some("10.0.0.11:81")),
            ("-l worker-1 --key-file k", None, Some("worker-1:5000")),
            ("--insecure", Some("127.0.0.1:5000"), None),
            ("--insecure -l 0.0.0.0:81", Some("0.0.0.0:81"), None),
        ] {
            let options = ok(line);
            let printed = |has_key| options.address(has_key).map(|at| at.to_string()).ok();
            assert_eq!(printed(false).as_deref(), without_key, "{line}");
            if !options.is_insecure {
                assert_eq!(printed(true).as_deref(), with_key, "{line}");
            }
        }
        let reason = ok("-l 0.0.0.0").address(false).unwrap_err();
        assert!(
            reason.contains("there is no key; head --keygen"),
            "{reason}"
        );
        assert!(error("-l 10.0.0.256").starts_with("--listen: \"10.0.0.256\" is no IPv4"));
        assert!(error("-l w:x --insecure").contains("ports are numbers"));
    }

    #[test]
    fn a_key_file_and_insecure_exclude_each_other() {
        assert_eq!(ok("--key-file k").key_file, Some("k".into()));
        assert_eq!(
            error("--insecure --key-file k"),
            "--insecure is for a worker without a key, and --key-file names one"
        );
        assert_eq!(error("--key-file="), "--key-file needs the name of a file");
        assert!(error("--key-file --insecure").contains("write ./--insecure"));
    }

    #[test]
    fn allow_may_be_given_more_than_once() {
        let options = ok("--allow 10.0.0.10 --allow=fd00::/8");
        let printed: Vec<String> = options.allow.iter().map(Network::to_string).collect();
        assert_eq!(printed, ["10.0.0.10/32", "fd00::/8"]);
        assert_eq!(
            error("--allow 10.0.0.10 --allow 10.0.0.0/33"),
            "--allow: \"10.0.0.0/33\" has \"33\" bits; they are 0 to 32"
        );
        assert_eq!(error("--allow"), "--allow needs its ADDRESS[/BITS]");
    }

    #[test]
    fn programs_are_allowed_in_so_many_words() {
        let options = ok("--allow-program /bin/true --allow-program /bin/false");
        assert!(options.programs(true).is_ok());
        assert!(options.programs(false).unwrap_err().contains("no key"));
        assert!(
            ok("--allow-program /bin/true --insecure")
                .programs(false)
                .is_ok()
        );
        assert_eq!(ok("").programs(false), Ok(Programs::default()));
        let wrong = ok("--allow-program /no/such").programs(true).unwrap_err();
        assert!(
            wrong.starts_with("--allow-program /no/such: No such file"),
            "{wrong}"
        );
    }

    #[test]
    fn run_is_for_itself() {
        let single = |kernel: &str, setup: &str| {
            Some(Single {
                kernel: kernel.into(),
                setup: setup.into(),
            })
        };
        assert_eq!(ok("--run primes -q").single, single("primes", ""));
        assert_eq!(ok("--setup 5 --run square").single, single("square", "5"));
        assert_eq!(error("--setup 5"), "--setup needs --run KERNEL");
        assert_eq!(error("--run"), "--run needs its KERNEL");
        for flag in ["listen x", "insecure", "slots 2", "grace 1"] {
            let name = flag.split(' ').next().unwrap();
            let expected = format!("--{name} is for a worker that waits for heads, not for --run");
            assert_eq!(error(&format!("--run square --{flag}")), expected);
        }
    }

    #[test]
    fn slots() {
        assert_eq!(ok("-s 1").slots, 1);
        assert_eq!(ok("--slots=1024").slots, 1024);
        for typed in ["0", "1025", "many"] {
            assert!(error(&format!("-s {typed}")).starts_with("--slots is"));
        }
    }

    #[test]
    fn payload_max() {
        assert_eq!(ok("--payload-max 2").payload_max_bytes, 2 << 20);
        assert!(error("--payload-max 65").contains("from 1 to 64"));
    }

    #[test]
    fn quiet() {
        assert!(ok("-q").quiet && ok("--quiet").quiet);
    }

    #[test]
    fn help_and_version() {
        for line in ["-h", "--help", "-V", "--version"] {
            let early = WorkerOptions::parse(split(line)).unwrap_err();
            assert!(matches!(early, Early::Answer(_)), "{line}");
        }
    }

    #[test]
    fn arguments_and_unknown_options_are_refused() {
        assert!(error("square").starts_with("there is \"square\""));
        assert!(error("-- -q").starts_with("there is \"-q\""));
        assert_eq!(
            error("--slot 2"),
            "unknown option --slot; did you mean --slots?"
        );
    }

    #[test]
    fn help_fits_and_tells_the_limits() {
        let help = program().help();
        assert_fits_a_screen(&help);
        let help = help.replace('\n', " ");
        for part in [
            "64 connections",
            "256 bytes",
            "4_096 tasks",
            "16 MiB of inputs",
        ] {
            assert!(help.contains(part), "{part}");
        }
    }
}
