//! Sealing and opening of single values with the data keys.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hub_actors::Clock;
use time::OffsetDateTime;

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
    current_from: OffsetDateTime,
    cipher: Aes256Gcm,
}

/// Seals and opens values. Cheap to clone; all clones share their keys.
#[derive(Clone)]
pub struct Vault {
    // Ascending by the moment from which each key seals. The lock is held for a pointer copy only.
    keys: Arc<RwLock<Arc<[RingKey]>>>,
    clock: Clock,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<i32> = self.ring().iter().map(|key| key.id).collect();
        formatter
            .debug_struct("Vault")
            .field("keys", &ids)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault without keys.
    pub fn new(clock: Clock) -> Self {
        Self {
            keys: Arc::new(RwLock::new(Arc::new([]))),
            clock,
        }
    }

    /// Replaces all keys.
    pub fn set_keys(&self, keys: Vec<DataKey>) {
        let mut ring: Vec<RingKey> = keys
            .into_iter()
            .map(|key| RingKey {
                id: key.id,
                current_from: key.current_from,
                cipher: Aes256Gcm::new(&key.key.into()),
            })
            .collect();
        ring.sort_by_key(|key| (key.current_from, key.id));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = ring.into();
    }

    /// The key that seals at this moment: the newest whose time has come. When the clock stands before all of them,
    /// the oldest: a clock that steps back must not stop the hub.
    ///
    /// # Errors
    /// [`SealError::NoKey`] when there is none.
    pub fn sealing_key_id(&self) -> Result<i32, SealError> {
        let ring = self.ring();
        self.sealing_key(&ring).map(|key| key.id)
    }

    /// Seals a value for its place.
    ///
    /// # Errors
    /// [`SealError::NoKey`] before the keys are loaded; [`SealError::Cipher`] beyond 64 GB.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let ring = self.ring();
        let key = self.sealing_key(&ring)?;
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
        let key = ring.iter().find(|key| key.id == id).ok_or(SealError::UnknownKey(id))?;
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

    fn ring(&self) -> Arc<[RingKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn sealing_key<'ring>(&self, ring: &'ring [RingKey]) -> Result<&'ring RingKey, SealError> {
        let now = self.clock.now();
        ring.iter()
            .rev()
            .find(|key| key.current_from <= now)
            .or_else(|| ring.first())
            .ok_or(SealError::NoKey)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLACE: Place<'static> = Place {
        table: "messages",
        column: "content",
        row: &[1; 16],
    };

    fn vault_with_key() -> Vault {
        let clock = Clock::system();
        let vault = Vault::new(clock.clone());
        vault.set_keys(vec![DataKey::generate(1, clock.now())]);
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
    fn a_new_key_seals_once_its_time_has_come_and_old_values_still_open() {
        let clock = Clock::system();
        let vault = Vault::new(clock.clone());
        let old = DataKey::generate(1, clock.now());
        let new = DataKey::generate(2, clock.now() + Duration::from_secs(30));
        vault.set_keys(vec![new.clone(), old]);
        let early = vault.seal(PLACE, b"early").unwrap();
        assert_eq!(Vault::key_id_of(&early), Some(1));
        clock.shift(Duration::from_secs(31), false);
        let late = vault.seal(PLACE, b"late").unwrap();
        assert_eq!(Vault::key_id_of(&late), Some(2));
        assert_eq!(vault.open(PLACE, &early).unwrap(), b"early");
        vault.set_keys(vec![new]);
        assert_eq!(vault.open(PLACE, &early), Err(SealError::UnknownKey(1)));
        assert_eq!(vault.open(PLACE, &late).unwrap(), b"late");
    }

    #[test]
    fn a_clock_before_every_key_still_seals() {
        let clock = Clock::system();
        let vault = Vault::new(clock.clone());
        vault.set_keys(vec![
            DataKey::generate(1, clock.now()),
            DataKey::generate(2, clock.now() + Duration::from_secs(30)),
        ]);
        clock.shift(Duration::from_secs(3600), true);
        assert_eq!(vault.sealing_key_id(), Ok(1));
    }

    #[test]
    fn without_keys_nothing_is_sealed() {
        assert_eq!(Vault::new(Clock::system()).seal(PLACE, b"x"), Err(SealError::NoKey));
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
