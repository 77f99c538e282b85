//! Readers of the two formats in which the former system stored secrets and content.
//!
//! * AES-256-GCM without additional data: standard base64 of `IV 12 | ciphertext | tag 16`;
//! * AES-256-CBC with PKCS#7 padding: `hex(IV 16):hex(ciphertext)`.
//!
//! The key of both is the configured text's bytes when they are exactly 32, else their SHA-256.

use aes::Aes256;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use sha2::{Digest, Sha256};

use super::ring::SealError;

/// Opens a value of the former system.
///
/// # Errors
/// [`SealError::Malformed`] when the value has neither form: the former system also stored some values as they were, so
/// an importer keeps such a text. [`SealError::Forged`] when it has a form but the key does not open it,
/// [`SealError::NotText`] when what it holds is not UTF-8.
pub fn open_legacy(key_text: &str, value: &str) -> Result<String, SealError> {
    let key = key_bytes(key_text);
    let value = value.trim();
    let plain = match value.split_once(':') {
        Some((iv, ciphertext)) => open_cbc(&key, iv, ciphertext)?,
        None => open_gcm(&key, value)?,
    };
    String::from_utf8(plain).map_err(|_| SealError::NotText)
}

fn key_bytes(text: &str) -> [u8; 32] {
    text.as_bytes()
        .try_into()
        .unwrap_or_else(|_| Sha256::digest(text.as_bytes()).into())
}

fn open_gcm(key: &[u8; 32], value: &str) -> Result<Vec<u8>, SealError> {
    let bytes = STANDARD.decode(value).map_err(|_| SealError::Malformed)?;
    // The former system never sealed an empty text: nonce, tag and at least one byte.
    if bytes.len() < 12 + 16 + 1 {
        return Err(SealError::Malformed);
    }
    let (nonce, ciphertext) = bytes.split_at(12);
    let nonce: [u8; 12] = nonce.try_into().map_err(|_| SealError::Malformed)?;
    Aes256Gcm::new(&(*key).into())
        .decrypt(&Nonce::from(nonce), ciphertext)
        .map_err(|_| SealError::Forged)
}

fn open_cbc(key: &[u8; 32], iv: &str, ciphertext: &str) -> Result<Vec<u8>, SealError> {
    let iv: [u8; 16] = hex::decode(iv)
        .map_err(|_| SealError::Malformed)?
        .try_into()
        .map_err(|_| SealError::Malformed)?;
    let ciphertext = hex::decode(ciphertext).map_err(|_| SealError::Malformed)?;
    if ciphertext.is_empty() || ciphertext.len() % 16 != 0 {
        return Err(SealError::Malformed);
    }
    // CBC has no tag: a wrong key shows only as bad padding. These values are read at import only, never from a network,
    // so that difference tells nobody anything.
    cbc::Decryptor::<Aes256>::new(&(*key).into(), &iv.into())
        .decrypt_padded_vec::<Pkcs7>(&ciphertext)
        .map_err(|_| SealError::Forged)
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::Payload;
    use cbc::cipher::BlockModeEncrypt;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    // The vectors below were made with the OpenSSL command line and Python, not with the code under test.
    const CBC_VECTOR: &str =
        "a8aea691f146220a772af57ac7bada32:3cf04b3e7f6d59de5588d5796930283e3ba2b446a3b00ee8e08616bcc24fcf50";
    const CBC_HASHED_KEY_VECTOR: &str =
        "212902aa5201cb34f4b42b50f29eeb66:c7f071197124408264379f569ca988ea35a15da3c3bfbab4411d16db9cbe5f9b";
    const GCM_VECTOR: &str = "TZQRRHFhA7MuGWtUYbEDClWZNRrV2g/bWMOWWNl9juGM12GZem0dysa4/K8U";

    #[test]
    fn vectors_made_elsewhere_open() {
        assert_eq!(open_legacy(KEY, CBC_VECTOR).unwrap(), "legacy secret ✓");
        assert_eq!(
            open_legacy("a passphrase", CBC_HASHED_KEY_VECTOR).unwrap(),
            "legacy secret ✓"
        );
        assert_eq!(open_legacy(KEY, GCM_VECTOR).unwrap(), "legacy secret ✓");
    }

    #[test]
    fn a_wrong_key_or_a_changed_value_does_not_open() {
        assert_eq!(open_legacy("another", GCM_VECTOR), Err(SealError::Forged));
        let mut bytes = STANDARD.decode(GCM_VECTOR).unwrap();
        bytes[20] ^= 1;
        assert_eq!(open_legacy(KEY, &STANDARD.encode(bytes)), Err(SealError::Forged));
        assert!(open_legacy("another", CBC_VECTOR).is_err());
    }

    #[test]
    fn plain_text_is_told_apart() {
        for value in ["", "hello", "You: hi", "12:34", "aGVsbG8=", "00:00", &"ab".repeat(16)] {
            assert_eq!(open_legacy(KEY, value), Err(SealError::Malformed), "{value:?}");
        }
        let short_iv = format!("{}:{}", "ab".repeat(15), "cd".repeat(16));
        assert_eq!(open_legacy(KEY, &short_iv), Err(SealError::Malformed));
        let not_whole_blocks = format!("{}:{}", "ab".repeat(16), "cd".repeat(15));
        assert_eq!(open_legacy(KEY, &not_whole_blocks), Err(SealError::Malformed));
    }

    #[test]
    fn what_the_former_system_would_write_now_opens() {
        let key = key_bytes("a passphrase");
        let sealed = Aes256Gcm::new(&key.into())
            .encrypt(
                &Nonce::from([3; 12]),
                Payload {
                    msg: b"token",
                    aad: b"",
                },
            )
            .unwrap();
        let value = STANDARD.encode([[3; 12].as_slice(), &sealed].concat());
        assert_eq!(open_legacy("a passphrase", &value).unwrap(), "token");
        let sealed = cbc::Encryptor::<Aes256>::new(&key.into(), &[4; 16].into()).encrypt_padded_vec::<Pkcs7>(b"token");
        let value = format!("{}:{}", hex::encode([4; 16]), hex::encode(sealed));
        assert_eq!(open_legacy("a passphrase", &value).unwrap(), "token");
    }

    proptest::proptest! {
        #![proptest_config(crate::vault::hostile_cases())]

        #[test]
        fn no_value_makes_it_panic(value in proptest::arbitrary::any::<String>(), key in "\\PC{0,40}") {
            let _ = open_legacy(&key, &value);
        }

        #[test]
        fn no_value_of_either_form_opens_by_chance(
            bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200),
            iv in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..20),
        ) {
            let gcm = open_legacy(KEY, &STANDARD.encode(&bytes));
            proptest::prop_assert!(matches!(gcm, Err(SealError::Forged | SealError::Malformed)));
            // CBC has no tag: one value in 256 opens, to noise, which is seldom text.
            let _ = open_legacy(KEY, &format!("{}:{}", hex::encode(&iv), hex::encode(&bytes)));
            let _ = open_legacy(KEY, &format!("{}:{}", hex::encode([7; 16]), hex::encode(&bytes[..bytes.len() / 16 * 16])));
        }

        #[test]
        fn a_changed_value_does_not_open(place in 0..44_usize, change in 1..=255_u8) {
            let mut bytes = STANDARD.decode(GCM_VECTOR).unwrap();
            let place = place % bytes.len();
            bytes[place] ^= change;
            proptest::prop_assert_eq!(open_legacy(KEY, &STANDARD.encode(&bytes)), Err(SealError::Forged));
            proptest::prop_assert!(open_legacy(KEY, &STANDARD.encode(&bytes[..place])).is_err());
        }
    }
}
