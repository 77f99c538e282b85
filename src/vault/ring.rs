//! Sealing and opening of single values with the data keys.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};

use super::data_keys::DataKey;
use super::place::Place;

/// First byte of a sealed value: format 1 = `0x01 | key id, i32 big-endian | nonce 12 | ciphertext | tag 16`,
/// AES-256-GCM (NIST SP 800-38D) with the value's place as additional data.
const FORMAT: u8 = 0x01;
/// Bytes before the ciphertext.
const HEADER: usize = 1 + 4 + 12;
/// Bytes of the tag.
const TAG: usize = 16;

/// A value cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The vault holds no key at all yet.
    #[error("the vault has no key")]
    NoKey,
    /// The value was sealed with a key that this vault does not hold (any more, or yet).
    #[error("the value was sealed with key {0}, which is not in the vault")]
    UnknownKey(i32),
    /// The bytes are not a sealed value.
    #[error("the value is not sealed in a known format")]
    Malformed,
    /// The value was changed, moved to another place, or sealed with another key.
    #[error("the sealed value does not belong here or was changed")]
    Forged,
    /// What was sealed is not text.
    #[error("the opened value is not UTF-8")]
    NotText,
    /// The cipher refused to seal.
    #[error("the value is too large to be sealed")]
    Cipher,
}

struct RingKey {
    id: i32,
    cipher: Aes256Gcm,
}

#[derive(Default)]
struct Ring {
    keys: Vec<RingKey>,
    /// The id of the one that seals.
    sealing: i32,
}

/// Seals and opens values. Cheap to clone; all clones share their keys. It begins without any.
#[derive(Clone, Default)]
pub struct Vault {
    // The lock is held for a pointer copy only.
    ring: Arc<RwLock<Arc<Ring>>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<i32> = self.ring().keys.iter().map(|key| key.id).collect();
        formatter
            .debug_struct("Vault")
            .field("keys", &ids)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Replaces all keys. From now on the one of the id `sealing` seals.
    pub fn set_keys(&self, keys: Vec<DataKey>, sealing: i32) {
        let keys = keys
            .into_iter()
            .map(|key| RingKey {
                id: key.id,
                cipher: Aes256Gcm::new(&key.key.into()),
            })
            .collect();
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Ring { keys, sealing });
    }

    /// Seals a value for its place.
    ///
    /// # Errors
    /// [`SealError::NoKey`] before the keys are loaded; [`SealError::Cipher`] beyond 64 GB.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let ring = self.ring();
        let key = ring.key(ring.sealing).ok_or(SealError::NoKey)?;
        let nonce: [u8; 12] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: &place.associated_data(),
        };
        let ciphertext = key
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| SealError::Cipher)?;
        let mut sealed = Vec::with_capacity(HEADER + ciphertext.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens a value of its place.
    ///
    /// # Errors
    /// When it is no sealed value, its key is not here, or it was changed or moved.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let id = Self::key_id_of(sealed).ok_or(SealError::Malformed)?;
        let nonce: [u8; 12] = sealed[5..HEADER].try_into().map_err(|_| SealError::Malformed)?;
        let ring = self.ring();
        let key = ring.key(id).ok_or(SealError::UnknownKey(id))?;
        let payload = Payload {
            msg: &sealed[HEADER..],
            aad: &place.associated_data(),
        };
        key.cipher
            .decrypt(&Nonce::from(nonce), payload)
            .map_err(|_| SealError::Forged)
    }

    /// Opens a value that is text.
    ///
    /// # Errors
    /// As [`Vault::open`], and [`SealError::NotText`] when it is not UTF-8.
    pub fn open_text(&self, place: Place<'_>, sealed: &[u8]) -> Result<String, SealError> {
        String::from_utf8(self.open(place, sealed)?).map_err(|_| SealError::NotText)
    }

    /// The id of the key with which a value was sealed; none when it is not in the current format.
    pub fn key_id_of(sealed: &[u8]) -> Option<i32> {
        if sealed.len() < HEADER + TAG || sealed[0] != FORMAT {
            return None;
        }
        sealed[1..5].try_into().ok().map(i32::from_be_bytes)
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ring {
    fn key(&self, id: i32) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place {
        table: "messages",
        column: "content",
        row: &[1; 16],
    };

    fn vault_with_key() -> Vault {
        let vault = Vault::default();
        vault.set_keys(vec![DataKey::generate(1)], 1);
        vault
    }

    #[test]
    fn what_is_sealed_opens_in_its_place() {
        let vault = vault_with_key();
        for text in ["", "hello 😀", &"x".repeat(100_000)] {
            let sealed = vault.seal(PLACE, text.as_bytes()).unwrap();
            assert_eq!(sealed.len(), text.len() + HEADER + TAG);
            assert_eq!(vault.open_text(PLACE, &sealed).unwrap(), *text);
        }
    }

    #[test]
    fn the_same_value_is_sealed_differently_each_time() {
        let vault = vault_with_key();
        assert_ne!(
            vault.seal(PLACE, b"hello").unwrap(),
            vault.seal(PLACE, b"hello").unwrap()
        );
    }

    #[test]
    fn a_value_does_not_open_in_another_place() {
        let vault = vault_with_key();
        let sealed = vault.seal(PLACE, b"hello").unwrap();
        let elsewhere = [
            Place { row: &[2; 16], ..PLACE },
            Place {
                column: "media_url",
                ..PLACE
            },
            Place {
                table: "events",
                ..PLACE
            },
        ];
        for place in elsewhere {
            assert_eq!(vault.open(place, &sealed), Err(SealError::Forged));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let vault = vault_with_key();
        let sealed = vault.seal(PLACE, b"hello").unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(vault.open(PLACE, &changed).is_err(), "byte {position}");
        }
        for length in 0..sealed.len() {
            assert!(vault.open(PLACE, &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn one_key_seals_and_all_open() {
        let vault = Vault::default();
        let (old, new) = (DataKey::generate(1), DataKey::generate(2));
        vault.set_keys(vec![new.clone(), old.clone()], 1);
        let early = vault.seal(PLACE, b"early").unwrap();
        assert_eq!(Vault::key_id_of(&early), Some(1));
        vault.set_keys(vec![old, new.clone()], 2);
        let late = vault.seal(PLACE, b"late").unwrap();
        assert_eq!(Vault::key_id_of(&late), Some(2));
        assert_eq!(vault.open(PLACE, &early).unwrap(), b"early");
        vault.set_keys(vec![new], 2);
        assert_eq!(vault.open(PLACE, &early), Err(SealError::UnknownKey(1)));
        assert_eq!(vault.open(PLACE, &late).unwrap(), b"late");
    }

    #[test]
    fn without_keys_nothing_is_sealed() {
        assert_eq!(Vault::default().seal(PLACE, b"x"), Err(SealError::NoKey));
    }

    proptest::proptest! {
        #![proptest_config(crate::vault::hostile_cases())]

        #[test]
        fn no_bytes_open_by_chance(
            mut bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
            is_headed in proptest::arbitrary::any::<bool>(),
        ) {
            if is_headed {
                bytes.splice(..bytes.len().min(5), [FORMAT, 0, 0, 0, 1]);
            }
            proptest::prop_assert!(vault_with_key().open_text(PLACE, &bytes).is_err());
        }
    }
}
