//! What can be wrong with settings, in words for the person who set them.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use config::ConfigError;

/// Settings with which the hub does not start. Each text is one line.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}: {reason}", file.display())]
    Unreadable { file: PathBuf, reason: String },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Malformed(String),
    /// Values that are not allowed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
    /// Keys that an external database needs.
    #[error(
        "database.url names an external database, so the keys must be set too; missing: {}. Make one with `openssl rand -hex 32` \
         and keep it: what vault.key has sealed cannot be read without it",
        .0.join(", ")
    )]
    MissingKeys(Vec<&'static str>),
    /// The file with the keys of the first start.
    #[error("{}: {reason}", file.display())]
    FirstRun { file: PathBuf, reason: String },
}

/// One value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`.
    pub setting: String,
    /// What it is, and what is allowed.
    pub text: String,
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} ({}) {}",
            self.setting,
            variable(&self.setting),
            self.text
        )
    }
}

/// The environment variable of a setting.
fn variable(setting: &str) -> String {
    format!("HUB__{}", setting.to_ascii_uppercase().replace('.', "__"))
}

/// Collects all problems, so that a person sees them at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// A value that may be shown.
    pub(super) fn wrong(&mut self, setting: &str, value: impl Display, allowed: impl Display) {
        self.add(setting, format!("is {value}: it must be {allowed}"));
    }

    /// A value that must not be shown.
    pub(super) fn wrong_secret(&mut self, setting: &str, allowed: impl Display) {
        self.add(setting, format!("is not usable: it must be {allowed}"));
    }

    /// A number outside its range.
    pub(super) fn range<T: PartialOrd + Display>(&mut self, setting: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            let allowed = format!("from {} to {}", range.start(), range.end());
            self.wrong(setting, value, allowed);
        }
    }

    fn add(&mut self, setting: &str, text: String) {
        self.0.push(Problem {
            setting: setting.to_owned(),
            // A value may hold a line break; what is said about it stays one line.
            text: text.replace(char::is_control, " "),
        });
    }

    pub(super) fn into_result(self) -> Result<(), SettingsError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(SettingsError::Invalid(self.0))
        }
    }
}

/// Says where a file is not TOML. The line itself is not quoted: it may hold a secret.
pub(super) fn from_toml(error: &toml::de::Error, file: &Path, text: &str) -> SettingsError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    SettingsError::Malformed(one_line(&format!(
        "{} is not valid TOML, line {line}: {}",
        file.display(),
        error.message()
    )))
}

/// Puts what the `config` crate says into one line that names the setting first.
pub(super) fn from_config(error: &ConfigError) -> SettingsError {
    let (key, text) = match error {
        ConfigError::At {
            error, key: Some(key), ..
        } => (key.as_str(), error.to_string()),
        ConfigError::Type {
            unexpected,
            expected,
            key: Some(key),
            ..
        } => (key.as_str(), format!("{unexpected} is not {expected}")),
        other => ("", other.to_string()),
    };
    let text = match unknown_key(&text) {
        Some((unknown, known)) if key.is_empty() => {
            format!("unknown section {unknown} ({}): there are {known}", variable(unknown))
        }
        Some((unknown, known)) => {
            let setting = format!("{key}.{unknown}");
            format!("unknown setting {setting} ({}): {key} has {known}", variable(&setting))
        }
        None if key.is_empty() => format!("settings: {text}"),
        None => format!("setting {key} ({}): {text}", variable(key)),
    };
    SettingsError::Malformed(one_line(&text))
}

/// Takes serde's sentence about an unknown field apart.
fn unknown_key(text: &str) -> Option<(&str, String)> {
    let (unknown, known) = text.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    Some((unknown, known.join(", ")))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
