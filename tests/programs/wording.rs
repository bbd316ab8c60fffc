//! `docs/MESSAGES.md` and the sources name the same messages.
//!
//! What it is: a reader of the sources that finds what is worded for a user, and of the page that
//! explains it. What it is not: a judge of the words, or a compiler: it takes for a message whatever
//! has two words in a row and is in no call that says otherwise. So none can slip by for being built
//! in an unusual way; what is for other eyes is named here, with the reason.
//!
//! Invariant: no message without an entry, no entry without a message, no exception without a use.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Calls whose words are for those who write this, who debug, or who read results.
const SILENT: &[&str] = &[
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "expect",
    "panic",
    "unreachable",
    "debug",
    "trace",
    "info",
    "say",
    "Flag::new",
];

/// Sources without messages, though with words.
const WORDY: &[(&str, &str)] = &[
    ("fuzzing/", "compiled for fuzz targets alone"),
    ("options/head/flags.rs", "the text of --help"),
    ("options/worker/flags.rs", "the same"),
    ("options/job/map/flags.rs", "the same"),
    ("options/help.rs", "its frame"),
    ("options/pages.rs", "manual pages"),
    ("progress.rs", "figures"),
    ("report.rs", "the summary"),
    ("status/metrics.rs", "what Prometheus shows of each metric"),
    ("trace.rs", "JSON"),
    ("words.rs", "figures"),
];

/// Words that are no messages: what stands around each, results, names of jobs, texts of `--help`,
/// HTTP, what a shell runs, and a panic of ours.
const OTHERS: &[&str] = &[
    "{program}: error: {message}",
    "{program}: warning: {message}",
    "head: {reason}",
    "{seconds} s",
    "Listening on {address}",
    "no key",
    "{rate} tasks of {kernel}",
    "too busy to answer tasks of {kernel} at once",
    "release {}, {key}, {}, credit {} and {}, round trip {}.{} ms, {rate}",
    "{file} has a new key. Copy it to the machines of the head and of every worker, readable by one",
    "[{count} bytes left out]",
    "{job} over an iterator",
    "in input order",
    "{number} KiB",
    "{number} MiB",
    "{number} bytes",
    "{peer} ({count} tasks)",
    "{name} {release} (Teamster, protocol {version})",
    "a value",
    "largest input or output of a task, up to {max}",
    "the key that heads and workers share (default:",
    "400 Bad Request",
    "404 Not Found",
    "405 Method Not Allowed",
    "431 Request Header Fields Too Large",
    "Connection: close",
    "Allow: GET, HEAD",
    "trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU; echo; read _; kill -KILL 0",
    "room for {count} bytes",
    "(os error",
    "a text is made of whole parcels",
];

/// Each message, with its placeholders as `{}`, and where one is.
type Messages = BTreeMap<String, String>;

#[test]
fn every_message_has_an_entry_and_every_entry_its_message() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut messages = Messages::new();
    read_folder(&root.join("src"), &root.join("src"), &mut messages);
    let is_unused = |other: &&&str| messages.remove(&without_names(other)).is_none();
    let unused = OTHERS.iter().filter(is_unused);
    let mut complaints: Vec<_> = unused.map(|other| format!("nowhere: {other}")).collect();
    let page = fs::read_to_string(root.join("docs/MESSAGES.md")).unwrap();
    complaints.extend(differences(&messages, &entries(&page)));
    let gone = WORDY
        .iter()
        .filter(|wordy| !root.join("src").join(wordy.0).exists());
    complaints.extend(gone.map(|wordy| format!("nowhere: {}", wordy.0)));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What one has and the other has not.
fn differences(messages: &Messages, entries: &[String]) -> Vec<String> {
    let unexplained = messages.iter().filter(|(text, _)| !entries.contains(text));
    let unexplained = unexplained.map(|(text, path)| format!("no entry: {text}  ({path})"));
    let unsaid = entries.iter().filter(|text| !messages.contains_key(*text));
    let unsaid = unsaid.map(|text| format!("no message: {text}"));
    let twice = (1..entries.len()).filter(|&i| entries[..i].contains(&entries[i]));
    let twice = twice.map(|i| format!("twice: {}", entries[i]));
    unexplained.chain(unsaid).chain(twice).collect()
}

/// The messages of a page: what is fenced, one a line, each block with its explanation below.
fn entries(page: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut blocks = page.split("\n```\n");
    blocks.next();
    while let (Some(block), Some(after)) = (blocks.next(), blocks.next()) {
        let line = after.trim_start().lines().next().unwrap_or("#");
        assert!(!line.starts_with('#'), "no explanation below\n{block}");
        let lines = block.lines().map(|line| line.trim_matches(['…', ' ']));
        entries.extend(lines.map(without_names));
    }
    entries
}

fn read_folder(root: &Path, folder: &Path, messages: &mut Messages) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if path.is_dir() {
            read_folder(root, &path, messages);
        } else if name.ends_with(".rs") && !is_test && !WORDY.iter().any(|w| name.starts_with(w.0))
        {
            let source = fs::read_to_string(&path).unwrap();
            read_source(&source, &name, messages);
        }
    }
}

fn read_source(source: &str, name: &str, messages: &mut Messages) {
    let tokens = source
        .parse()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    read_tokens(tokens, name, messages);
}

fn read_tokens(tokens: TokenStream, name: &str, messages: &mut Messages) {
    // The path before a group: what is called.
    let mut path = String::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if path.ends_with(':') => path += &ident.to_string(),
            TokenTree::Ident(ident) => path = ident.to_string(),
            TokenTree::Punct(punct) => match punct.as_char() {
                ':' => path.push(':'),
                '!' => {}
                '#' => skip_attribute(&mut tokens),
                _ => path.clear(),
            },
            TokenTree::Group(group) => {
                let is_silent =
                    |call: &&str| path == **call || path.ends_with(&format!("::{call}"));
                let is_call = group.delimiter() == Delimiter::Parenthesis;
                if !(is_call && SILENT.iter().any(is_silent)) {
                    read_tokens(group.stream(), name, messages);
                }
                path.clear();
            }
            TokenTree::Literal(literal) => {
                let text = text_of(&literal.to_string());
                let first_line = text.trim().lines().next().unwrap_or("");
                if is_worded(first_line) {
                    messages.insert(without_names(first_line), name.to_owned());
                }
                path.clear();
            }
        }
    }
}

/// An attribute is no message (a comment on an item is one, too), nor are the words of a test.
fn skip_attribute(tokens: &mut impl Iterator<Item = TokenTree>) {
    let attribute = tokens.find(|token| matches!(token, TokenTree::Group(_)));
    if attribute.is_some_and(|it| it.to_string().replace(' ', "") == "[cfg(test)]") {
        let is_end = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        tokens.find(is_end);
    }
}

/// The text of a string literal; nothing of any other.
fn text_of(literal: &str) -> String {
    let raw = literal.strip_prefix('r').map(|raw| raw.trim_matches('#'));
    if let Some(raw) = raw.and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"')) {
        return raw.to_owned();
    }
    let quoted = literal
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let mut text = String::new();
    let mut chars = quoted.unwrap_or("").chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('n' | 'r') => text.push('\n'),
                // A line that goes on in the next.
                Some('\n') => while chars.next_if(|char| char.is_whitespace()).is_some() {},
                escaped => text.extend(escaped),
            },
            char => text.push(char),
        }
    }
    text
}

/// Whether somebody worded this: two words in a row, of which one may be a placeholder or a flag.
fn is_worded(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(char::is_alphabetic) && word.chars().all(|c| c.is_alphabetic() || c == '-')
    };
    let bare = without_names(text);
    let words = bare
        .split(' ')
        .map(|word| word.trim_matches([',', ';', ':', '.', '(', ')', '?']));
    let words: Vec<&str> = words.collect();
    let is_pair = |pair: &[&str]| {
        let is_filled = |word: &str| is_word(word) || word == "{}" || word.starts_with("--");
        pair.iter().all(|word| is_filled(word)) && pair.iter().any(|word| is_word(word))
    };
    words.windows(2).any(is_pair)
}

/// With every placeholder as `{}`: the sources name them for the compiler, the page for its reader.
fn without_names(text: &str) -> String {
    let mut parts = text.split('{');
    let mut bare = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('}').unwrap_or((part, part));
        bare += "{}";
        bare += rest;
    }
    bare
}

const SOURCE: &str = r##"
//! Not the words of a comment.
/// Nor of this one.
#[must_use = "nor of an attribute"]
fn say_much(name: &str) -> Result<(), String> {
    warn!("worker {name:?} is \"gone\"; it \
           is dialled again");
    debug!("not for {} who debug", all.of(them));
    assert!(is_so, "not what {name} never sees");
    let lone = ["one", "--two"];
    let state = match it { _ => "not yet" };
    Err(format!("{}: in a function, {}", f(r#"raw "words" in {0}"#), 1))
}
#[cfg(test)]
mod tests { fn a() { panic_not("not the words of a test"); } }
fn after() { error("two\nlines of text") }
fn last() { error("first words\nlines of text") }
"##;

#[test]
fn messages_are_found_however_they_are_said() {
    let mut messages = Messages::new();
    read_source(SOURCE, "made up", &mut messages);
    let found: Vec<&str> = messages.keys().map(|text| &text[..]).collect();
    assert_eq!(
        found,
        [
            "first words",
            "not yet",
            "raw \"words\" in {}",
            "worker {} is \"gone\"; it is dialled again",
            "{}: in a function, {}",
        ]
    );
}

#[test]
fn what_only_one_side_has_is_told() {
    let mut messages = Messages::new();
    read_source(SOURCE, "made up", &mut messages);
    let page = "# Page\n\n```\nnot yet\n{what}: in a function, {n}\n…raw \"words\" in {n}…\n```\nWhy.\n\n\
                ```\nfirst words\nnever said\n```\n\nWhy.\n";
    assert_eq!(
        differences(&messages, &entries(page)),
        [
            "no entry: worker {} is \"gone\"; it is dialled again  (made up)",
            "no message: never said"
        ]
    );
}

#[test]
#[should_panic = "no explanation below"]
fn an_entry_without_an_explanation_is_told() {
    entries("\n```\nnot yet\n```\n\n## Next\n");
}
