//! A linked platform account.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{AccountId, ExternalId, PlatformId, UserId};

/// How the live link of an account is doing, as the person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// The link is being made.
    Connecting,
    /// Messages can arrive and leave.
    Live,
    /// Messages from before the link was made are being fetched.
    CatchingUp,
    /// The link broke and is tried again by itself.
    Backoff,
    /// The platform asked the account to wait.
    FloodWait,
    /// The platform does not accept the credentials any more: the person has to link again.
    NeedsLogin,
    /// The person ended the session on the platform's own device list: as `NeedsLogin`.
    Revoked,
    /// An actor of the account crashed too often and is stopped: for five minutes, or until the person tries again.
    Failed,
    /// The person disconnected the account.
    Disabled,
}

impl AccountState {
    const ALL: [Self; 9] = [
        Self::Connecting,
        Self::Live,
        Self::CatchingUp,
        Self::Backoff,
        Self::FloodWait,
        Self::NeedsLogin,
        Self::Revoked,
        Self::Failed,
        Self::Disabled,
    ];

    /// The name used in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::CatchingUp => "catching_up",
            Self::Backoff => "backoff",
            Self::FloodWait => "flood_wait",
            Self::NeedsLogin => "needs_login",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }

    /// True when only the person can make the link work again.
    pub fn waits_for_person(self) -> bool {
        matches!(self, Self::NeedsLogin | Self::Revoked | Self::Disabled)
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// An account's opened credentials: a JSON object whose fields only its platform understands. Never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credentials(pub serde_json::Map<String, serde_json::Value>);

impl Credentials {
    /// The text of one field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).and_then(serde_json::Value::as_str)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(sealed)")
    }
}

/// A linked platform account of a user, with its credentials opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub user_id: UserId,
    pub platform: PlatformId,
    /// The account's id on the platform.
    pub external_id: ExternalId,
    /// The name that the person knows it by.
    pub name: Option<String>,
    /// False once the person has disconnected it; its conversations stay.
    pub is_active: bool,
    pub state: AccountState,
    /// Why it is in that state, in words for the person.
    pub state_reason: Option<String>,
    /// Until when it lasts, where that is known.
    #[serde(default)]
    pub state_until: Option<OffsetDateTime>,
    /// Left out of events and of every answer.
    #[serde(skip)]
    pub credentials: Credentials,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}
