//! What lives here: the nouns of the hub and the pure rules that change them.
//! Who calls it: the actors, and the store, which runs [`apply`] inside the journal's transaction.
//! What it may not know: actors, storage, HTTP, platforms.

mod account;
mod append;
mod apply;
mod conversation;
mod event;
mod failure;
mod inbound;
mod message;
mod outbound;
mod workspace;

pub use account::{Account, AccountState, Credentials};
pub use append::{
    Act, Append, Appended, Change, Idempotency, LinkStep, NewAction, NewMessage, Queued, Refusal, Remember, SendReport,
};
pub use apply::apply;
pub use conversation::{Conversation, ConversationProfile};
pub use event::{Event, EventKind, StreamPosition};
pub use failure::{Certainty, FailureClass, SendError, SendFailure};
pub use inbound::{InboundEvent, InboundKind, InboundMessage};
pub use message::{Attachment, AttachmentKind, DeliveryStatus, Edit, Message, MessageKind, Reaction};
pub use outbound::{OutboundAction, OutboxEntry, OutboxState, Receipt};
pub use workspace::{Dirty, IdempotencyRecord, Needs, ParkedEvent, ReadUpTo, UnreadMessage, Workspace};
