//! Who makes a request: the bearer token, the life of its session, and the administration token.

use std::future::Future;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use hub_actors::clock::instant;
use hub_actors::ports::StoreError;
use hub_actors::{SessionId, UserId};
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;

use super::AppState;
use super::error::ApiError;
use crate::vault::secrets_match;
use crate::vault::tokens::{Claims, TokenError, Tokens};

/// How long an answer about a session is believed: the longest time for which a revoked session's access token works on
/// another hub. On the hub that revoked it, it stops at once.
const SESSION_BELIEF: Duration = Duration::from_secs(10);
/// Sessions that are remembered; beyond it the least used are asked for again.
const SESSIONS: usize = 10_000;

/// The signed-in person of a request whose session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person.
    pub user_id: UserId,
    /// The session that the access token belongs to.
    pub session_id: SessionId,
    /// The e-mail address at the time of sign-in.
    pub email: String,
}

/// Proof that the request carries the administration token.
#[derive(Clone, Copy, Debug)]
pub struct AdminIdentity(());

/// The claims of a request's access token, checked once by the gate; see [`super::limits`].
#[derive(Clone, Debug)]
pub(super) struct CheckedClaims(pub Claims);

/// Reads and checks the access token; none when the request carries none.
///
/// # Errors
/// 401 when the header has another form, 403 when the token is too old or not valid.
pub fn access_claims(headers: &HeaderMap, tokens: &Tokens) -> Result<Option<Claims>, ApiError> {
    let Some(token) = bearer(headers)? else {
        return Ok(None);
    };
    tokens.verify_access(token).map(Some).map_err(|error| match error {
        TokenError::Expired => ApiError::new(StatusCode::FORBIDDEN, "TOKEN_EXPIRED", "Access token has expired"),
        TokenError::Invalid => ApiError::new(StatusCode::FORBIDDEN, "INVALID_TOKEN", "Invalid access token"),
    })
}

/// The token of `Authorization: Bearer <token>` (RFC 6750, section 2.1); the scheme's case does not matter.
///
/// # Errors
/// 401 when the header is there in another form, or more than once.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let malformed = || {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            "INVALID_TOKEN_FORMAT",
            "Authorization header must be in format: Bearer <token>",
        )
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| malformed())?;
    let (scheme, token) = text.trim_ascii().split_once([' ', '\t']).ok_or_else(malformed)?;
    let token = token.trim_ascii_start();
    if !scheme.eq_ignore_ascii_case("bearer") || token.contains([' ', '\t']) {
        return Err(malformed());
    }
    Ok(Some(token))
}

/// Whether the session of a token still lives, although its access token may still be young.
///
/// # Errors
/// When the database has to be asked and is away.
pub(crate) async fn session_is_live(state: &AppState, session: SessionId) -> Result<bool, StoreError> {
    let ask = || state.store.session_is_live(session);
    state.sessions.is_live(session, ask).await
}

/// Refuses who belongs to a session that has ended.
///
/// # Errors
/// 401 when it was revoked or is over.
pub(crate) async fn check_session(state: &AppState, session: SessionId) -> Result<(), ApiError> {
    if session_is_live(state, session).await? {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "SESSION_ENDED",
        "The session has ended. Please sign in again.",
    ))
}

impl Identity {
    /// The person of these claims.
    ///
    /// # Errors
    /// 401 when the session is over.
    pub(super) async fn of(state: &AppState, claims: Claims) -> Result<Self, ApiError> {
        check_session(state, claims.sid).await?;
        Ok(Self {
            user_id: claims.sub,
            session_id: claims.sid,
            email: claims.email,
        })
    }
}

impl FromRequest for Identity {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request
                .app_data::<web::Data<AppState>>()
                .ok_or_else(ApiError::internal)?;
            let checked = request.extensions().get::<CheckedClaims>().cloned();
            let claims = match checked {
                Some(CheckedClaims(claims)) => claims,
                None => access_claims(request.headers(), &state.tokens)?.ok_or_else(ApiError::unauthorized)?,
            };
            Self::of(state, claims).await
        })
    }
}

impl FromRequest for AdminIdentity {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        std::future::ready(admin(request))
    }
}

/// Whether a request carries the administration token.
///
/// # Errors
/// 401 when it carries none, 403 when the token is wrong or administration is off.
pub(super) fn admin(request: &HttpRequest) -> Result<AdminIdentity, ApiError> {
    let state = request
        .app_data::<web::Data<AppState>>()
        .ok_or_else(ApiError::internal)?;
    let given = bearer(request.headers())?.ok_or_else(ApiError::unauthorized)?;
    let Some(wanted) = &state.settings.admin.token else {
        return Err(ApiError::forbidden(
            "Administration is off: the setting admin.token is not set.",
        ));
    };
    if secrets_match(given.as_bytes(), wanted.expose_secret().as_bytes()) {
        Ok(AdminIdentity(()))
    } else {
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "INVALID_TOKEN",
            "Invalid administration token",
        ))
    }
}

/// Remembers for a moment which sessions live, so that not every request asks the database. Bounded.
pub struct SessionCache {
    known: Cache<SessionId, (bool, Instant)>,
}

impl Default for SessionCache {
    fn default() -> Self {
        Self {
            known: Cache::new(SESSIONS),
        }
    }
}

impl std::fmt::Debug for SessionCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SessionCache")
            .field("sessions", &self.known.len())
            .finish()
    }
}

impl SessionCache {
    /// Whether a session lives: as remembered, else as `ask` says.
    ///
    /// # Errors
    /// What `ask` fails with; nothing is remembered then.
    pub async fn is_live<Failure, Asked>(
        &self,
        session: SessionId,
        ask: impl FnOnce() -> Asked,
    ) -> Result<bool, Failure>
    where
        Asked: Future<Output = Result<bool, Failure>>,
    {
        if let Some((is_live, since)) = self.known.get(&session)
            && since.elapsed() < SESSION_BELIEF
        {
            return Ok(is_live);
        }
        // The moment before the question: an end that comes while the answer travels is not overwritten by it for longer
        // than the belief lasts.
        let since = instant();
        let is_live = ask().await?;
        let ended_meanwhile = self
            .known
            .get(&session)
            .is_some_and(|(is_live, ended)| !is_live && ended > since);
        if ended_meanwhile {
            return Ok(false);
        }
        self.known.insert(session, (is_live, since));
        Ok(is_live)
    }

    /// This hub ended the session: its access tokens stop at once.
    pub fn ended(&self, session: SessionId) {
        self.known.insert(session, (false, instant()));
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use hub_actors::Clock;
    use secrecy::SecretString;
    use uuid::Uuid;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_header_has_exactly_one_form() {
        assert_eq!(bearer(&headers(&[])).unwrap(), None);
        assert_eq!(bearer(&headers(&["Bearer abc"])).unwrap(), Some("abc"));
        assert_eq!(bearer(&headers(&["bEARER   abc "])).unwrap(), Some("abc"));
        for wrong in [
            ["Bearer"].as_slice(),
            &["Bearer "],
            &[""],
            &["abc"],
            &["Token abc"],
            &["Bearer abc def"],
            &["Bearer abc", "Bearer abc"],
        ] {
            let error = bearer(&headers(wrong)).unwrap_err();
            assert_eq!(
                (error.status, error.code),
                (StatusCode::UNAUTHORIZED, "INVALID_TOKEN_FORMAT"),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn old_and_forged_tokens_are_told_apart() {
        let clock = Clock::system();
        let secret = SecretString::from("a secret of the tests, thirty-two bytes or more");
        let tokens = Tokens::new(&secret, Duration::from_secs(60), Duration::from_secs(60), clock.clone());
        let pair = tokens
            .issue(
                UserId(Uuid::from_u128(1)),
                "a@example.com",
                SessionId(Uuid::from_u128(2)),
            )
            .unwrap();
        let header = headers(&[&format!("Bearer {}", pair.access)]);
        assert!(access_claims(&header, &tokens).unwrap().is_some());
        let refresh = headers(&[&format!("Bearer {}", pair.refresh)]);
        assert_eq!(access_claims(&refresh, &tokens).unwrap_err().code, "INVALID_TOKEN");
        clock.shift(Duration::from_secs(61), false);
        let error = access_claims(&header, &tokens).unwrap_err();
        assert_eq!((error.status, error.code), (StatusCode::FORBIDDEN, "TOKEN_EXPIRED"));
    }

    #[tokio::test]
    async fn a_session_is_asked_for_once_and_ends_at_once() {
        let cache = SessionCache::default();
        let session = SessionId(Uuid::from_u128(1));
        let ask = |answer: bool| async move { Ok::<_, ()>(answer) };
        assert_eq!(cache.is_live(session, || ask(true)).await, Ok(true));
        assert_eq!(cache.is_live(session, || ask(false)).await, Ok(true));
        cache.ended(session);
        assert_eq!(cache.is_live(session, || ask(true)).await, Ok(false));
    }

    #[tokio::test]
    async fn a_session_that_ends_while_it_is_asked_for_is_over() {
        let cache = SessionCache::default();
        let session = SessionId(Uuid::from_u128(1));
        let answer = cache
            .is_live(session, || async {
                cache.ended(session);
                Ok::<_, ()>(true)
            })
            .await;
        assert_eq!(answer, Ok(false));
        assert_eq!(cache.is_live(session, || async { Err(()) }).await, Ok(false));
    }
}
