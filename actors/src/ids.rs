//! Newtypes for every identifier, so that none can be passed in another's place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::{ContextV7, Timestamp, Uuid};

/// A UUID version 7 (RFC 9562, section 5.7): it grows with time, so rows written together lie together.
fn uuid_v7(now: OffsetDateTime) -> Uuid {
    // The context keeps identifiers of one process in the order in which they were made, also within a millisecond
    // and also when the clock steps back.
    static CONTEXT: Mutex<Option<ContextV7>> = Mutex::new(None);
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let mut guard = CONTEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let context = guard.get_or_insert_with(ContextV7::new);
    Uuid::new_v7(Timestamp::from_unix(&*context, seconds, now.nanosecond()))
}

macro_rules! uuid_newtype {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier that sorts after all made before it by this process.
            pub fn generate(now: OffsetDateTime) -> Self {
                Self(uuid_v7(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), formatter)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts only the lower-case hyphenated form, the one that the hub prints.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let uuid = Uuid::try_parse(text).map_err(|_| InvalidId)?;
                if uuid.as_hyphenated().to_string() == text { Ok(Self(uuid)) } else { Err(InvalidId) }
            }
        }
    )*};
}

uuid_newtype! {
    /// A person who uses the hub.
    UserId,
    /// A linked platform account of a user.
    AccountId,
    /// A conversation of an account.
    ConversationId,
    /// A message of a conversation.
    MessageId,
    /// An outbox entry; also the key that the platform may use to recognise a repeated send.
    OutboxId,
    /// A signed-in session: the family of refresh tokens that began with one login.
    SessionId,
    /// A try to link an account, under way.
    LoginId,
}

/// The text is not a lower-case hyphenated UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lower-case hyphenated UUID")]
pub struct InvalidId;

macro_rules! text_newtype {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )*};
}

text_newtype! {
    /// The name by which a platform knows one of its chats, messages or people; kept byte for byte.
    ExternalId,
    /// A platform's short name, as it stands in the database and in the API.
    PlatformId,
}

impl ExternalId {
    /// The id as a number, on platforms that count.
    pub fn number(&self) -> Option<i64> {
        self.as_str().parse().ok()
    }
}

/// The number of an event in a user's stream: 1, 2, 3 … without a gap, in commit order. 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_printed_form_is_an_id() {
        let id = UserId::generate(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(id.to_string().parse::<UserId>(), Ok(id));
        assert_eq!(
            id.to_string().to_uppercase().replace('0', "A").parse::<UserId>(),
            Err(InvalidId)
        );
        assert_eq!(id.0.as_simple().to_string().parse::<UserId>(), Err(InvalidId));
    }

    #[test]
    fn ids_grow_even_when_the_clock_steps_back() {
        let late = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let first = MessageId::generate(late);
        let second = MessageId::generate(late);
        assert!(first < second);
    }
}
