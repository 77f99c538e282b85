//! What Telegram's errors mean to a link, to a send and to a login.

use std::time::Duration;

use grammers_mtsender::{InvocationError, RpcError};
use hub_actors::domain::{SendError, SendFailure};
use hub_actors::ports::LinkEnd;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("Telegram did not answer in time")]
    NoAnswer,
    #[error(transparent)]
    Failed(#[from] InvocationError),
}

impl CallError {
    /// What Telegram answered, where it did.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Failed(InvocationError::Rpc(error)) => Some(error),
            _ => None,
        }
    }

    /// True when Telegram answered with this name; a star at its end stands for any end.
    pub fn is(&self, name: &str) -> bool {
        self.rpc().is_some_and(|error| error.is(name))
    }

    /// How long the whole account has to wait. See <https://core.telegram.org/api/errors#420-flood>.
    pub fn flood_wait(&self) -> Option<Duration> {
        let error = self.rpc()?;
        let is_flood = error.code == 420 && error.name != "SLOWMODE_WAIT";
        is_flood.then(|| wait(error))
    }

    /// The end of the link, where the session is worth nothing any more: no further try may be made with it.
    pub fn terminal(&self) -> Option<LinkEnd> {
        let error = self.rpc()?;
        let needs_login = |reason: &str| {
            Some(LinkEnd::NeedsLogin {
                reason: reason.to_owned(),
            })
        };
        match (error.code, error.name.as_str()) {
            (401, "SESSION_REVOKED") => Some(LinkEnd::Revoked {
                reason: "This session was ended in Telegram's list of devices: link the account again.".to_owned(),
            }),
            (401, "SESSION_EXPIRED") => needs_login("Telegram has ended this session: link the account again."),
            (401, "USER_DEACTIVATED" | "USER_DEACTIVATED_BAN") => {
                needs_login("Telegram has deactivated this account: ask Telegram's support.")
            }
            // A second step is missing: nobody ever finished this login.
            (401, "AUTH_KEY_UNREGISTERED" | "AUTH_KEY_INVALID" | "AUTH_KEY_PERM_EMPTY" | "SESSION_PASSWORD_NEEDED") => {
                needs_login("Telegram does not know this session any more: link the account again.")
            }
            (406, "AUTH_KEY_DUPLICATED") => needs_login(
                "Telegram has ended this session because it was used from two places at once: link the account again.",
            ),
            _ => None,
        }
    }

    /// What is known of a message's fate.
    pub fn send_error(&self) -> SendError {
        let Some(error) = self.rpc() else {
            return match self {
                Self::Failed(InvocationError::Dropped(_) | InvocationError::Session(_)) => {
                    SendError::new(SendFailure::NotConnected)
                }
                _ => SendError::new(SendFailure::AnswerLost),
            };
        };
        let failure = match error.code {
            420 => SendFailure::RateLimited { after: wait(error) },
            401 | 406 if self.terminal().is_some() => SendFailure::Unauthorized,
            code if !(0..500).contains(&code) => SendFailure::PlatformFailed,
            _ => SendFailure::Refused,
        };
        SendError::with_detail(failure, &words(error))
    }

    /// The end of a link that broke on this.
    pub fn link_end(&self) -> LinkEnd {
        self.terminal().unwrap_or_else(|| LinkEnd::Lost {
            reason: self.reason(),
            not_before: self.flood_wait(),
        })
    }

    /// Words for the person.
    pub fn reason(&self) -> String {
        match self {
            Self::NoAnswer => "Telegram does not answer.".to_owned(),
            Self::Failed(InvocationError::Rpc(error)) if error.code == 420 => {
                format!("Telegram asks to wait {} seconds.", wait(error).as_secs())
            }
            Self::Failed(InvocationError::Rpc(error)) => format!("Telegram answered {}.", words(error)),
            Self::Failed(InvocationError::Session(error)) => error.to_string(),
            Self::Failed(InvocationError::Transport(_)) => "Telegram refused the connection.".to_owned(),
            Self::Failed(_) => "The connection to Telegram broke.".to_owned(),
        }
    }
}

/// The wait that an error asks for; a second when it does not say.
fn wait(error: &RpcError) -> Duration {
    Duration::from_secs(u64::from(error.value.unwrap_or(1).max(1)))
}

/// The name of an error, and a sentence where people meet it often. See <https://core.telegram.org/api/errors>.
fn words(error: &RpcError) -> String {
    let sentence = match error.name.as_str() {
        "PEER_ID_INVALID" | "CHANNEL_INVALID" | "CHAT_ID_INVALID" | "USER_ID_INVALID" => {
            "Telegram does not know this chat"
        }
        "CHANNEL_PRIVATE" => "this channel is private, or the account is not in it any more",
        "CHAT_WRITE_FORBIDDEN" | "CHAT_ADMIN_REQUIRED" | "CHAT_SEND_PLAIN_FORBIDDEN" => {
            "the account may not write in this chat"
        }
        "USER_BANNED_IN_CHANNEL" => "the account is banned from writing in groups",
        "USER_IS_BLOCKED" => "this person has blocked the account",
        "YOU_BLOCKED_USER" => "the account has blocked this person",
        "INPUT_USER_DEACTIVATED" => "this person's account is deleted",
        "PEER_FLOOD" => "Telegram limits this account because of spam reports",
        "MESSAGE_TOO_LONG" | "MEDIA_CAPTION_TOO_LONG" => "the text is too long",
        "MESSAGE_EMPTY" => "the message is empty",
        "MESSAGE_ID_INVALID" | "MSG_ID_INVALID" => "the message is not there any more",
        "MESSAGE_EDIT_TIME_EXPIRED" => "the message is too old to be edited",
        "MESSAGE_AUTHOR_REQUIRED" => "only its author can edit a message",
        "MESSAGE_DELETE_FORBIDDEN" => "this message may not be deleted",
        "REACTION_INVALID" => "this reaction is not allowed here",
        "SLOWMODE_WAIT" => "slow mode",
        _ => return error.name.clone(),
    };
    format!("{}: {sentence}", error.name)
}
