//! What the journal is asked to commit, and what it answers.

use time::OffsetDateTime;

use super::account::AccountState;
use super::conversation::Conversation;
use super::event::Event;
use super::inbound::{InboundEvent, InboundKind};
use super::message::{Message, MessageKind};
use super::outbound::{OutboxEntry, Receipt};
use super::workspace::Needs;
use crate::ids::{AccountId, ConversationId, ExternalId, MessageId, OutboxId, UserId};

/// One change of one user's data: committed whole or not at all.
#[derive(Clone, Debug)]
pub struct Append {
    pub user_id: UserId,
    pub change: Change,
}

/// The kinds of change.
#[derive(Clone, Debug)]
pub enum Change {
    /// What a platform reported about one chat of an account, in the platform's order.
    Inbound {
        account_id: AccountId,
        conversation: ExternalId,
        events: Vec<InboundEvent>,
        /// For what came over a live link.
        link: Option<LinkStep>,
    },
    /// A live link moves on without a message.
    Remember { account_id: AccountId, link: LinkStep },
    /// The person sends a message: message, outbox entry and event in one.
    Queue(Box<NewMessage>),
    /// The person changes a message that is on the platform: an outbox entry. The message itself changes when the platform
    /// has taken it.
    Act(Box<NewAction>),
    /// A try is about to be made on a platform that has no key: stored first, so that a crash shows as `unknown`.
    SendStarted { entry: Box<OutboxEntry> },
    /// A try has ended.
    SendEnded {
        entry: Box<OutboxEntry>,
        report: SendReport,
    },
    /// The person asks to try a failed or unknown message again, with the same outbox entry and key.
    Retry {
        message_id: MessageId,
        conversation_id: ConversationId,
    },
    /// The person has seen one message.
    ReadMessage {
        message_id: MessageId,
        conversation_id: ConversationId,
    },
    /// The person has seen a conversation. With `tell_platform` the platform is told too, through the outbox.
    ReadConversation {
        conversation_id: ConversationId,
        tell_platform: bool,
    },
    /// The link of an account changed its state.
    AccountState {
        account_id: AccountId,
        state: AccountState,
        reason: Option<String>,
        /// Until when it lasts, where that is known.
        until: Option<OffsetDateTime>,
    },
}

/// Changes to what a live link remembers: a new value, or none to forget the name.
pub type Remember = Vec<(String, Option<Vec<u8>>)>;

/// A step of a live link: refused as a whole when its owner is not the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStep {
    /// The epoch of the owner's lease.
    pub epoch: i64,
    pub remember: Remember,
}

/// A message that the person wants to send. All ids are chosen by the caller, so that a repeated append is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    pub id: MessageId,
    pub outbox_id: OutboxId,
    pub conversation_id: ConversationId,
    pub text: String,
    pub kind: MessageKind,
    pub media_url: Option<String>,
    pub reply_to: Option<ExternalId>,
    /// The sender's own id for it, given back in the event.
    pub client_id: Option<String>,
    pub idempotency: Option<Idempotency>,
}

/// What the person does to a message. The outbox entry's id is chosen by the caller, so that a repeated append is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAction {
    pub outbox_id: OutboxId,
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub act: Act,
}

/// See [`NewAction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Edit { text: String },
    Delete,
    React { emoji: String, is_active: bool },
}

/// The key under which a repeated request finds the first one's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 of the request, to tell a repetition from another request under the same key.
    pub fingerprint: [u8; 32],
}

/// How a try to send ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendReport {
    Sent(Receipt),
    /// To be tried again.
    Again {
        due_at: OffsetDateTime,
        reason: String,
    },
    Failed {
        reason: String,
    },
    Unknown {
        reason: String,
    },
}

/// What a committed change brought about.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// The new steps of the user's stream, in order. Empty for what was known already.
    pub events: Vec<Event>,
    /// For `Queue` and `Retry`: the message and what must go out.
    pub queued: Option<Box<Queued>>,
    /// For `Act`, and for `ReadConversation` that tells the platform: what must go out.
    pub outbox: Option<Box<OutboxEntry>>,
}

/// A message that is on its way.
#[derive(Clone, Debug)]
pub struct Queued {
    pub message: Message,
    pub conversation: Conversation,
    /// None when it has left the outbox already.
    pub entry: Option<OutboxEntry>,
    /// True when the idempotency key was known: nothing new was committed.
    pub is_repeat: bool,
}

/// Why a change was not made. Nothing of it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such account")]
    NoAccount,
    #[error("the account is disconnected")]
    AccountDisconnected,
    #[error("another hub owns the link of this account now")]
    LeaseLost,
    #[error("there is no such conversation")]
    NoConversation,
    #[error("there is no such message")]
    NoMessage,
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    #[error("only a failed message, or one of unknown fate, can be tried again")]
    NotRetryable,
    #[error("the message went out already")]
    Settled,
    #[error("the message is not on the platform")]
    NotSent,
    #[error("only the person's own messages can be changed")]
    NotOwn,
    #[error("too many early edits or reactions wait for a message that has not come")]
    TooManyParked,
}

impl Append {
    /// Adds to `needs` what [`super::apply`] will look at.
    pub fn add_needs(&self, needs: &mut Needs) {
        needs.users.insert(self.user_id);
        match &self.change {
            Change::Inbound {
                account_id,
                conversation,
                events,
                link,
            } => {
                needs.accounts.insert(*account_id);
                if link.is_some() {
                    needs.leases.insert(*account_id);
                }
                for event in events {
                    match &event.kind {
                        InboundKind::SeenUpTo { by_peer: true, .. } => {
                            needs.unseen_chats.insert((*account_id, conversation.clone()));
                        }
                        InboundKind::SeenUpTo { message, .. } => {
                            needs.seen.insert((*account_id, conversation.clone(), message.clone()));
                        }
                        _ => {}
                    }
                }
                needs.external_conversations.insert((*account_id, conversation.clone()));
                needs.external_messages.extend(
                    events
                        .iter()
                        .filter_map(|event| event.kind.message())
                        .map(|message| (*account_id, conversation.clone(), message.clone())),
                );
            }
            Change::Remember { account_id, .. } => {
                needs.accounts.insert(*account_id);
                needs.leases.insert(*account_id);
            }
            Change::Queue(new) => {
                needs.conversations.insert(new.conversation_id);
                needs.messages.insert(new.id);
                if let Some(idempotency) = &new.idempotency {
                    needs.idempotency.insert((self.user_id, idempotency.key.clone()));
                }
            }
            Change::Act(new) => {
                needs.conversations.insert(new.conversation_id);
                needs.messages.insert(new.message_id);
                needs.outbox.insert(new.outbox_id);
            }
            Change::SendStarted { entry } | Change::SendEnded { entry, .. } => {
                needs.conversations.insert(entry.conversation_id);
                needs.messages.extend(entry.message_id);
                needs.outbox.insert(entry.id);
                let external = |id: &ExternalId| {
                    let chat = entry.conversation_external_id.clone();
                    (entry.account_id, chat, id.clone())
                };
                needs.external_messages.extend(entry.action.changed().map(external));
                if let Change::SendEnded {
                    report: SendReport::Sent(Receipt { external_id: Some(id) }),
                    ..
                } = &self.change
                {
                    needs.external_messages.insert(external(id));
                }
            }
            Change::Retry {
                message_id,
                conversation_id,
            } => {
                needs.conversations.insert(*conversation_id);
                needs.messages.insert(*message_id);
                needs.outbox_of_messages.insert(*message_id);
            }
            Change::ReadMessage {
                message_id,
                conversation_id,
            } => {
                needs.conversations.insert(*conversation_id);
                needs.messages.insert(*message_id);
            }
            Change::ReadConversation { conversation_id, .. } => {
                needs.conversations.insert(*conversation_id);
                needs.unread.insert(*conversation_id);
            }
            Change::AccountState { account_id, .. } => {
                needs.accounts.insert(*account_id);
            }
        }
    }
}
