//! The job `map` in bytes: which command a session runs, what becomes of a line, how it ended.
//!
//! What it is: [`CommandLine`], the set-up of the kernel `map` and the one place where `{}` becomes a
//! line; [`Report`], its output. What it is not: code that starts anything (`program`), or the head's
//! side of the job.
//!
//! Set-up: mode u8 (0 a process per task, 1 lines, 2 lengths), number of words u16, and of each word
//! its length u32 and its bytes; the first is the command. Input: the line, without its end. Output of
//! a task that is done, and of one whose program ended with anything but 0: how it ended u8 (0 exited,
//! 1 killed by a signal), exit status or signal u8, length of what it wrote to standard error u32,
//! that, and the rest is what it wrote to standard output. A failure that is not the program's own end
//! is text instead; no text begins with a byte below 2. All numbers big endian.
//!
//! Invariant: the encoding is canonical, and nothing in a line is ever interpreted: a line is part of
//! one argument, or one argument, with exactly its bytes.

use std::fmt;

use crate::limits::{ARGUMENT_BYTES_MAX, ARGUMENTS_BYTES_MAX, WORDS_MAX};

/// The kernel's name on the wire.
pub const NAME: &str = "map";

/// What is replaced in a word, and by which part of the line; as in GNU parallel.
const PLACES: [(&[u8], Part); 5] = [
    (b"{}", |line| line),
    (b"{.}", without_ending),
    (b"{/}", file_name),
    (b"{//}", folder),
    (b"{/.}", |line| without_ending(file_name(line))),
];

/// Takes a part of a line.
type Part = fn(&[u8]) -> &[u8];

/// How a program gets its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each line is part of the command of a process of its own.
    PerTask,
    /// A process is given line after line on its standard input and answers each with one line.
    Lines,
    /// The same, with a length (u32, big endian) in front of what goes either way instead of a line's
    /// end behind it.
    Lengths,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::PerTask, Mode::Lines, Mode::Lengths];
}

/// A command as it was typed, and how its programs get their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    mode: Mode,
    words: Vec<Vec<u8>>,
}

/// Why a line, or a command, cannot be run anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no command.
    Nothing,
    /// More words than [`WORDS_MAX`].
    Words,
    /// A zero byte, which ends an argument.
    Zero,
    /// A line's end, which ends what a program takes for one task.
    Newline,
    /// An argument of so many bytes.
    Argument(usize),
    /// Arguments of so many bytes together.
    Arguments(usize),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Nothing => f.write_str("there is no command"),
            Unfit::Words => write!(f, "a command has at most {WORDS_MAX} words"),
            Unfit::Zero => f.write_str("a zero byte cannot be part of an argument"),
            Unfit::Newline => f.write_str("a line's end within it would make it two"),
            Unfit::Argument(bytes) => write!(
                f,
                "an argument of {bytes} bytes; systems take {ARGUMENT_BYTES_MAX} at most"
            ),
            Unfit::Arguments(bytes) => write!(
                f,
                "arguments of {bytes} bytes together; at most {ARGUMENTS_BYTES_MAX} are passed on"
            ),
        }
    }
}

impl CommandLine {
    /// A command and its arguments, in which places like `{}` stand for the line.
    ///
    /// # Errors
    /// If no system could run it, whatever the line.
    pub fn new(mode: Mode, words: Vec<Vec<u8>>) -> Result<CommandLine, Unfit> {
        if words.first().is_none_or(Vec::is_empty) {
            return Err(Unfit::Nothing);
        }
        if words.len() > WORDS_MAX {
            return Err(Unfit::Words);
        }
        fit(&words)?;
        Ok(CommandLine { mode, words })
    }

    /// How its programs get their lines.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The command and its arguments, as typed.
    pub fn words(&self) -> &[Vec<u8>] {
        &self.words
    }

    /// The set-up that says this.
    pub fn encode(&self) -> Vec<u8> {
        let mode = Mode::ALL.iter().position(|&mode| mode == self.mode);
        let mut out = vec![mode.expect("all are there") as u8];
        out.extend_from_slice(&(self.words.len() as u16).to_be_bytes());
        for word in &self.words {
            out.extend_from_slice(&(word.len() as u32).to_be_bytes());
            out.extend_from_slice(word);
        }
        out
    }

    /// What a set-up says.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(setup: &[u8]) -> Result<CommandLine, String> {
        const SHORT: &str = "the set-up ends too early";
        let (&[mode, high, low], mut rest) = setup.split_first_chunk().ok_or(SHORT)?;
        let mode = Mode::ALL.get(usize::from(mode));
        let mode = *mode.ok_or("the set-up names a way to run programs that is not known here")?;
        let mut words = Vec::new();
        for _ in 0..u16::from_be_bytes([high, low]) {
            let (&length, tail) = rest.split_first_chunk().ok_or(SHORT)?;
            let length = u32::from_be_bytes(length) as usize;
            let (word, tail) = tail.split_at_checked(length).ok_or(SHORT)?;
            words.push(word.to_vec());
            rest = tail;
        }
        if !rest.is_empty() {
            return Err("the set-up goes on after its words".into());
        }
        CommandLine::new(mode, words).map_err(|unfit| unfit.to_string())
    }

    /// Whether a line can be run.
    ///
    /// # Errors
    /// Why no machine could.
    pub fn check(&self, line: &[u8]) -> Result<(), Unfit> {
        match self.mode {
            Mode::PerTask => self.argv(line).map(drop),
            Mode::Lines if line.contains(&b'\n') => Err(Unfit::Newline),
            Mode::Lines | Mode::Lengths => Ok(()),
        }
    }

    /// The command and arguments of the process that is run for `line`: with the line in its places,
    /// or as the last argument if it has none. The command itself has no places. A process that
    /// lives on has no line among its arguments.
    ///
    /// # Errors
    /// Why no machine could run it.
    pub fn argv(&self, line: &[u8]) -> Result<Vec<Vec<u8>>, Unfit> {
        let mut argv = self.words.clone();
        if self.mode == Mode::PerTask {
            let (mut is_used, mut total) = (false, 0);
            for word in &mut argv[1..] {
                if let Some(replaced) = replace(word, line) {
                    *word = replaced;
                    is_used = true;
                }
                total += word.len();
                if total > ARGUMENTS_BYTES_MAX {
                    // It is refused for that; the other words are not put together.
                    break;
                }
            }
            if !is_used {
                argv.push(line.to_vec());
            }
            fit(&argv)?;
        }
        Ok(argv)
    }
}

/// Whether every system passes these arguments on.
fn fit(words: &[impl AsRef<[u8]>]) -> Result<(), Unfit> {
    let mut total = 0;
    for word in words.iter().map(AsRef::as_ref) {
        if word.contains(&0) {
            return Err(Unfit::Zero);
        }
        if word.len() > ARGUMENT_BYTES_MAX {
            return Err(Unfit::Argument(word.len()));
        }
        // What the system counts: a zero behind each, and a pointer to it.
        total += word.len() + 1 + size_of::<u64>();
    }
    match total > ARGUMENTS_BYTES_MAX {
        true => Err(Unfit::Arguments(total)),
        false => Ok(()),
    }
}

/// A word with the line in its places; `None` if it has none. What was put in is not looked at again.
fn replace(word: &[u8], line: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = Vec::new();
    let (mut rest, mut is_used) = (word, false);
    while let [first, tail @ ..] = rest {
        match PLACES.iter().find(|(place, _)| rest.starts_with(place)) {
            Some((place, part)) => {
                replaced.extend_from_slice(part(line));
                rest = &rest[place.len()..];
                is_used = true;
            }
            None => {
                replaced.push(*first);
                rest = tail;
            }
        }
        if replaced.len() > ARGUMENTS_BYTES_MAX {
            // It is refused for its length; a line of 100 KiB in 10,000 places is not put together.
            break;
        }
    }
    is_used.then_some(replaced)
}

fn file_name(line: &[u8]) -> &[u8] {
    let slash = line.iter().rposition(|&byte| byte == b'/');
    slash.map_or(line, |at| &line[at + 1..])
}

fn folder(line: &[u8]) -> &[u8] {
    match line.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(at) => &line[..at],
        None => b".",
    }
}

fn without_ending(line: &[u8]) -> &[u8] {
    let folder_bytes = line.len() - file_name(line).len();
    let dot = line[folder_bytes..].iter().rposition(|&byte| byte == b'.');
    dot.map_or(line, |at| &line[..folder_bytes + at])
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(u8),
    /// Killed by the signal of this number.
    Signalled(u8),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exit status {code}"),
            Ended::Signalled(number) => write!(f, "killed by signal {number}"),
        }
    }
}

/// What is told of a task whose program ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// How. A process that lives on has exited with 0 as far as a task is concerned.
    pub ended: Ended,
    /// What it wrote to standard error, or its first and last parts with a word between them.
    pub stderr: &'a [u8],
    /// What it wrote to standard output, all of it; of a process that lives on its answer alone.
    pub stdout: &'a [u8],
}

impl<'a> Report<'a> {
    /// Bytes before the two outputs.
    pub const HEADER_BYTES: usize = 6;

    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (how, code) = match self.ended {
            Ended::Exited(code) => (0, code),
            Ended::Signalled(number) => (1, number),
        };
        out.extend_from_slice(&[how, code]);
        out.extend_from_slice(&(self.stderr.len() as u32).to_be_bytes());
        out.extend_from_slice(self.stderr);
        out.extend_from_slice(self.stdout);
    }

    /// Reads one; `None` if `output` is none, as the reason of a failure that has another cause.
    pub fn decode(output: &'a [u8]) -> Option<Report<'a>> {
        let (&[how, code, length @ ..], rest) = output.split_first_chunk::<6>()?;
        let ended = match how {
            0 => Ended::Exited(code),
            1 => Ended::Signalled(code),
            _ => return None,
        };
        let (stderr, stdout) = rest.split_at_checked(u32::from_be_bytes(length) as usize)?;
        Some(Report {
            ended,
            stderr,
            stdout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn line(mode: Mode, words: &[&[u8]]) -> CommandLine {
        let words = words.iter().map(|word| word.to_vec()).collect();
        CommandLine::new(mode, words).unwrap()
    }

    fn argv(words: &[&[u8]], input: &[u8]) -> Vec<Vec<u8>> {
        line(Mode::PerTask, words).argv(input).unwrap()
    }

    #[test]
    fn a_line_goes_into_its_places_or_behind_the_rest() {
        assert_eq!(argv(&[b"wc", b"-c"], b"a b"), [&b"wc"[..], b"-c", b"a b"]);
        assert_eq!(
            argv(&[b"x", b"{}", b"<{}{}>"], b"7"),
            [&b"x"[..], b"7", b"<77>"]
        );
        assert_eq!(
            argv(&[b"{}"], b"7"),
            [&b"{}"[..], b"7"],
            "a command is no place"
        );
        assert_eq!(
            argv(&[b"x", b"{", b"{ }", b"{}}"], b"7")[1..],
            [&b"{"[..], b"{ }", b"7}"]
        );
        assert_eq!(
            argv(&[b"x"], b""),
            [&b"x"[..], b""],
            "an empty line is an empty argument"
        );
    }

    #[test]
    fn a_path_has_parts() {
        let words: &[&[u8]] = &[b"x", b"{.}", b"{/}", b"{//}", b"{/.}"];
        for (input, parts) in [
            ("a/b.c.d", ["a/b.c", "b.c.d", "a", "b.c"]),
            ("b", ["b", "b", ".", "b"]),
            ("a.d/b", ["a.d/b", "b", "a.d", "b"]),
            ("/b.c", ["/b", "b.c", "/", "b"]),
            ("", ["", "", ".", ""]),
        ] {
            let expected = parts.map(|part| part.as_bytes().to_vec());
            assert_eq!(argv(words, input.as_bytes())[1..], expected, "{input}");
        }
    }

    #[test]
    fn nothing_in_a_line_is_interpreted() {
        let nasty: &[&[u8]] = &[
            b" a  b ",
            b"'\"\\",
            b"$(touch x) `x` ${x} $x",
            b"; rm -rf x & | x > y",
            b"../../x",
            b"-rf",
            b"{} {.} {/}",
            b"\xff\xfe\x80",
            b"*?[a]~",
            b"a\nb\r\tc",
        ];
        for input in nasty {
            assert_eq!(argv(&[b"x", b"{}"], input)[1], *input);
            assert_eq!(argv(&[b"x"], input)[1], *input);
        }
    }

    #[test]
    fn what_no_system_takes_is_refused() {
        let per_task = line(Mode::PerTask, &[b"x", b"{}{}"]);
        assert_eq!(per_task.check(b"a\0b"), Err(Unfit::Zero));
        let half = vec![b'a'; ARGUMENT_BYTES_MAX / 2];
        assert_eq!(per_task.check(&half), Ok(()));
        let longer = vec![b'a'; ARGUMENT_BYTES_MAX / 2 + 1];
        let refused = Unfit::Argument(2 * longer.len());
        assert_eq!(per_task.check(&longer), Err(refused));
        let million = vec![b'a'; 1 << 20];
        let refused = Unfit::Argument(2 * million.len());
        assert_eq!(per_task.check(&million), Err(refused));
        let mut words = vec![b"x".to_vec()];
        words.resize(10, b"{}".to_vec());
        let many = CommandLine::new(Mode::PerTask, words).unwrap();
        let longest = vec![b'a'; ARGUMENT_BYTES_MAX];
        assert!(matches!(many.check(&longest), Err(Unfit::Arguments(_))));
    }

    #[test]
    fn a_process_that_lives_on_takes_any_line() {
        let lines = line(Mode::Lines, &[b"x", b"{}"]);
        assert_eq!(lines.check(&vec![0; 1 << 20]), Ok(()));
        assert_eq!(lines.check(b"a\nb"), Err(Unfit::Newline));
        assert_eq!(lines.argv(b"7").unwrap(), [&b"x"[..], b"{}"]);
        assert_eq!(line(Mode::Lengths, &[b"x"]).check(b"a\nb\0"), Ok(()));
    }

    #[test]
    fn a_command_has_words() {
        let new = |words| CommandLine::new(Mode::PerTask, words);
        assert_eq!(new(vec![]), Err(Unfit::Nothing));
        assert_eq!(new(vec![vec![]]), Err(Unfit::Nothing));
        assert_eq!(new(vec![vec![1]; WORDS_MAX + 1]), Err(Unfit::Words));
        assert_eq!(new(vec![vec![1, 0]]), Err(Unfit::Zero));
    }

    #[test]
    fn a_set_up_has_one_encoding() {
        let wc = line(Mode::Lines, &[b"wc", b""]);
        let bytes = [1, 0, 2, 0, 0, 0, 2, b'w', b'c', 0, 0, 0, 0];
        assert_eq!(wc.encode(), bytes);
        assert_eq!(CommandLine::decode(&bytes), Ok(wc));
        for cut in 0..bytes.len() {
            assert!(CommandLine::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut rng = SplitMix64::new(1);
        for _ in 0..100_000 {
            let mut bytes = bytes.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.below(4) as u8;
            }
            if let Ok(decoded) = CommandLine::decode(&bytes) {
                assert_eq!(decoded.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_report_has_one_encoding_and_is_no_text() {
        let report = Report {
            ended: Ended::Exited(3),
            stderr: b"no",
            stdout: b"yes\n",
        };
        let mut bytes = Vec::new();
        report.encode(&mut bytes);
        assert_eq!(bytes, b"\0\x03\0\0\0\x02noyes\n");
        assert_eq!(Report::decode(&bytes), Some(report));
        assert_eq!(
            Report::decode(b"\x01\x09\0\0\0\0").unwrap().ended,
            Ended::Signalled(9)
        );
        for wrong in [
            &b""[..],
            b"\0\0\0\0\0",
            b"\0\0\0\0\0\x01",
            b"the kernel panicked",
        ] {
            assert_eq!(Report::decode(wrong), None);
        }
    }
}
