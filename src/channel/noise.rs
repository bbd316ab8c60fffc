//! The Noise protocol: who has the key, and what nobody else can read.
//!
//! What it is: pattern NNpsk0 over the crate `snow`: two messages, then a cipher each way. The key
//! proves both sides; their fresh secrets keep what was said from whoever learns the key later. What
//! it is not: a source of randomness (each side is given its secret), or of boundaries in a stream.
//!
//! Invariant: a secret is used for one handshake, a nonce for one record. 2^64 records never come.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState, TransportState};

use super::{MESSAGE_BYTES, TAG_BYTES};
use crate::frame::{Side, keyed_opening};
use crate::key::{Key, Keys};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// A handshake whose next message is the peer's.
pub enum Handshake {
    /// The head has sent the first message.
    Head(Box<HandshakeState>),
    /// The worker finds out by the first message which key it is about.
    Worker { keys: Keys, secret: [u8; 32] },
}

impl Handshake {
    /// A handshake of `side`, and the head's message.
    pub fn new(side: Side, keys: &Keys, secret: [u8; 32]) -> (Handshake, Option<Message>) {
        match side {
            Side::Head => {
                let mut state = start(side, keys.first(), secret);
                let message = write(&mut state);
                (Handshake::Head(Box::new(state)), Some(message))
            }
            Side::Worker => {
                let keys = keys.clone();
                (Handshake::Worker { keys, secret }, None)
            }
        }
    }

    /// Takes the peer's message; the handshake is then over, but for the worker's answer. `None` if
    /// it was not written with our key, for this handshake.
    pub fn read(self, message: &Message) -> Option<(Transport, Option<Message>)> {
        let read = |state: &mut HandshakeState| state.read_message(message, &mut []).is_ok();
        let (state, answer) = match self {
            Handshake::Head(mut state) => (read(&mut state).then_some(*state)?, None),
            Handshake::Worker { keys, secret } => {
                let states = keys
                    .all()
                    .iter()
                    .map(|key| start(Side::Worker, key, secret));
                let mut fitting = states.filter_map(|mut s| read(&mut s).then_some(s));
                let mut state = fitting.next()?;
                let answer = write(&mut state);
                (state, Some(answer))
            }
        };
        let transport = state.into_transport_mode().expect("there are two messages");
        Some((Transport(transport), answer))
    }
}

pub type Message = [u8; MESSAGE_BYTES];

/// The cipher of both directions.
pub struct Transport(TransportState);

impl Transport {
    /// Writes `plain` and its tag to the beginning of `sealed`.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) {
        let sealed_bytes = self.0.write_message(plain, sealed);
        assert_eq!(sealed_bytes.ok(), Some(plain.len() + TAG_BYTES), "it fits");
    }

    /// Writes what `sealed` says to the beginning of `plain`, and how long it is; `None` if it is
    /// not the peer's next record.
    pub fn open(&mut self, sealed: &[u8], plain: &mut [u8]) -> Option<usize> {
        self.0.read_message(sealed, plain).ok()
    }
}

fn start(side: Side, key: &Key, secret: [u8; 32]) -> HandshakeState {
    let prologue = [keyed_opening(Side::Head), keyed_opening(Side::Worker)].concat();
    let pattern = PATTERN.parse().expect("it is one");
    let builder = Builder::with_resolver(pattern, Box::new(Pure { secret }));
    let builder = builder
        .psk(0, key.bytes())
        .and_then(|b| b.prologue(&prologue));
    let state = builder.and_then(|builder| match side {
        Side::Head => builder.build_initiator(),
        Side::Worker => builder.build_responder(),
    });
    state.expect("the pattern wants nothing else")
}

fn write(state: &mut HandshakeState) -> Message {
    let mut message = [0; MESSAGE_BYTES];
    let written = state.write_message(&[], &mut message);
    assert_eq!(written, Ok(MESSAGE_BYTES), "an ephemeral key and a tag");
    message
}

/// The crate's own algorithms, but for randomness: one secret, for one key.
struct Pure {
    secret: [u8; 32],
}

struct Once(Option<[u8; 32]>);

impl Random for Once {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let secret = self.0.take().ok_or(Error::Rng)?;
        bytes.copy_from_slice(&secret);
        Ok(())
    }
}

impl CryptoResolver for Pure {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.secret))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}
