//! A live link: the connection that a platform keeps open for one account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;

use super::adapter::{Outbound, TypingNotice};
use crate::domain::{Account, InboundEvent, Receipt, Remember, SendError};
use crate::ids::{AccountId, ExternalId};

/// What a link remembers between its lives, by name: its session, its peers, its cursors. Values are sealed at rest.
pub type LinkMemory = BTreeMap<String, Vec<u8>>;

/// The right to hold the link of an account. Each new owner has a higher epoch, and storage refuses what carries an
/// older one, so an owner that was paused and wakes up late changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub account_id: AccountId,
    pub epoch: i64,
}

/// What a link hands over at once.
#[derive(Clone, Debug, Default)]
pub struct LinkBatch {
    /// In the platform's order.
    pub events: Vec<InboundEvent>,
    /// Stored in the transaction that stores the events; with events of several chats, in that of the last chat, after
    /// all others are committed. So a cursor never runs ahead of the messages it counts.
    pub remember: Remember,
}

/// Why a link's word is not taken. It has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("another hub owns this account's link now")]
    LeaseLost,
    #[error("the account is disconnected")]
    Disconnected,
}

/// How a link is doing, as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Fetching what happened while it was away; with words for the person, such as "40 of 120 chats".
    CatchingUp { progress: Option<String> },
    /// Messages arrive and leave.
    Live,
    /// The platform asked the account to wait.
    FloodWait { until: OffsetDateTime },
}

/// Where a link puts what it hears. Implemented by the connection actor.
#[async_trait]
pub trait LinkFeed: Send + Sync + 'static {
    /// Hands a batch over. Comes back when all of it is committed, however long the database is away: the link's own
    /// bounded queue fills up meanwhile. What cannot be applied is put into quarantine and does not come back.
    ///
    /// # Errors
    /// When the link has to end.
    async fn take(&self, batch: LinkBatch) -> Result<(), FeedError>;

    /// Stores changes to the memory that belong to no message, and comes back when they are committed.
    ///
    /// # Errors
    /// When the link has to end.
    async fn remember(&self, changes: Remember) -> Result<(), FeedError>;

    /// The chats in which the hub knows these messages, as (chat, message): some platforms report a deletion without its
    /// chat. A message id may be known in several chats.
    async fn chats_of(&self, messages: &[ExternalId]) -> Vec<(ExternalId, ExternalId)>;

    /// Tells the person how the link is doing.
    fn state(&self, state: LinkState);
}

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// It broke. It is made again, later and later, but not before `not_before`.
    Lost {
        reason: String,
        not_before: Option<Duration>,
    },
    /// The platform does not accept the session any more: no further try before the person links again. The reason is
    /// a sentence for the person.
    NeedsLogin { reason: String },
    /// The session was ended by the person, on the platform's own device list. As `NeedsLogin`.
    Revoked { reason: String },
    /// See [`FeedError`].
    Feed(FeedError),
}

/// What a link begins with.
pub struct LinkStart {
    pub account: Arc<Account>,
    pub memory: LinkMemory,
    pub feed: Arc<dyn LinkFeed>,
}

/// An open link and the news of its end. Dropping both ends it: no task of it may live on.
pub struct OpenLink {
    pub link: Arc<dyn Link>,
    pub ended: BoxFuture<'static, LinkEnd>,
}

/// Asks for messages older than one that is known.
#[derive(Clone, Debug)]
pub struct HistoryRequest {
    /// The chat's id on the platform.
    pub conversation: ExternalId,
    /// The oldest message known; none for the newest messages.
    pub before: Option<ExternalId>,
    /// At most so many messages.
    pub limit: usize,
}

/// Asks for a part of a file.
#[derive(Clone, Debug)]
pub struct MediaRequest {
    /// Where the platform keeps it: [`crate::domain::Attachment::locator`].
    pub locator: String,
    /// The first byte wanted.
    pub offset: u64,
    /// The number of bytes wanted.
    pub length: u64,
}

/// The bytes of a file, in order; an error ends it early.
pub type MediaStream = BoxStream<'static, Result<Bytes, SendError>>;

/// The open link of one account. Every call has its own time limit.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Makes one try to send.
    ///
    /// # Errors
    /// Says what is known of the message's fate.
    async fn send(&self, outbound: &Outbound) -> Result<Receipt, SendError>;

    /// Tells the platform that the person is writing; a courtesy, lost without a word when it fails.
    async fn typing(&self, notice: &TypingNotice);

    /// Asks the platform something that only a working, accepted session is answered.
    ///
    /// # Errors
    /// Why the link must be considered dead.
    async fn probe(&self) -> Result<(), String>;

    /// Fetches older messages and hands them to the feed, marked as history. Returns how many there were: fewer than
    /// asked means that the chat has no older ones.
    ///
    /// # Errors
    /// When the platform did not answer.
    async fn history(&self, request: &HistoryRequest) -> Result<usize, SendError>;

    /// Streams a file.
    ///
    /// # Errors
    /// When there is no such file or the platform did not answer.
    async fn media(&self, request: &MediaRequest) -> Result<MediaStream, SendError>;

    /// Looks for what is new, in the background.
    async fn refresh(&self);

    /// Ends the session on the platform, for good.
    async fn sign_out(&self);
}

/// A platform whose accounts are held open.
#[async_trait]
pub trait LiveAdapter: Send + Sync + 'static {
    /// Opens the account's link. Returns within its own time limit.
    ///
    /// # Errors
    /// How the try ended.
    async fn open(&self, start: LinkStart) -> Result<OpenLink, LinkEnd>;

    /// Begins to link an account.
    ///
    /// # Errors
    /// Why the platform does not let the person in.
    async fn begin_login(&self, request: LoginRequest) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError>;
}

/// How a person wants to link an account.
#[derive(Clone)]
pub enum LoginRequest {
    /// With a code that is sent to this number, in international form.
    Phone(String),
    /// By scanning a code with a device that is logged in already.
    Qr,
}

/// What the person does next.
#[derive(Clone)]
pub enum LoginAnswer {
    /// The code that the platform sent.
    Code(String),
    /// The account's second password.
    Password(String),
    /// Nothing: look whether the code was scanned.
    Look,
}

/// What is needed next.
pub enum LoginStep {
    /// A code was sent.
    Code,
    /// The account has a second password.
    Password,
    /// Scan this, before that time; a later look gives a new one.
    Qr { url: String, expires_at: OffsetDateTime },
    /// The person is in.
    Done(Box<LoginDone>),
}

/// A successful login.
pub struct LoginDone {
    /// The account's id on the platform.
    pub external_id: ExternalId,
    /// The name that the person knows the account by.
    pub name: Option<String>,
    /// The account's public name on the platform, if it has one.
    pub username: Option<String>,
    /// What the link needs to open. Names that are not here keep their old values when the account was linked before.
    pub memory: LinkMemory,
}

/// Why a step of a login did not work. The sentence is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("the phone number is not valid: write it with its country code, for example +4915112345678")]
    InvalidPhone,
    #[error("this phone number is banned on the platform")]
    BannedPhone,
    #[error("there is no account with this phone number: sign up with the platform's own app first")]
    NotRegistered,
    #[error("the code is wrong: look again and type it once more")]
    WrongCode,
    #[error("the code has expired: start again")]
    ExpiredCode,
    #[error("the password is wrong: try again")]
    WrongPassword,
    #[error("too many tries: the platform asks to wait {} seconds", .0.as_secs())]
    FloodWait(Duration),
    #[error("this is not the step that comes next")]
    OutOfTurn,
    #[error("the login was interrupted: start again")]
    Lost,
    #[error("the platform could not be reached: try again in a moment")]
    Unreachable,
    #[error("somebody is logging in with this phone number already: try again in a few minutes")]
    NumberBusy,
    #[error("too many people are logging in at the moment: try again in a few minutes")]
    Busy,
    /// The platform let the person in; the next answer, whatever it says, only stores that again.
    #[error("the login could not be stored: try again in a moment")]
    NotStored,
    /// The hub's own settings lack something; says what and where to get it.
    #[error("{0}")]
    NotConfigured(String),
    #[error("the platform refused: {0}")]
    Refused(String),
}

impl LoginError {
    /// False when the attempt is over and has to be started again.
    pub fn may_go_on(&self) -> bool {
        matches!(
            self,
            Self::WrongCode
                | Self::WrongPassword
                | Self::OutOfTurn
                | Self::FloodWait(_)
                | Self::Unreachable
                | Self::NotStored
        )
    }
}

/// A login under way: it holds the live connection between the steps. Dropping it ends it.
#[async_trait]
pub trait LoginAttempt: Send + 'static {
    /// Takes the person's next step.
    ///
    /// # Errors
    /// Why it did not work; see [`LoginError::may_go_on`].
    async fn answer(&mut self, answer: LoginAnswer) -> Result<LoginStep, LoginError>;
}
