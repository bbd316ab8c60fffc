//! A line that stays at the bottom of the terminal while other text goes by.
//!
//! What it is: what has to be written before and after that text. What it is not: a window of its own:
//! the terminal scrolls as ever, and nothing asks for its size. A line that does not fit is cut by the
//! terminal itself, with automatic wrapping off while it is drawn; so it survives any resize, and no
//! system call is needed that the standard library lacks.
//!
//! Invariant: the line is erased before any other text is written, and not drawn again before that
//! has ended with a line end.

use std::io::{self, Write};

const ERASE: &[u8] = b"\r\x1b[K";
const WRAP_OFF: &[u8] = b"\x1b[?7l";
const WRAP_ON: &[u8] = b"\x1b[?7h";

/// What is at the bottom of the terminal.
#[derive(Debug, Default)]
pub struct Screen {
    /// Empty if there is none.
    line: String,
    /// Other text has ended in the middle of a line.
    is_open: bool,
}

impl Screen {
    /// Without a line.
    pub const fn new() -> Screen {
        Screen {
            line: String::new(),
            is_open: false,
        }
    }

    /// Has `line` in the place of what was there; if it is empty, nothing.
    ///
    /// # Errors
    /// What the terminal says.
    pub fn show(&mut self, line: String, terminal: &mut impl Write) -> io::Result<()> {
        if line == self.line {
            return Ok(());
        }
        let mut text = self.erasure();
        self.line = line;
        self.draw(&mut text);
        terminal.write_all(&text)
    }

    /// Has `write` write `text` above the line, wherever in the same terminal it goes.
    ///
    /// # Errors
    /// What `write` says.
    pub fn above(
        &mut self,
        text: &[u8],
        terminal: &mut impl Write,
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        // For the line alone the text need not fail.
        let _ = terminal.write_all(&self.erasure());
        let written = write(text);
        if let Some(last) = text.last() {
            self.is_open = *last != b'\n';
        }
        let mut line = Vec::new();
        self.draw(&mut line);
        let _ = terminal.write_all(&line);
        written
    }

    fn is_shown(&self) -> bool {
        !self.line.is_empty() && !self.is_open
    }

    fn erasure(&self) -> Vec<u8> {
        match self.is_shown() {
            true => ERASE.to_vec(),
            false => Vec::new(),
        }
    }

    fn draw(&self, text: &mut Vec<u8>) {
        if self.is_shown() {
            text.extend_from_slice(WRAP_OFF);
            text.extend_from_slice(self.line.as_bytes());
            text.extend_from_slice(WRAP_ON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What the terminal gets: of the line in one go with the text, as both end up there.
    fn written(steps: &[(&str, &str)]) -> String {
        let terminal = RefCell::new(Vec::new());
        let mut screen = Screen::new();
        for (what, text) in steps {
            let mut own = Vec::new();
            match *what {
                "show" => screen.show((*text).to_owned(), &mut own).unwrap(),
                _ => {
                    struct Shared<'a>(&'a RefCell<Vec<u8>>);
                    impl Write for Shared<'_> {
                        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                            self.0.borrow_mut().write(text)
                        }
                        fn flush(&mut self) -> io::Result<()> {
                            Ok(())
                        }
                    }
                    let write = |text: &[u8]| Shared(&terminal).write_all(text);
                    let text = text.as_bytes();
                    screen.above(text, &mut Shared(&terminal), write).unwrap();
                }
            }
            terminal.borrow_mut().extend(own);
        }
        let text = String::from_utf8(terminal.into_inner()).unwrap();
        text.replace("\x1b[?7l", "<")
            .replace("\x1b[?7h", ">")
            .replace("\r\x1b[K", "~")
    }

    #[test]
    fn without_a_line_text_is_as_it_was() {
        assert_eq!(written(&[("text", "a\n"), ("text", "b")]), "a\nb");
    }

    #[test]
    fn text_goes_by_above_the_line() {
        let steps = [
            ("show", "1 done"),
            ("text", "a\n"),
            ("show", "2 done"),
            ("show", "2 done"),
        ];
        assert_eq!(written(&steps), "<1 done>~a\n<1 done>~<2 done>");
        assert_eq!(
            written(&[("show", "1"), ("show", ""), ("text", "a\n")]),
            "<1>~a\n"
        );
    }

    #[test]
    fn half_a_line_is_never_erased() {
        let steps = [("show", "1"), ("text", "a"), ("show", "2"), ("text", "b\n")];
        assert_eq!(written(&steps), "<1>~ab\n<2>");
    }
}
