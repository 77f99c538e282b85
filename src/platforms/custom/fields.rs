//! Reads the fields of an event strictly, and says which field is wrong and why, without repeating its content.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::address;

/// Longest id of a chat, a message or a person, in bytes.
const MAX_ID_BYTES: usize = 255;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// 2000-01-01T00:00:00Z. Earlier times are seconds that were meant to be milliseconds, or a clock that was never set.
const EARLIEST_SECONDS: i64 = 946_684_800;
/// How far ahead of the hub a time may be: one far in the future would stay on top of the inbox for ever.
const MAX_AHEAD: time::Duration = time::Duration::DAY;

/// One field is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub(super) struct FieldError {
    /// The path inside the event, such as `message.sender.id`.
    pub(super) field: &'static str,
    pub(super) problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("is missing")]
    Missing,
    #[error("must be an object")]
    NotObject,
    #[error("must be a string")]
    NotString,
    #[error("must be true or false")]
    NotBoolean,
    #[error("must not be empty")]
    Empty,
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    #[error("must not contain a NUL character")]
    Nul,
    #[error("must be a complete http or https address")]
    NotAddress,
    #[error("must be a time: RFC 3339 text with its offset, or whole milliseconds since 1970")]
    NotTime,
    #[error("lies before the year 2000: milliseconds since 1970 are meant, not seconds")]
    TooEarly,
    #[error("lies more than a day ahead of the hub's clock")]
    TooLate,
    #[error("is none of text, image, video, file, system")]
    UnknownKind,
    #[error("is not a type of event that the hub knows")]
    UnknownType,
    #[error("and message.mediaUrl are both empty")]
    NoContent,
}

impl Problem {
    /// This problem, at a field.
    pub(super) fn of(self, field: &'static str) -> FieldError {
        FieldError { field, problem: self }
    }
}

/// An object inside an event. Every field is asked for by its whole path; the last step is the key.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The value, where there is one: `null` means the same as leaving the field out.
    fn get(self, path: &'static str) -> Option<&'a Value> {
        let key = path.rsplit('.').next().unwrap_or(path);
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn optional_object(self, path: &'static str) -> Result<Option<Self>, FieldError> {
        match self.get(path) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self(object))),
            Some(_) => Err(Problem::NotObject.of(path)),
        }
    }

    pub(super) fn object(self, path: &'static str) -> Result<Self, FieldError> {
        self.optional_object(path)?.ok_or(Problem::Missing.of(path))
    }

    /// Any text up to so many bytes.
    pub(super) fn optional_text(self, path: &'static str, max: usize) -> Result<Option<&'a str>, FieldError> {
        let Some(value) = self.get(path) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or(Problem::NotString.of(path))?;
        if text.len() > max {
            return Err(Problem::TooLong(max).of(path));
        }
        // The database cannot hold it, and no platform means it.
        if text.contains('\0') {
            return Err(Problem::Nul.of(path));
        }
        Ok(Some(text))
    }

    /// A text that must be there, and not be empty.
    pub(super) fn filled_text(self, path: &'static str, max: usize) -> Result<&'a str, FieldError> {
        match self.optional_text(path, max)? {
            None => Err(Problem::Missing.of(path)),
            Some("") => Err(Problem::Empty.of(path)),
            Some(text) => Ok(text),
        }
    }

    pub(super) fn id(self, path: &'static str) -> Result<&'a str, FieldError> {
        self.filled_text(path, MAX_ID_BYTES)
    }

    pub(super) fn optional_id(self, path: &'static str) -> Result<Option<&'a str>, FieldError> {
        match self.get(path) {
            None => Ok(None),
            Some(_) => self.id(path).map(Some),
        }
    }

    /// A name to show. An empty one tells nothing, as if it were left out.
    pub(super) fn name(self, path: &'static str) -> Result<Option<String>, FieldError> {
        let name = self.optional_text(path, MAX_NAME_BYTES)?;
        Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
    }

    /// An address that browsers will load. It is not called by the hub, so private networks are no concern here.
    pub(super) fn address(self, path: &'static str) -> Result<Option<String>, FieldError> {
        let Some(url) = self.optional_text(path, address::MAX_URL_BYTES)? else {
            return Ok(None);
        };
        let is_web = url::Url::parse(url).is_ok_and(|parsed| matches!(parsed.scheme(), "http" | "https"));
        let is_clean = !url.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
        if is_web && is_clean {
            Ok(Some(url.to_owned()))
        } else {
            Err(Problem::NotAddress.of(path))
        }
    }

    pub(super) fn flag(self, path: &'static str) -> Result<bool, FieldError> {
        match self.get(path) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or(Problem::NotBoolean.of(path)),
        }
    }

    /// A time in UTC, cut to the microseconds that the database keeps, so that a redelivery compares equal.
    pub(super) fn time(
        self,
        path: &'static str,
        default: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, FieldError> {
        let time = match self.get(path) {
            None => return Ok(default),
            Some(Value::String(text)) => {
                OffsetDateTime::parse(text, &Rfc3339).map_err(|_| Problem::NotTime.of(path))?
            }
            Some(Value::Number(number)) => {
                let milliseconds = number.as_i64().ok_or(Problem::NotTime.of(path))?;
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).map_err(|_| {
                    let problem = if milliseconds < 0 {
                        Problem::TooEarly
                    } else {
                        Problem::TooLate
                    };
                    problem.of(path)
                })?
            }
            Some(_) => return Err(Problem::NotTime.of(path)),
        };
        if time.unix_timestamp() < EARLIEST_SECONDS {
            return Err(Problem::TooEarly.of(path));
        }
        if time - now > MAX_AHEAD {
            return Err(Problem::TooLate.of(path));
        }
        let nanoseconds = time.unix_timestamp_nanos();
        let cut = nanoseconds - nanoseconds.rem_euclid(1_000);
        OffsetDateTime::from_unix_timestamp_nanos(cut).map_err(|_| Problem::NotTime.of(path))
    }
}
