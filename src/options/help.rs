//! What `--help` says.
//!
//! What it is: a [`Program`] as text for a terminal. What it is not: the manual page, which a test
//! makes of the same table (`pages.rs`).
//!
//! Invariant: no line is wider than a terminal of 80 columns, as long as no flag's is.

use std::fmt::Write;

use super::cli::Program;

/// Where the descriptions of flags begin on a line, and those of jobs.
const FLAG_COLUMN: usize = 32;
const JOB_COLUMN: usize = 19;
const LINE_COLUMNS: usize = 80;
/// A blank at which no line is broken.
const NO_BREAK: char = '\u{a0}';

impl Program {
    /// The text of `--help`, without the last line end.
    pub fn help(&self) -> String {
        let mut text = format!("Usage: {}\n{}", self.usage, wrapped(self.about));
        if !self.jobs.is_empty() {
            text.push_str("\n\nJobs:");
        }
        for (job, about) in &self.jobs {
            row(&mut text, job, JOB_COLUMN, about);
        }
        for (title, flags) in &self.groups {
            write!(text, "\n\n{title}:").expect("a String takes everything");
            for flag in flags {
                let short = match flag.short {
                    "" => "    ".to_owned(),
                    letter => format!("-{letter}, "),
                };
                let names = format!("{short}--{} {}", flag.long, flag.value);
                row(&mut text, &names, FLAG_COLUMN, &flag.about);
            }
        }
        text.push_str("\n\nExamples:");
        for example in self.examples {
            write!(text, "\n  {example}").expect("a String takes everything");
        }
        let exits = self.exits.iter().map(|(title, exits)| {
            // A code stays on the line on which its meaning begins.
            let exits = exits
                .iter()
                .map(|(exit, about)| format!("{}{NO_BREAK}{about}", exit.code()));
            format!("{title}: {}.", exits.collect::<Vec<_>>().join("; "))
        });
        let exits = exits.collect::<Vec<_>>().join(" ");
        let limits = match &self.limits[..] {
            "" => String::new(),
            limits => format!("Limits: {limits} RUST_LOG=debug tells more."),
        };
        for paragraph in [exits, limits] {
            if !paragraph.is_empty() {
                text.push_str("\n\n");
                text.push_str(&wrapped(&paragraph));
            }
        }
        text
    }
}

/// Appends a line of a table, or more if `about` has more.
fn row(text: &mut String, name: &str, column: usize, about: &str) {
    let name = format!("  {name}");
    debug_assert!(name.len() < column, "no gap after {name}");
    let about = about.replace('\n', &format!("\n{:column$}", ""));
    write!(text, "\n{name:column$}{about}").expect("a String takes everything");
}

/// Paragraphs, which empty lines part, in lines that fit.
pub(super) fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    for paragraph in text.split("\n\n") {
        if !wrapped.is_empty() {
            wrapped.push_str("\n\n");
        }
        let mut columns = 0;
        for word in paragraph.split_ascii_whitespace() {
            let word_columns = word.chars().count();
            match columns {
                0 => {}
                _ if columns + 1 + word_columns > LINE_COLUMNS => {
                    wrapped.push('\n');
                    columns = 0;
                }
                _ => {
                    wrapped.push(' ');
                    columns += 1;
                }
            }
            wrapped.push_str(word);
            columns += word_columns;
        }
    }
    wrapped.replace(NO_BREAK, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_at_80_columns_and_stay_apart() {
        let word = "a".repeat(39);
        let text = format!("{word} {word}a {word} b\n\nc\n {word}{word}{word}\u{a0}d");
        let expected = format!("{word} {word}a\n{word} b\n\nc\n{word}{word}{word} d");
        assert_eq!(wrapped(&text), expected);
    }
}
