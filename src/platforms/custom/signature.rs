//! Signatures of webhooks, as the Standard Webhooks specification 1.0.0 lays them down
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>, "Signature scheme"):
//! HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{raw body}`, written `v1,` and base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hub_actors::ports::{Delivery, ReceiveError};
use sha2::Sha256;
use time::OffsetDateTime;

/// The header with the delivery's id, the same for every try.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the try, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with one or more signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far the sender's clock may be off, in seconds, either way.
pub const TOLERANCE_SECONDS: i64 = 5 * 60;

const SECRET_PREFIX: &str = "whsec_";
/// The specification asks for 24 to 64 bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const MAX_ID_BYTES: usize = 255;
/// Signatures looked at in one header: enough for a rotation, too few to make the hub compute for a stranger.
const MAX_SIGNATURES: usize = 16;

/// A signing secret. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// The text is not a signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

impl Secret {
    /// A new random secret of 32 bytes.
    pub fn generate() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(bytes.to_vec())
    }

    /// Reads `whsec_…`.
    ///
    /// # Errors
    /// [`InvalidSecret`] when the prefix, the base64 or the length is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if SECRET_BYTES.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSecret)
        }
    }

    /// The secret written out, to be shown to its owner or stored sealed.
    pub fn reveal(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The value of the signature header.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let code = self.code(id, &timestamp.to_string(), body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(code))
    }

    fn code(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        // A key shorter than the hash's block is filled up with zeros (RFC 2104, section 2), and no secret is longer.
        let mut block = [0_u8; 64];
        for (slot, byte) in block.iter_mut().zip(&self.0) {
            *slot = *byte;
        }
        let mut code = Hmac::<Sha256>::new(&block.into());
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            code.update(part);
        }
        code
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

/// Checks the three headers of a delivery over its raw bytes and returns the time that the sender signed.
///
/// # Errors
/// [`ReceiveError::Unsigned`] when a header is missing or malformed or no signature fits any secret;
/// [`ReceiveError::Stale`] when the signature is right but more than [`TOLERANCE_SECONDS`] away from `received_at`.
pub fn verify(delivery: &Delivery, secrets: &[Secret]) -> Result<OffsetDateTime, ReceiveError> {
    let header = |name, missing| delivery.header(name).ok_or(ReceiveError::Unsigned(missing));
    let id = header(ID_HEADER, "the header webhook-id is missing or repeated")?;
    let timestamp = header(TIMESTAMP_HEADER, "the header webhook-timestamp is missing or repeated")?;
    let signatures = header(SIGNATURE_HEADER, "the header webhook-signature is missing or repeated")?;
    // The specification: the id must not contain a full stop, because it delimits what is signed.
    let id_is_plain = id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.');
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id_is_plain {
        return Err(ReceiveError::Unsigned(
            "the header webhook-id must be 1 to 255 visible ASCII characters without a full stop",
        ));
    }
    let seconds = parse_seconds(timestamp).ok_or(ReceiveError::Unsigned(
        "the header webhook-timestamp must be the time in whole seconds since 1970",
    ))?;
    if !signature_fits(secrets, id, timestamp, &delivery.body, signatures) {
        return Err(ReceiveError::Unsigned(
            "no signature in the header webhook-signature fits the body and the account's secret",
        ));
    }
    let age = delivery.received_at.unix_timestamp() - seconds.unix_timestamp();
    if age > TOLERANCE_SECONDS {
        return Err(ReceiveError::Stale(
            "the webhook-timestamp is more than 5 minutes old: sign every try anew",
        ));
    }
    if age < -TOLERANCE_SECONDS {
        return Err(ReceiveError::Stale(
            "the webhook-timestamp is more than 5 minutes ahead: the sender's clock is wrong",
        ));
    }
    Ok(seconds)
}

/// Only digits: `+5`, ` 5` and `05` would be other bytes under the signature than the number they stand for.
fn parse_seconds(text: &str) -> Option<OffsetDateTime> {
    let is_plain = text.len() <= 12 && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_plain.then(|| text.parse().ok()).flatten()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

fn signature_fits(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
    let given: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .take(MAX_SIGNATURES)
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .collect();
    if given.is_empty() {
        return false;
    }
    secrets.iter().any(|secret| {
        let code = secret.code(id, timestamp, body);
        // `verify_slice` compares in constant time.
        given
            .iter()
            .any(|signature| code.clone().verify_slice(signature).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The key is the base64 of the bytes 0x00..=0x1f. The expected values were computed apart from this code:
    // printf '%s' 'ID.SECONDS.BODY' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | base64
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "whsec_//////////////////////////////////////////8=";
    const ID: &str = "msg_2Ka";
    const SECONDS: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"type":"typing","text":"h\u00e9llo"}"#;
    const SIGNATURE: &str = "v1,rMryKf1kJnYpGm8lPZAJ4D2OHzylK4vGsa/nB2lCVdw=";
    const EMPTY_SIGNATURE: &str = "v1,QTSmyCkF+lowZQBA1r3Fpr7Lp1oIoRepEowRjW4LqXM=";
    const BINARY_SIGNATURE: &str = "v1,masfBTYH8G5Oo9bO8WOYYCQmEZAUUVZdfEwI4BqLFsg=";

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a valid secret")
    }

    fn delivery(id: &str, timestamp: &str, signature: &str, body: &[u8], age: i64) -> Delivery {
        let headers = [
            (ID_HEADER, id),
            (TIMESTAMP_HEADER, timestamp),
            (SIGNATURE_HEADER, signature),
        ];
        Delivery {
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            body: body.to_vec().into(),
            received_at: OffsetDateTime::from_unix_timestamp(SECONDS + age).expect("a time"),
        }
    }

    fn good() -> Delivery {
        delivery(ID, "1700000000", SIGNATURE, BODY, 0)
    }

    #[test]
    fn signatures_match_those_computed_by_openssl() {
        assert_eq!(secret(SECRET).sign(ID, SECONDS, BODY), SIGNATURE);
        assert_eq!(secret(SECRET).sign(ID, SECONDS, b""), EMPTY_SIGNATURE);
        assert_eq!(secret(SECRET).sign(ID, SECONDS, &[0xff, 0x00, 0xfe]), BINARY_SIGNATURE);
    }

    #[test]
    fn a_good_delivery_tells_when_it_was_signed() {
        let signed_at = verify(&good(), &[secret(SECRET)]).expect("a good signature");
        assert_eq!(signed_at.unix_timestamp(), SECONDS);
        let binary = delivery(ID, "1700000000", BINARY_SIGNATURE, &[0xff, 0x00, 0xfe], 0);
        assert!(
            verify(&binary, &[secret(SECRET)]).is_ok(),
            "raw bytes, not text, are signed"
        );
    }

    #[test]
    fn any_secret_and_any_signature_may_fit() {
        let both = [secret(OTHER), secret(SECRET)];
        assert!(verify(&good(), &both).is_ok());
        let foreign = secret(OTHER).sign(ID, SECONDS, BODY);
        for list in [
            format!("{foreign} {SIGNATURE}"),
            format!("v1a,AAAA {SIGNATURE}"),
            format!("v1,notbase64! {SIGNATURE} v2,xyz"),
        ] {
            let delivery = delivery(ID, "1700000000", &list, BODY, 0);
            assert!(verify(&delivery, &[secret(SECRET)]).is_ok(), "{list}");
        }
        let flood = format!("{}{SIGNATURE}", format!("{foreign} ").repeat(MAX_SIGNATURES));
        let delivery = delivery(ID, "1700000000", &flood, BODY, 0);
        assert!(
            verify(&delivery, &[secret(SECRET)]).is_err(),
            "the number looked at is bounded"
        );
    }

    #[test]
    fn whatever_is_tampered_with_is_refused() {
        let mut tampered = vec![
            delivery("msg_2Kb", "1700000000", SIGNATURE, BODY, 0),
            delivery(ID, "1700000001", SIGNATURE, BODY, 0),
            delivery(ID, "1700000000", SIGNATURE, &BODY[1..], 0),
            // The same JSON in other bytes.
            delivery(
                ID,
                "1700000000",
                SIGNATURE,
                "{\"type\":\"typing\",\"text\":\"héllo\"}".as_bytes(),
                0,
            ),
            delivery(ID, "1700000000", SIGNATURE.trim_start_matches("v1,"), BODY, 0),
            delivery(ID, "1700000000", &SIGNATURE.replace("v1,", "v1a,"), BODY, 0),
            delivery(ID, "1700000000", SIGNATURE.trim_end_matches('='), BODY, 0),
            delivery(ID, "1700000000", "v1,", BODY, 0),
            delivery(ID, "1700000000", "", BODY, 0),
            delivery("", "1700000000", SIGNATURE, BODY, 0),
            delivery("a.b", "1700000000", SIGNATURE, BODY, 0),
            delivery(ID, "", SIGNATURE, BODY, 0),
            delivery(ID, "+1700000000", SIGNATURE, BODY, 0),
            delivery(ID, "01700000000", SIGNATURE, BODY, 0),
            delivery(ID, "1700000000.5", SIGNATURE, BODY, 0),
            delivery(ID, "-1700000000", SIGNATURE, BODY, 0),
            delivery(ID, "99999999999999999999", SIGNATURE, BODY, 0),
        ];
        for name in [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER] {
            let mut without = good();
            without.headers.retain(|(header, _)| header != name);
            tampered.push(without);
            let mut twice = good();
            let repeated = twice.headers.iter().find(|(header, _)| header == name).cloned();
            twice.headers.extend(repeated);
            tampered.push(twice);
        }
        for delivery in tampered {
            let answer = verify(&delivery, &[secret(SECRET)]);
            assert!(
                matches!(answer, Err(ReceiveError::Unsigned(_))),
                "{:?}",
                delivery.headers
            );
        }
        assert!(matches!(
            verify(&good(), &[secret(OTHER)]),
            Err(ReceiveError::Unsigned(_))
        ));
        assert!(matches!(verify(&good(), &[]), Err(ReceiveError::Unsigned(_))));
    }

    #[test]
    fn five_minutes_either_way_are_tolerated() {
        for (age, is_fresh) in [
            (0, true),
            (300, true),
            (-300, true),
            (301, false),
            (-301, false),
            (86_400, false),
        ] {
            let answer = verify(&delivery(ID, "1700000000", SIGNATURE, BODY, age), &[secret(SECRET)]);
            match answer {
                Ok(_) => assert!(is_fresh, "{age}"),
                Err(error) => assert!(!is_fresh && matches!(error, ReceiveError::Stale(_)), "{age}: {error}"),
            }
        }
        // A stranger learns nothing about clocks: the signature is judged first.
        let forged = delivery(ID, "1700000000", "v1,AAAA", BODY, 86_400);
        assert!(matches!(
            verify(&forged, &[secret(SECRET)]),
            Err(ReceiveError::Unsigned(_))
        ));
    }

    #[test]
    fn secrets_are_read_strictly_and_never_printed() {
        let fresh = Secret::generate();
        assert_eq!(Secret::parse(&fresh.reveal()), Ok(fresh.clone()));
        assert_ne!(fresh, Secret::generate());
        assert_eq!(format!("{fresh:?}"), "Secret(hidden)");
        for text in [
            "",
            "whsec_",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= ",
            "whsec_c2hvcnQ=",
            "WHSEC_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ] {
            assert_eq!(Secret::parse(text), Err(InvalidSecret), "{text}");
        }
    }
}
