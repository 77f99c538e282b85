//! The master key, which comes from the settings, and the data keys, which it seals and which live in the database.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::ring::SealError;

/// First byte of a sealed data key.
const FORMAT: u8 = 0x01;
/// Bytes of a GCM nonce (NIST SP 800-38D, section 5.2.1.1).
const NONCE: usize = 12;

/// The text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 64 hexadecimal digits nor base64 of 32 bytes.
    #[error("a key is 32 bytes, written as 64 hexadecimal digits or as base64")]
    Malformed,
}

/// The key that seals the data keys. It comes from the settings and never enters the database.
#[derive(Clone)]
pub struct MasterKey {
    current: [u8; 32],
    previous: Vec<[u8; 32]>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(secret)")
    }
}

impl MasterKey {
    /// Reads 64 hexadecimal digits, or base64 (standard or URL-safe, padded or not) of 32 bytes.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Ok(Self {
            current: parse_key(text)?,
            previous: Vec::new(),
        })
    }

    /// Adds a former master key, which still opens data keys but seals none.
    ///
    /// # Errors
    /// As [`MasterKey::parse`].
    pub fn with_previous(mut self, text: &str) -> Result<Self, KeyError> {
        self.previous.push(parse_key(text)?);
        Ok(self)
    }

    /// Seals a data key for the database: format byte, nonce, ciphertext, tag; bound to the key's id.
    ///
    /// # Errors
    /// [`SealError::Cipher`] when the cipher refuses, which it does not for 32 bytes.
    pub fn seal_data_key(&self, id: i32, key: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = Aes256Gcm::new(&self.current.into())
            .encrypt(
                &Nonce::from(nonce),
                Payload {
                    msg: key,
                    aad: &associated_data(id),
                },
            )
            .map_err(|_| SealError::Cipher)?;
        let mut bytes = Vec::with_capacity(1 + NONCE + sealed.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    /// Opens a data key from the database, with this master key or a former one.
    ///
    /// # Errors
    /// [`SealError::Malformed`] when it is no sealed key, [`SealError::Forged`] when no master key opens it.
    pub fn open_data_key(&self, id: i32, sealed: &[u8]) -> Result<[u8; 32], SealError> {
        let (&format, rest) = sealed.split_first().ok_or(SealError::Malformed)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE).ok_or(SealError::Malformed)?;
        if format != FORMAT {
            return Err(SealError::Malformed);
        }
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| SealError::Malformed)?;
        let aad = associated_data(id);
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find_map(|master| {
                let payload = Payload {
                    msg: ciphertext,
                    aad: &aad,
                };
                let opened = Aes256Gcm::new(&(*master).into())
                    .decrypt(&Nonce::from(nonce), payload)
                    .ok()?;
                <[u8; 32]>::try_from(opened).ok()
            })
            .ok_or(SealError::Forged)
    }

    /// HMAC-SHA-256 of some bytes under a key that is made from the oldest known master key for this purpose alone.
    pub fn keyed_hash(&self, purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
        let oldest = self.previous.last().unwrap_or(&self.current);
        hmac(&hmac(oldest, purpose), bytes)
    }
}

fn hmac(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    // Shorter than the hash's block, so filled up with zeros (RFC 2104, section 2).
    let mut block = [0_u8; 64];
    block[..32].copy_from_slice(key);
    let mut code = <Hmac<Sha256> as KeyInit>::new(&block.into());
    code.update(bytes);
    code.finalize().into_bytes().into()
}

/// A key that seals rows, opened.
#[derive(Clone)]
pub struct DataKey {
    /// Its number, which stands in every value that it sealed.
    pub id: i32,
    /// The key itself.
    pub key: [u8; 32],
}

impl DataKey {
    /// A new random key.
    pub fn generate(id: i32) -> Self {
        Self {
            id,
            key: rand::random(),
        }
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DataKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn associated_data(id: i32) -> Vec<u8> {
    [b"vault_keys.sealed:".as_slice(), &id.to_be_bytes()].concat()
}

fn parse_key(text: &str) -> Result<[u8; 32], KeyError> {
    let text = text.trim();
    let bytes = hex::decode(text)
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .or_else(|| STANDARD.decode(text).ok())
        .or_else(|| STANDARD_NO_PAD.decode(text).ok())
        .or_else(|| URL_SAFE.decode(text).ok())
        .or_else(|| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or(KeyError::Malformed)?;
    bytes.try_into().map_err(|_| KeyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_master_key_is_hex_or_base64() {
        let from_hex = MasterKey::parse(HEX).unwrap();
        let from_base64 = MasterKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let unpadded = MasterKey::parse(" AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n").unwrap();
        assert_eq!(from_hex.current, from_base64.current);
        assert_eq!(from_hex.current, unpadded.current);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "secret", "0102", "AAECAwQ=", &"zz".repeat(32)] {
            assert_eq!(MasterKey::parse(text).unwrap_err(), KeyError::Malformed, "{text:?}");
        }
    }

    #[test]
    fn a_data_key_opens_only_under_its_id_and_its_master() {
        let master = MasterKey::parse(HEX).unwrap();
        let sealed = master.seal_data_key(7, &[9; 32]).unwrap();
        assert_eq!(master.open_data_key(7, &sealed), Ok([9; 32]));
        assert_eq!(master.open_data_key(8, &sealed), Err(SealError::Forged));
        let other = MasterKey::parse(&HEX.replace('0', "1")).unwrap();
        assert_eq!(other.open_data_key(7, &sealed), Err(SealError::Forged));
        let heir = other.with_previous(HEX).unwrap();
        assert_eq!(heir.open_data_key(7, &sealed), Ok([9; 32]));
        assert_eq!(master.open_data_key(7, &sealed[..10]), Err(SealError::Malformed));
        assert_eq!(master.open_data_key(7, &[]), Err(SealError::Malformed));
    }

    #[test]
    fn a_keyed_hash_is_one_of_its_key_its_purpose_and_its_bytes() {
        let (first, second) = ("11".repeat(32), "22".repeat(32));
        let master = MasterKey::parse(&first).unwrap();
        let hash = master.keyed_hash(b"purpose", b"bytes");
        assert_eq!(hash, master.keyed_hash(b"purpose", b"bytes"));
        assert_ne!(hash, master.keyed_hash(b"another", b"bytes"));
        assert_ne!(hash, master.keyed_hash(b"purpose", b"other"));
        let renewed = MasterKey::parse(&second).unwrap();
        assert_ne!(hash, renewed.keyed_hash(b"purpose", b"bytes"));
        assert_eq!(
            hash,
            renewed.with_previous(&first).unwrap().keyed_hash(b"purpose", b"bytes")
        );
    }

    #[test]
    fn keys_are_never_printed() {
        let key = DataKey { id: 1, key: [0xAB; 32] };
        let printed = format!("{key:?} {:?}", MasterKey::parse(HEX).unwrap());
        assert!(
            !printed.contains("171") && !printed.to_lowercase().contains("ab, "),
            "{printed}"
        );
    }
}
