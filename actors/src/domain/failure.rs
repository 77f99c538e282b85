//! Why a send did not work: one table of class, certainty and the sentence that the person reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether the platform may have taken the message all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It certainly was not sent.
    NotSent,
    /// The request went out and no answer came back.
    Unknown,
}

/// What to do about a failed send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Try again by itself, later and later.
    Transient,
    /// Try again, not before this long.
    RateLimited { after: Duration },
    /// The credentials are not accepted: the person has to link the account again.
    Authentication,
    /// Will never work.
    Permanent,
}

/// The kinds of failure a platform adapter can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// No connection could be made.
    Unreachable,
    /// The account's link is not open at the moment.
    NotConnected,
    /// The connection broke or timed out after the request was written.
    AnswerLost,
    /// The platform failed on its side (5xx).
    PlatformFailed,
    /// Too many requests.
    RateLimited { after: Duration },
    /// Credentials refused.
    Unauthorized,
    /// The platform refused this message.
    Refused,
    /// The platform cannot do this.
    Unsupported,
    /// The address that the person gave must not be called.
    ForbiddenAddress,
}

/// A failed send: its kind, and what the platform said, cut to a sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.failure.sentence(), self.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
pub struct SendError {
    pub failure: SendFailure,
    pub detail: Option<String>,
}

impl SendFailure {
    /// The table's row for this kind.
    pub fn row(self) -> (FailureClass, Certainty, &'static str) {
        match self {
            Self::Unreachable => (
                FailureClass::Transient,
                Certainty::NotSent,
                "The platform could not be reached",
            ),
            Self::NotConnected => (
                FailureClass::Transient,
                Certainty::NotSent,
                "The account is not connected at the moment",
            ),
            Self::AnswerLost => (
                FailureClass::Transient,
                Certainty::Unknown,
                "The platform did not answer, so it is not known whether the message was sent",
            ),
            Self::PlatformFailed => (
                FailureClass::Transient,
                Certainty::Unknown,
                "The platform had a problem of its own",
            ),
            Self::RateLimited { after } => (
                FailureClass::RateLimited { after },
                Certainty::NotSent,
                "The platform asks to wait before sending more",
            ),
            Self::Unauthorized => (
                FailureClass::Authentication,
                Certainty::NotSent,
                "The platform does not accept this account's credentials any more: link the account again",
            ),
            Self::Refused => (
                FailureClass::Permanent,
                Certainty::NotSent,
                "The platform refused the message",
            ),
            Self::Unsupported => (
                FailureClass::Permanent,
                Certainty::NotSent,
                "The platform cannot do this",
            ),
            Self::ForbiddenAddress => (
                FailureClass::Permanent,
                Certainty::NotSent,
                "The account's address points into a private network, which this hub does not call",
            ),
        }
    }

    /// What to do about it.
    pub fn class(self) -> FailureClass {
        self.row().0
    }

    /// Whether it may have been sent.
    pub fn certainty(self) -> Certainty {
        self.row().1
    }

    /// What the person reads.
    pub fn sentence(self) -> &'static str {
        self.row().2
    }
}

impl SendError {
    /// A failure about which the platform said nothing.
    pub fn new(failure: SendFailure) -> Self {
        Self { failure, detail: None }
    }

    /// A failure with the platform's own words, cut to 200 characters.
    pub fn with_detail(failure: SendFailure, detail: &str) -> Self {
        let detail: String = detail
            .chars()
            .filter(|character| !character.is_control())
            .take(200)
            .collect();
        Self {
            failure,
            detail: (!detail.is_empty()).then_some(detail),
        }
    }
}
