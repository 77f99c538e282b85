//! What an account of the custom channel keeps as its credentials: the signing secrets and the address to call.
//!
//! The JSON is `{"secrets":[{"secret":"whsec_…","expiresAt":null}],"outboundUrl":"https://…"}`. Every
//! secret that has not expired signs and verifies, so that one can be exchanged without losing a message.

use std::time::Duration;

use hub_actors::domain::Credentials;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::signature::Secret;

/// How long the old secret is still good after a rotation, unless the person wants it to end at once.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Secrets kept at most: a person who rotates without end must not make each delivery dearer.
const MAX_SECRETS: usize = 4;

/// Why nothing can be sent through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Only messages from outside were wanted.
    #[error("the account has no outbound address")]
    NoAddress,
    /// All have expired, or none can be read.
    #[error("the account has no valid signing secret")]
    NoSecret,
}

/// A linked account's credentials, ready to sign with.
#[derive(Clone, Debug)]
pub struct Link {
    /// All of them sign what goes out, the newest first: the receiver may not have learned the newest yet.
    pub secrets: Vec<Secret>,
    /// Where it goes to.
    pub outbound_url: String,
}

impl Link {
    /// The credentials of a new account, with the secret to be shown once.
    pub fn create(outbound_url: &str) -> (Credentials, Secret) {
        let secret = Secret::generate();
        let mut fields = Map::new();
        fields.insert("secrets".to_owned(), json!([entry(&secret, None)]));
        fields.insert("outboundUrl".to_owned(), json!(outbound_url));
        (Credentials(fields), secret)
    }

    /// The same credentials with a new first secret, to be shown once. What was valid before stays valid for
    /// `overlap`, usually [`ROTATION_OVERLAP`], or less where it ends sooner. Zero ends it at once, after a leak.
    pub fn rotate(credentials: &Credentials, now: OffsetDateTime, overlap: Duration) -> (Credentials, Secret) {
        let fresh = Secret::generate();
        let end = now + overlap;
        let mut entries = vec![entry(&fresh, None)];
        let old = valid(credentials, now).map(|(secret, expires_at)| {
            let expires_at = expires_at.map_or(end, |sooner| sooner.min(end));
            entry(&secret, Some(expires_at))
        });
        entries.extend(old.take(MAX_SECRETS - 1));
        let mut rotated = credentials.clone();
        rotated.0.insert("secrets".to_owned(), Value::Array(entries));
        (rotated, fresh)
    }

    /// What is needed to send.
    ///
    /// # Errors
    /// [`LinkError`] when the credentials lack it.
    pub fn open(credentials: &Credentials, now: OffsetDateTime) -> Result<Self, LinkError> {
        let outbound_url = credentials.text("outboundUrl").filter(|url| !url.is_empty());
        let outbound_url = outbound_url.ok_or(LinkError::NoAddress)?.to_owned();
        let secrets = Self::secrets(credentials, now);
        if secrets.is_empty() {
            return Err(LinkError::NoSecret);
        }
        Ok(Self { secrets, outbound_url })
    }

    /// Every secret that has not expired.
    pub fn secrets(credentials: &Credentials, now: OffsetDateTime) -> Vec<Secret> {
        valid(credentials, now).map(|(secret, _)| secret).collect()
    }
}

fn entry(secret: &Secret, expires_at: Option<OffsetDateTime>) -> Value {
    let expires_at = expires_at.and_then(|time| time.format(&Rfc3339).ok());
    json!({ "secret": secret.reveal(), "expiresAt": expires_at })
}

/// The secrets that can be read and have not expired, the newest first. An expiry that cannot be read has passed.
fn valid(credentials: &Credentials, now: OffsetDateTime) -> impl Iterator<Item = (Secret, Option<OffsetDateTime>)> {
    let entries = credentials
        .0
        .get("secrets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    entries.take(MAX_SECRETS).filter_map(move |entry| {
        let secret = Secret::parse(entry.get("secret")?.as_str()?).ok()?;
        let expires_at = match entry.get("expiresAt") {
            None | Some(Value::Null) => None,
            Some(text) => Some(OffsetDateTime::parse(text.as_str()?, &Rfc3339).ok()?),
        };
        expires_at.is_none_or(|end| end > now).then_some((secret, expires_at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time")
    }

    #[test]
    fn a_new_link_signs_with_its_only_secret() {
        let (credentials, secret) = Link::create("https://example.com/hook");
        let link = Link::open(&credentials, now()).expect("a link");
        assert_eq!(
            (link.secrets, link.outbound_url.as_str()),
            (vec![secret], "https://example.com/hook")
        );
    }

    #[test]
    fn after_a_rotation_the_old_secret_is_good_for_another_day() {
        let (credentials, old) = Link::create("https://example.com/hook");
        let (rotated, new) = Link::rotate(&credentials, now(), ROTATION_OVERLAP);
        assert_eq!(
            Link::open(&rotated, now()).expect("a link").secrets,
            [new.clone(), old.clone()]
        );
        assert_eq!(Link::secrets(&rotated, now()), [new.clone(), old.clone()]);
        assert_eq!(
            Link::secrets(&rotated, now() + ROTATION_OVERLAP),
            std::slice::from_ref(&new)
        );
        // A second rotation does not give the oldest secret another day.
        let later = now() + Duration::from_secs(3600);
        let (again, newest) = Link::rotate(&rotated, later, ROTATION_OVERLAP);
        assert_eq!(Link::secrets(&again, later), [newest.clone(), new.clone(), old]);
        assert_eq!(Link::secrets(&again, now() + ROTATION_OVERLAP), [newest, new]);
    }

    #[test]
    fn after_a_leak_the_old_secret_ends_at_once() {
        let (credentials, _) = Link::create("https://example.com/hook");
        let (rotated, new) = Link::rotate(&credentials, now(), Duration::ZERO);
        assert_eq!(Link::secrets(&rotated, now()), [new]);
    }

    #[test]
    fn many_rotations_keep_few_secrets() {
        let (mut credentials, _) = Link::create("https://example.com/hook");
        for _ in 0..10 {
            credentials = Link::rotate(&credentials, now(), ROTATION_OVERLAP).0;
        }
        assert_eq!(Link::secrets(&credentials, now()).len(), MAX_SECRETS);
    }

    #[test]
    fn what_cannot_be_read_is_no_secret() {
        let credentials = |value: Value| Credentials(value.as_object().cloned().unwrap_or_default());
        let good = Secret::generate().reveal();
        for secrets in [
            json!(null),
            json!("whsec_"),
            json!([]),
            json!([{ "secret": 5 }]),
            json!([{ "secret": "whsec_short" }]),
            json!([{ "secret": good, "expiresAt": "soon" }]),
            json!([{ "secret": good, "expiresAt": 5 }]),
            json!([{ "secret": good, "expiresAt": "2023-11-14T22:13:20Z" }]),
        ] {
            let fields = credentials(json!({ "secrets": secrets, "outboundUrl": "https://example.com" }));
            assert_eq!(Link::secrets(&fields, now()), [], "{secrets}");
            assert_eq!(Link::open(&fields, now()).err(), Some(LinkError::NoSecret));
        }
        assert_eq!(
            Link::open(&credentials(json!({})), now()).err(),
            Some(LinkError::NoAddress)
        );
    }
}
