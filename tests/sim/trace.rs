//! What happened in one run: a hash over all of it, printed line by line on request.
//!
//! What it is: [`Trace`], fed with every event and every answer of every role, and the scene from
//! which a failure is reported. What it is not: a log to search; it keeps nothing but the hash.
//!
//! Invariant: two runs of one seed feed the same notes in the same order, so their hashes are equal.

use std::cell::Cell;

use teamster::time::Time;

/// The notes of one run.
pub struct Trace {
    hash: u64,
    pub notes: u64,
    prints: bool,
}

impl Trace {
    pub fn new(prints: bool) -> Trace {
        Trace {
            hash: 0,
            notes: 0,
            prints,
        }
    }

    /// Node 0 is the head, the others are workers.
    pub fn note(&mut self, now: Time, node: usize, what: &'static str, numbers: [u64; 3]) {
        self.notes += 1;
        self.mix(now.as_micros() ^ (node as u64) << 56);
        let mut word = [0; 8];
        let bytes = &what.as_bytes()[..what.len().min(8)];
        word[..bytes.len()].copy_from_slice(bytes);
        self.mix(u64::from_le_bytes(word) ^ what.len() as u64);
        numbers.into_iter().for_each(|number| self.mix(number));
        if self.prints {
            let [a, b, c] = numbers;
            println!("{now:>12}  node {node}  {what:<14} {a:>4} {b:>4} {c:>6}");
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, number: u64) {
        self.hash = mix(self.hash, number);
    }
}

/// Folds a number into a hash.
pub fn mix(hash: u64, number: u64) -> u64 {
    let mixed = (hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

thread_local! {
    static SCENE: Cell<(&'static str, Time)> = const { Cell::new(("start", Time::ZERO)) };
}

/// Says which oracle a panic from here on belongs to: assertions of the roles carry no name.
pub fn enter(oracle: &'static str, now: Time) {
    SCENE.set((oracle, now));
}

/// The oracle and virtual time of the panic that was just caught.
pub fn scene() -> (&'static str, Time) {
    SCENE.get()
}

/// Fails the run in the name of an oracle.
pub fn fail(oracle: &'static str, text: &str) -> ! {
    let (_, now) = SCENE.get();
    SCENE.set((oracle, now));
    panic!("{text}");
}

/// Checks a condition in the name of an oracle.
#[macro_export]
macro_rules! oracle {
    ($name:literal, $holds:expr, $($text:tt)+) => {
        if !$holds {
            $crate::trace::fail($name, &format!($($text)+));
        }
    };
}
