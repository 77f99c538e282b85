//! Access and refresh tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 and nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hub_actors::{Clock, SessionId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// No token of the hub is longer, even with the longest e-mail address.
const MAX_LENGTH: usize = 4096;
/// Access tokens remembered as genuine, so that a busy client's is not checked again with each request.
const REMEMBERED: usize = 10_000;

/// What a token is for. One secret signs both kinds, so the kind is part of what is signed and always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// Opens the API and sockets, for minutes.
    Access,
    /// Is exchanged once for a new pair, for days.
    Refresh,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// The user's e-mail address at the time of issue.
    pub email: String,
    /// The session that it belongs to: one login and all pairs that were refreshed from it.
    pub sid: SessionId,
    /// The token's own id; of a refresh token, its row's.
    pub jti: Uuid,
    /// What it is for.
    #[serde(rename = "type")]
    pub token_type: TokenType,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
}

/// The claims as they are written: the user's id also under the two other names by which known clients look for it.
#[derive(Serialize)]
struct WrittenClaims<'a> {
    #[serde(flatten)]
    claims: &'a Claims,
    #[serde(rename = "userId")]
    user_id: UserId,
    #[serde(rename = "user_id")]
    user_id_snake: UserId,
}

/// A token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was one of ours, but its time is over.
    #[error("the token has expired")]
    Expired,
    /// Not ours, changed, of the other kind, or no token at all.
    #[error("the token is not valid")]
    Invalid,
}

/// A token could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token cannot be signed")]
pub struct SigningError;

/// The two tokens of one step of a session.
#[derive(Clone)]
pub struct TokenPair {
    /// For the `Authorization` header.
    pub access: String,
    /// For the next pair.
    pub refresh: String,
    /// The refresh token's `jti`.
    pub refresh_id: Uuid,
    /// When the refresh token ends.
    pub refresh_expires_at: OffsetDateTime,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenPair")
            .field("refresh_id", &self.refresh_id)
            .field("refresh_expires_at", &self.refresh_expires_at)
            .finish_non_exhaustive()
    }
}

/// Issues and checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    /// Found by a keyed hash, so the time of a look-up tells nothing of where two tokens differ.
    genuine: Arc<Cache<String, Claims>>,
    access_ttl: Duration,
    refresh_ttl: Duration,
    clock: Clock,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tokens(secret)")
    }
}

impl Tokens {
    /// Tokens signed with `secret`, living for the given times.
    pub fn new(secret: &SecretString, access_ttl: Duration, refresh_ttl: Duration, clock: Clock) -> Self {
        let bytes = secret.expose_secret().as_bytes();
        Self {
            signing: EncodingKey::from_secret(bytes),
            checking: DecodingKey::from_secret(bytes),
            genuine: Arc::new(Cache::new(REMEMBERED)),
            access_ttl,
            refresh_ttl,
            clock,
        }
    }

    /// A new pair for a session.
    ///
    /// # Errors
    /// When the signature cannot be made, which the algorithm does not do.
    pub fn issue(&self, user: UserId, email: &str, session: SessionId) -> Result<TokenPair, SigningError> {
        let now = self.clock.now();
        let claims = |token_type, ttl: Duration| Claims {
            sub: user,
            email: email.to_owned(),
            sid: session,
            // Random, not growing with time: two tokens of one moment are as different as any two.
            jti: Uuid::new_v4(),
            token_type,
            iat: now.unix_timestamp(),
            exp: now
                .unix_timestamp()
                .saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        };
        let refresh = claims(TokenType::Refresh, self.refresh_ttl);
        Ok(TokenPair {
            access: self.sign(&claims(TokenType::Access, self.access_ttl))?,
            refresh: self.sign(&refresh)?,
            refresh_id: refresh.jti,
            refresh_expires_at: OffsetDateTime::from_unix_timestamp(refresh.exp).map_err(|_| SigningError)?,
        })
    }

    /// Checks an access token.
    ///
    /// # Errors
    /// [`TokenError`] says whether it is merely too old.
    pub fn verify_access(&self, token: &str) -> Result<Claims, TokenError> {
        if let Some(claims) = self.genuine.get(token) {
            return self.in_time(claims, Duration::ZERO);
        }
        let claims = self.verify(token, TokenType::Access, Duration::ZERO)?;
        self.genuine.insert(token.to_owned(), claims.clone());
        Ok(claims)
    }

    /// Checks a refresh token's signature, kind and time. Whether it was used or revoked, only the store knows.
    ///
    /// # Errors
    /// [`TokenError`] says whether it is merely too old.
    pub fn verify_refresh(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify(token, TokenType::Refresh, Duration::ZERO)
    }

    /// What a refresh token of this hub says, also when its time is over. For ending its session only.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when it is not one of ours.
    pub fn read_refresh(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify(token, TokenType::Refresh, Duration::MAX)
    }

    /// Checks an access token at a socket's handshake: there one that has expired within the last `grace` is accepted too,
    /// because a browser that reconnects has no chance to refresh first. The caller must check that the session lives.
    ///
    /// # Errors
    /// [`TokenError`] says whether it is merely too old.
    pub fn verify_for_socket(&self, token: &str, grace: Duration) -> Result<Claims, TokenError> {
        self.verify(token, TokenType::Access, grace)
    }

    fn sign(&self, claims: &Claims) -> Result<String, SigningError> {
        let written = WrittenClaims {
            claims,
            user_id: claims.sub,
            user_id_snake: claims.sub,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &written, &self.signing).map_err(|_| SigningError)
    }

    fn verify(&self, token: &str, token_type: TokenType, grace: Duration) -> Result<Claims, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // Time is checked below, against the hub's own clock and without leeway.
        validation.validate_exp = false;
        validation.leeway = 0;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking, &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.token_type != token_type {
            return Err(TokenError::Invalid);
        }
        self.in_time(claims, grace)
    }

    fn in_time(&self, claims: Claims, grace: Duration) -> Result<Claims, TokenError> {
        let grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        if self.clock.now().unix_timestamp() >= claims.exp.saturating_add(grace) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// What the store keeps of a refresh token: its SHA-256. The token is random enough that a plain hash cannot be searched.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "a secret of the tests, thirty-two bytes or more";

    fn tokens(clock: &Clock) -> Tokens {
        let secret = SecretString::from(SECRET);
        Tokens::new(
            &secret,
            Duration::from_secs(900),
            Duration::from_secs(604_800),
            clock.clone(),
        )
    }

    fn ids() -> (UserId, SessionId) {
        (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)))
    }

    fn payload(token: &str) -> Value {
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_pair_is_accepted_each_for_its_own_use() {
        let tokens = tokens(&Clock::system());
        let (user, session) = ids();
        let pair = tokens.issue(user, "a@example.com", session).unwrap();
        let access = tokens.verify_access(&pair.access).unwrap();
        assert_eq!(
            (access.sub, access.sid, access.email.as_str()),
            (user, session, "a@example.com")
        );
        let refresh = tokens.verify_refresh(&pair.refresh).unwrap();
        assert_eq!(refresh.jti, pair.refresh_id);
        assert_eq!(tokens.verify_access(&pair.refresh), Err(TokenError::Invalid));
        assert_eq!(tokens.verify_refresh(&pair.access), Err(TokenError::Invalid));
        assert_eq!(
            tokens.verify_for_socket(&pair.refresh, Duration::MAX),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn the_user_is_named_as_every_known_client_looks_for_it() {
        let (user, session) = ids();
        let pair = tokens(&Clock::system()).issue(user, "a@example.com", session).unwrap();
        let payload = payload(&pair.access);
        for name in ["sub", "userId", "user_id"] {
            assert_eq!(payload[name], user.to_string(), "{name}");
        }
        assert_eq!(payload["type"], "access");
        assert_eq!(payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap(), 900);
    }

    #[test]
    fn two_pairs_of_one_moment_differ() {
        let tokens = tokens(&Clock::system());
        let (user, session) = ids();
        let first = tokens.issue(user, "a@example.com", session).unwrap();
        let second = tokens.issue(user, "a@example.com", session).unwrap();
        assert_ne!(first.refresh, second.refresh);
        assert_ne!(hash(&first.refresh), hash(&second.refresh));
    }

    #[test]
    fn time_ends_a_token_without_leeway() {
        let clock = Clock::system();
        let tokens = tokens(&clock);
        let (user, session) = ids();
        let pair = tokens.issue(user, "a@example.com", session).unwrap();
        clock.shift(Duration::from_secs(898), false);
        assert!(tokens.verify_access(&pair.access).is_ok());
        clock.shift(Duration::from_secs(2), false);
        assert_eq!(tokens.verify_access(&pair.access), Err(TokenError::Expired));
        assert!(tokens.verify_for_socket(&pair.access, Duration::from_secs(60)).is_ok());
        assert_eq!(
            tokens.verify_for_socket(&pair.access, Duration::ZERO),
            Err(TokenError::Expired)
        );
        clock.shift(Duration::from_secs(604_800), false);
        assert_eq!(tokens.verify_refresh(&pair.refresh), Err(TokenError::Expired));
    }

    #[test]
    fn forged_tokens_are_invalid() {
        let clock = Clock::system();
        let tokens = tokens(&clock);
        let (user, session) = ids();
        let pair = tokens.issue(user, "a@example.com", session).unwrap();
        let mut parts: Vec<&str> = pair.access.split('.').collect();

        let mut richer = payload(&pair.access);
        richer["sub"] = json!(Uuid::from_u128(9));
        let richer = URL_SAFE_NO_PAD.encode(richer.to_string());
        let genuine = std::mem::replace(&mut parts[1], &richer);
        assert_eq!(tokens.verify_access(&parts.join(".")), Err(TokenError::Invalid));
        parts[1] = genuine;

        for header in [
            json!({"alg": "none", "typ": "JWT"}),
            json!({"alg": "None"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({}),
        ] {
            let forged_header = URL_SAFE_NO_PAD.encode(header.to_string());
            for signature in ["", parts[2]] {
                let forged = [&forged_header, parts[1], signature].join(".");
                assert_eq!(tokens.verify_access(&forged), Err(TokenError::Invalid), "{header}");
            }
        }

        let other = Tokens::new(
            &SecretString::from("another secret, also long enough to be one"),
            Duration::from_secs(900),
            Duration::from_secs(900),
            clock,
        );
        let foreign = other.issue(user, "a@example.com", session).unwrap();
        assert_eq!(tokens.verify_access(&foreign.access), Err(TokenError::Invalid));
    }

    #[test]
    fn another_algorithm_with_the_right_secret_is_invalid() {
        let tokens = tokens(&Clock::system());
        let (user, session) = ids();
        let pair = tokens.issue(user, "a@example.com", session).unwrap();
        let claims: Value = payload(&pair.access);
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let hs512 = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
        assert_eq!(tokens.verify_access(&hs512), Err(TokenError::Invalid));
    }

    #[test]
    fn what_is_no_token_is_invalid() {
        let tokens = tokens(&Clock::system());
        let long = "a".repeat(MAX_LENGTH + 1);
        for text in ["", ".", "..", "a.b.c", "Bearer", "\u{1F600}", long.as_str()] {
            assert_eq!(tokens.verify_access(text), Err(TokenError::Invalid), "{text:.20}");
        }
    }

    #[test]
    fn tokens_of_the_former_system_are_invalid() {
        let tokens = tokens(&Clock::system());
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let claims =
            json!({"userId": Uuid::from_u128(1), "email": "a@example.com", "iat": 1, "exp": 4_000_000_000_i64});
        let former = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(tokens.verify_access(&former), Err(TokenError::Invalid));
    }

    #[test]
    fn secrets_are_never_printed() {
        let (user, session) = ids();
        let tokens = tokens(&Clock::system());
        let pair = tokens.issue(user, "a@example.com", session).unwrap();
        let printed = format!("{tokens:?} {pair:?}");
        assert!(
            !printed.contains(&pair.refresh) && !printed.contains(SECRET),
            "{printed}"
        );
    }
}
