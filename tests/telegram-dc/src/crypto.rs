//! MTProto 2.0 encryption, seen from the server: AES-256-IGE with keys taken from the auth key and the
//! message key. Client to server uses x = 0, server to client x = 8.

use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256, Block};
use sha2::{Digest as _, Sha256};

use crate::key::KeyId;

/// Auth key id and message key.
const HEADER: usize = 24;
const FROM_CLIENT: usize = 0;
const FROM_SERVER: usize = 8;

/// Why a frame could not be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    /// Shorter than a header, or not a whole number of cipher blocks.
    #[error("the encrypted part is {0} bytes long")]
    Length(usize),
    /// The message key is not the hash of what was inside.
    #[error("the message key does not match the plaintext")]
    MessageKey,
}

/// The auth key id a frame is encrypted with, if it is long enough to carry one.
pub fn frame_key_id(frame: &[u8]) -> Option<KeyId> {
    frame.get(..8)?.try_into().ok()
}

/// Decrypts what a client sent. The answer is salt, session id, message and padding.
pub fn open(frame: &[u8], key: &[u8; 256]) -> Result<Vec<u8>, CryptoError> {
    let Some((head, sealed)) = frame.split_at_checked(HEADER) else {
        return Err(CryptoError::Length(frame.len()));
    };
    if sealed.is_empty() || !sealed.len().is_multiple_of(16) {
        return Err(CryptoError::Length(sealed.len()));
    }
    let mut message_key = [0; 16];
    message_key.copy_from_slice(&head[8..]);
    let (aes_key, iv) = cipher_parts(key, &message_key, FROM_CLIENT);
    let mut plain = sealed.to_vec();
    ige_decrypt(&mut plain, &aes_key, &iv);
    if message_key_of(key, &plain, FROM_CLIENT) != message_key {
        return Err(CryptoError::MessageKey);
    }
    Ok(plain)
}

/// Encrypts what the server sends: `plain` is salt, session id and message, padding is added here.
pub fn seal(mut plain: Vec<u8>, key: &[u8; 256], id: &KeyId) -> Vec<u8> {
    // At least 12 bytes of padding, and whole blocks.
    let padding = 16 + (16 - plain.len() % 16);
    let noise: [u8; 32] = rand::random();
    plain.extend_from_slice(&noise[..padding]);
    let message_key = message_key_of(key, &plain, FROM_SERVER);
    let (aes_key, iv) = cipher_parts(key, &message_key, FROM_SERVER);
    ige_encrypt(&mut plain, &aes_key, &iv);
    let mut frame = Vec::with_capacity(HEADER + plain.len());
    frame.extend_from_slice(id);
    frame.extend_from_slice(&message_key);
    frame.extend_from_slice(&plain);
    frame
}

fn message_key_of(key: &[u8; 256], plain: &[u8], x: usize) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(&key[88 + x..120 + x]);
    hasher.update(plain);
    let digest = hasher.finalize();
    let mut message_key = [0; 16];
    message_key.copy_from_slice(&digest[8..24]);
    message_key
}

fn cipher_parts(key: &[u8; 256], message_key: &[u8; 16], x: usize) -> ([u8; 32], [u8; 32]) {
    let a = sha256(&[message_key, &key[x..36 + x]]);
    let b = sha256(&[&key[40 + x..76 + x], message_key]);
    let mut aes_key = [0; 32];
    aes_key[..8].copy_from_slice(&a[..8]);
    aes_key[8..24].copy_from_slice(&b[8..24]);
    aes_key[24..].copy_from_slice(&a[24..]);
    let mut iv = [0; 32];
    iv[..8].copy_from_slice(&b[..8]);
    iv[8..24].copy_from_slice(&a[8..24]);
    iv[24..].copy_from_slice(&b[24..]);
    (aes_key, iv)
}

/// SHA-256 over several slices.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn load(bytes: &[u8]) -> u128 {
    let mut raw = [0; 16];
    raw.copy_from_slice(bytes);
    u128::from_ne_bytes(raw)
}

fn ige_encrypt(data: &mut [u8], key: &[u8; 32], iv: &[u8; 32]) {
    let cipher = Aes256::new(key.into());
    let (mut last_cipher, mut last_plain) = (load(&iv[..16]), load(&iv[16..]));
    for chunk in data.chunks_exact_mut(16) {
        let plain = load(chunk);
        let mut block: Block = (plain ^ last_cipher).to_ne_bytes().into();
        cipher.encrypt_block(&mut block);
        last_cipher = load(&block) ^ last_plain;
        last_plain = plain;
        chunk.copy_from_slice(&last_cipher.to_ne_bytes());
    }
}

fn ige_decrypt(data: &mut [u8], key: &[u8; 32], iv: &[u8; 32]) {
    let cipher = Aes256::new(key.into());
    let (mut last_cipher, mut last_plain) = (load(&iv[..16]), load(&iv[16..]));
    for chunk in data.chunks_exact_mut(16) {
        let sealed = load(chunk);
        let mut block: Block = (sealed ^ last_plain).to_ne_bytes().into();
        cipher.decrypt_block(&mut block);
        last_plain = load(&block) ^ last_cipher;
        last_cipher = sealed;
        chunk.copy_from_slice(&last_plain.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ige_goes_there_and_back() {
        let (key, iv) = ([7; 32], [9; 32]);
        let mut data: Vec<u8> = (0..64).collect();
        let before = data.clone();
        ige_encrypt(&mut data, &key, &iv);
        assert_ne!(data, before);
        ige_decrypt(&mut data, &key, &iv);
        assert_eq!(data, before);
    }

    #[test]
    fn a_changed_frame_is_refused() {
        let key = [3; 256];
        assert_eq!(open(&[0; 10], &key), Err(CryptoError::Length(10)));
        assert_eq!(open(&[0; 40], &key), Err(CryptoError::MessageKey));
    }
}
