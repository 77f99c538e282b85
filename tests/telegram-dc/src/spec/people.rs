//! People, groups and channels to create.

use serde::{Deserialize, Serialize};

/// A person; with a phone that can log in, see [`NewAccount`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewUser {
    /// Chosen by the DC if absent.
    pub id: Option<i64>,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: Option<String>,
    /// Username, without `@`.
    pub username: Option<String>,
    /// Phone number shown to others.
    pub phone: Option<String>,
    /// Shown as a contact.
    pub contact: bool,
    /// Shown as a bot.
    pub bot: bool,
}

/// A person who can log in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewAccount {
    /// Chosen by the DC if absent.
    pub id: Option<i64>,
    /// Phone number; `+`, spaces and dashes are ignored when it is compared.
    pub phone: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: Option<String>,
    /// Username, without `@`.
    pub username: Option<String>,
    /// The login code; `12345` if absent.
    pub code: Option<String>,
    /// Two-step password.
    pub password: Option<String>,
    /// Hint shown with the password question.
    pub hint: Option<String>,
    /// Home DC; the first one if absent. Elsewhere `auth.sendCode` answers `PHONE_MIGRATE_n`.
    pub dc: Option<i32>,
}

/// What happens to a phone number without an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneRule {
    /// The code is right, but there is nobody: `authorizationSignUpRequired`.
    SignUp,
    /// `400 PHONE_NUMBER_BANNED`.
    Banned,
    /// `400 PHONE_NUMBER_INVALID`.
    Invalid,
    /// `420 FLOOD_WAIT_n`.
    Flood(i32),
}

/// A basic group. Its people can be accounts or not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewChat {
    /// Chosen by the DC if absent.
    pub id: Option<i64>,
    /// Title.
    pub title: String,
    /// Members; the first one is the creator.
    pub members: Vec<i64>,
    /// Do not write the service message that a new group starts with.
    pub quiet: bool,
}

/// A channel or supergroup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewChannel {
    /// Chosen by the DC if absent.
    pub id: Option<i64>,
    /// Title.
    pub title: String,
    /// Username, without `@`.
    pub username: Option<String>,
    /// A broadcast channel instead of a supergroup: members can only read.
    pub broadcast: bool,
    /// Members; the first one is the creator.
    pub members: Vec<i64>,
    /// Seconds between two messages of one member; `420 SLOWMODE_WAIT_n` before.
    pub slowmode: Option<i32>,
    /// Do not write the service message that a new channel starts with.
    pub quiet: bool,
}
