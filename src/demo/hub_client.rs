//! The hub's REST API, as far as the demo uses it: signing in, linking, reading conversations and events.

use std::sync::Mutex;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::keepsake::LinkedAccount;

/// A request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The hub could not be reached.
    #[error("{what}: the hub does not answer: {reason}")]
    Unreachable { what: String, reason: reqwest::Error },
    /// The hub said no.
    #[error("{what}: the hub answered {status}: {body}")]
    Refused { what: String, status: u16, body: String },
    /// The answer lacks what it should hold.
    #[error("{what}: the hub's answer lacks {field}")]
    Incomplete { what: String, field: &'static str },
}

/// A part of the user's stream.
pub(super) struct EventPage {
    pub(super) events: Vec<Value>,
    /// Where to go on.
    pub(super) next: String,
    pub(super) has_more: bool,
}

#[derive(Clone, Default)]
struct Tokens {
    access: String,
    refresh: String,
}

/// A signed-in user of the hub.
pub(super) struct HubClient {
    client: Client,
    url: String,
    tokens: Mutex<Tokens>,
}

impl HubClient {
    pub(super) fn new(client: Client, url: &str) -> Self {
        Self {
            client,
            url: url.to_owned(),
            tokens: Mutex::default(),
        }
    }

    /// Where the hub is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// False when the hub knows no such user with this password.
    pub(super) async fn sign_in(&self, email: &str, password: &str) -> Result<bool, RequestError> {
        self.enter(
            "/api/auth/login",
            json!({ "email": email, "password": password }),
            StatusCode::UNAUTHORIZED,
        )
        .await
    }

    /// False when the address is taken.
    pub(super) async fn register(&self, email: &str, password: &str) -> Result<bool, RequestError> {
        self.enter(
            "/api/auth/register",
            json!({ "email": email, "password": password }),
            StatusCode::CONFLICT,
        )
        .await
    }

    async fn enter(&self, path: &str, body: Value, refusal: StatusCode) -> Result<bool, RequestError> {
        match self.once(Method::POST, path, Some(&body)).await {
            Ok(answer) => self.keep_tokens(path, &answer).map(|()| true),
            Err(RequestError::Refused { status, .. }) if status == refusal.as_u16() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True when the account is there and not disconnected.
    pub(super) async fn has_account(&self, id: &str) -> Result<bool, RequestError> {
        let answer = self.request(Method::GET, "/api/oauth/accounts", None).await?;
        let accounts = answer["accounts"].as_array().cloned().unwrap_or_default();
        Ok(accounts
            .iter()
            .any(|account| account["id"] == id && account["isActive"] == true))
    }

    pub(super) async fn link(&self, name: &str, outbound_url: &str) -> Result<LinkedAccount, RequestError> {
        let path = "/api/accounts/custom";
        let body = json!({ "name": name, "outboundUrl": outbound_url });
        let answer = self.request(Method::POST, path, Some(&body)).await?;
        Ok(LinkedAccount {
            id: text(path, &answer["account"], "id")?,
            secret: text(path, &answer, "secret")?,
        })
    }

    /// Lets the account lead to another address.
    pub(super) async fn move_account(&self, id: &str, outbound_url: &str) -> Result<(), RequestError> {
        let body = json!({ "outboundUrl": outbound_url });
        self.request(Method::PATCH, &format!("/api/accounts/custom/{id}"), Some(&body))
            .await
            .map(drop)
    }

    /// The hub's id of the chat that the account's platform knows by this one, once there is one.
    pub(super) async fn conversation(&self, platform_id: &str) -> Result<Option<String>, RequestError> {
        let answer = self.request(Method::GET, "/api/conversations", None).await?;
        let conversations = answer["conversations"].as_array().cloned().unwrap_or_default();
        let found = conversations
            .iter()
            .find(|conversation| conversation["platformConversationId"] == platform_id);
        Ok(found
            .and_then(|conversation| conversation["id"].as_str())
            .map(str::to_owned))
    }

    /// The position behind the last event.
    pub(super) async fn stream_end(&self) -> Result<String, RequestError> {
        let path = "/api/events";
        let (answer, field) = match self.request(Method::GET, "/api/events?limit=1", None).await {
            Ok(answer) => (answer, "epoch"),
            // Retention has eaten the beginning of the stream: the answer says where it stands.
            Err(RequestError::Refused { status: 410, body, .. }) => {
                let answer: Value = serde_json::from_str(&body).unwrap_or_default();
                (answer["error"]["details"].clone(), "error.details.epoch")
            }
            Err(error) => return Err(error),
        };
        let (Some(epoch), Some(seq)) = (answer["epoch"].as_str(), answer["seq"].as_i64()) else {
            return Err(RequestError::Incomplete {
                what: path.to_owned(),
                field,
            });
        };
        Ok(format!("{epoch}:{seq}"))
    }

    pub(super) async fn events(&self, after: &str) -> Result<EventPage, RequestError> {
        let path = format!("/api/events?after={after}&limit=100");
        let answer = self.request(Method::GET, &path, None).await?;
        Ok(EventPage {
            next: text(&path, &answer, "next")?,
            has_more: answer["hasMore"] == true,
            events: answer["events"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// One request; when the access token has run out, it is refreshed and the request made again.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RequestError> {
        match self.once(method.clone(), path, body).await {
            Err(RequestError::Refused { status: 401 | 403, .. }) => {}
            answer => return answer,
        }
        let refresh = json!({ "refreshToken": self.tokens().refresh });
        let answer = self.once(Method::POST, "/api/auth/refresh", Some(&refresh)).await?;
        self.keep_tokens("/api/auth/refresh", &answer)?;
        self.once(method, path, body).await
    }

    async fn once(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RequestError> {
        let what = || format!("{method} {}", path.split('?').next().unwrap_or(path));
        let failed = |reason: reqwest::Error| RequestError::Unreachable {
            what: what(),
            reason: reason.without_url(),
        };
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        // Signing in and refreshing must work with an access token that has run out, so they go without one.
        if !path.starts_with("/api/auth/") {
            request = request.bearer_auth(self.tokens().access);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(failed);
        }
        let body = response.text().await.map_err(failed)?;
        Err(RequestError::Refused {
            what: what(),
            status: status.as_u16(),
            body,
        })
    }

    fn tokens(&self) -> Tokens {
        self.tokens
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn keep_tokens(&self, path: &str, answer: &Value) -> Result<(), RequestError> {
        let fresh = Tokens {
            access: text(path, &answer["tokens"], "accessToken")?,
            refresh: text(path, &answer["tokens"], "refreshToken")?,
        };
        *self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn text(path: &str, value: &Value, field: &'static str) -> Result<String, RequestError> {
    let found = value[field].as_str().map(str::to_owned);
    found.ok_or_else(|| RequestError::Incomplete {
        what: path.to_owned(),
        field,
    })
}
