//! Bytes that nobody can foresee.
//!
//! What it is: the operating system's randomness, for keys and for the secret of each handshake. What
//! it is not: the seeded one that decisions and backoffs use (`rng.rs`), which a replay repeats.
//!
//! Invariant: what is returned is fit to be a key; there is no weaker source to fall back to.

/// A fresh secret, by the source that the Noise implementation takes for its own.
///
/// # Panics
/// If the system has no randomness, and in a build without encryption.
#[cfg(feature = "noise")]
pub fn secret() -> [u8; 32] {
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    let mut secret = [0; 32];
    let mut source = DefaultResolver.resolve_rng().expect("the feature is on");
    let filled = source.try_fill_bytes(&mut secret);
    filled.expect("the system has randomness");
    secret
}

#[cfg(not(feature = "noise"))]
#[allow(missing_docs)]
pub fn secret() -> [u8; 32] {
    panic!("this build has no encryption");
}
