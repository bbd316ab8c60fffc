//! What the benchmark tells a process of its own.
//!
//! What it is: `name=value` words. What it is not: a command line for people; `main.rs` has that one.
//!
//! Invariant: a value that is missing or makes no sense ends the process at once.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The values, by name.
pub struct Args(BTreeMap<String, String>);

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Args {
        let pair = |word: String| {
            let (name, value) = word.split_once('=').expect("name=value");
            (name.to_owned(), value.to_owned())
        };
        Args(words.map(pair).collect())
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn text(&self, name: &str) -> &str {
        let found = self.find(name);
        found.unwrap_or_else(|| panic!("{name}= is missing"))
    }

    pub fn number<N: FromStr>(&self, name: &str) -> N {
        let parsed = self.text(name).parse();
        parsed.unwrap_or_else(|_| panic!("{name}= is no number"))
    }

    /// A list of addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.text("workers").split(',')
    }
}
