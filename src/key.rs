//! The secret that a head and its workers share.
//!
//! What it is: [`Key`], the [`Keys`] a side holds, and the text in which they are kept. What it is
//! not: a file; who may read it and where it lies is `keyfile`'s. Nor a cipher; what a key does is the
//! channel's.
//!
//! Invariant: no byte of a key gets into a message: `Debug` shows none, and errors name lines.

use std::fmt;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Keys at once: more than the old and the new one is a list that nobody has cleaned up.
const KEYS_MAX: usize = 2;

/// What everyone has who may use a worker, and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// A key of these bytes, which must be random.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Key {
        Key(bytes)
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// As a line of a key file: 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(digits: &[u8]) -> Option<Key> {
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut bytes = [0; KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |i: usize| char::from(pair[i]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Key(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One key, or two while a new one takes the old one's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Understands the text of a key file: a key per line, blank lines, and comments after `#`.
    ///
    /// # Errors
    /// If there is no key, a third one, or a line that is something else.
    pub fn parse(text: &[u8]) -> Result<Keys, KeyError> {
        let mut keys = Vec::new();
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
            let line = line.split(|&byte| byte == b'#').next();
            let digits = line.unwrap_or_default().trim_ascii();
            if digits.is_empty() {
                continue;
            }
            let key = Key::from_hex(digits).ok_or(KeyError::Line(number))?;
            if keys.len() == KEYS_MAX {
                return Err(KeyError::TooMany(number));
            }
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err(KeyError::None),
            false => Ok(Keys(keys)),
        }
    }

    /// The key a head dials with.
    pub fn first(&self) -> &Key {
        &self.0[0]
    }

    /// The keys a worker accepts; one or two.
    pub fn all(&self) -> &[Key] {
        &self.0
    }
}

impl From<Key> for Keys {
    fn from(key: Key) -> Keys {
        Keys(vec![key])
    }
}

/// Why a text holds no usable keys. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Only comments and blank lines, or nothing at all.
    None,
    /// This line is no key.
    Line(u32),
    /// This line has one key too many.
    TooMany(u32),
}

impl std::error::Error for KeyError {}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::None => f.write_str("it holds no key; head --keygen FILE makes one"),
            KeyError::Line(line) => write!(
                f,
                "line {line} is no key, which is {} hexadecimal digits",
                2 * KEY_BYTES
            ),
            KeyError::TooMany(line) => write!(
                f,
                "line {line} has key number {}; keep the new one and the one it replaces",
                KEYS_MAX + 1
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Key {
        Key::new(std::array::from_fn(|i| seed.wrapping_mul(37) + i as u8))
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let text = key(9).to_hex();
        assert_eq!(text.len(), 64);
        for text in [text.clone(), text.to_uppercase(), format!("\t{text} \r\n")] {
            assert_eq!(Keys::parse(text.as_bytes()), Ok(Keys::from(key(9))));
        }
    }

    #[test]
    fn two_keys_may_stand_among_comments() {
        let (new, old) = (key(1), key(2));
        let text = format!("# new\n{}\n\n{} # until May", new.to_hex(), old.to_hex());
        let keys = Keys::parse(text.as_bytes()).unwrap();
        assert_eq!(keys.first(), &new);
        assert_eq!(keys.all(), [new, old]);
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line() {
        let hex = key(3).to_hex();
        for (text, error) in [
            (String::new(), KeyError::None),
            ("\n # none yet\n".into(), KeyError::None),
            (hex[1..].to_owned(), KeyError::Line(1)),
            (format!("{hex}0"), KeyError::Line(1)),
            (format!("\n{}g", &hex[1..]), KeyError::Line(2)),
            (format!("{hex} {hex}"), KeyError::Line(1)),
            (format!("{hex}\n{hex}\n#\n{hex}"), KeyError::TooMany(4)),
            ("é".repeat(32), KeyError::Line(1)),
        ] {
            assert_eq!(Keys::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn no_byte_of_a_key_is_shown() {
        let shown = format!("{:?}", Keys::from(key(7)));
        assert_eq!(shown, "Keys([Key(..)])");
    }
}
