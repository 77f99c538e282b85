//! The auth keys both sides know beforehand.
//!
//! A real client creates an auth key with a Diffie-Hellman exchange signed by Telegram's RSA key. A
//! test server cannot take part in that, so the keys are agreed on: both sides derive them from a seed.

use sha1::Digest as _;
use sha1::Sha1;
use sha2::Sha512;

/// How an auth key names itself at the head of every encrypted frame.
pub type KeyId = [u8; 8];

/// Auth key number `n` of the chain that starts at `seed`.
///
/// ```text
/// h0  = SHA-512(seed as UTF-8 || 0x00 || n as 4 bytes, big endian)
/// h1  = SHA-512(h0)    h2 = SHA-512(h1)    h3 = SHA-512(h2)
/// key = h0 || h1 || h2 || h3                                       (4 x 64 = 256 bytes)
/// ```
///
/// Session `n` of a fresh client (the first is 0) presets this key for every DC it knows.
pub fn derive_auth_key(seed: &str, n: u32) -> [u8; 256] {
    let mut hasher = Sha512::new();
    hasher.update(seed.as_bytes());
    hasher.update([0]);
    hasher.update(n.to_be_bytes());
    let mut link = hasher.finalize();
    let mut key = [0; 256];
    for part in key.chunks_exact_mut(64) {
        part.copy_from_slice(&link);
        link = Sha512::digest(link);
    }
    key
}

/// The id of an auth key: the last eight bytes of its SHA-1.
pub fn key_id(key: &[u8; 256]) -> KeyId {
    let digest = Sha1::digest(key);
    let mut id = [0; 8];
    id.copy_from_slice(&digest[12..20]);
    id
}

/// A number that is the same in every run: the first eight bytes of SHA-512 over `parts`.
///
/// Access hashes, salts and file references are made with it, so that a log reads the same twice.
pub(crate) fn stable(seed: &str, parts: &[i64]) -> i64 {
    let mut hasher = Sha512::new();
    hasher.update(seed.as_bytes());
    for part in parts {
        hasher.update(part.to_be_bytes());
    }
    let digest = hasher.finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_stable_and_every_key_is_its_own() {
        let key = derive_auth_key("seed", 0);
        assert_eq!(key, derive_auth_key("seed", 0));
        assert_ne!(key, derive_auth_key("seed", 1));
        assert_ne!(key, derive_auth_key("other", 0));
        assert_eq!(key[64..128], Sha512::digest(&key[..64])[..]);
    }
}
