//! What lives here: the traits through which the tree reaches storage, platforms, encoding and other hubs.
//! Who calls it: the actors call the traits; the binary crate implements them.
//! What it may not know: SQL, HTTP, a platform by name.

mod adapter;
mod fanout;
mod link;
mod store;

pub use adapter::{Adapter, Adapters, Capabilities, Delivery, Outbound, ReceiveError, SendKey, TypingNotice};
pub use fanout::{Bus, Encoder, Frames, NoBus, SocketOutlet, UnreadCounts};
pub use link::{
    FeedError, HistoryRequest, Lease, Link, LinkBatch, LinkEnd, LinkFeed, LinkMemory, LinkStart, LinkState,
    LiveAdapter, LoginAnswer, LoginAttempt, LoginDone, LoginError, LoginRequest, LoginStep, MediaRequest, MediaStream,
    OpenLink,
};
pub use store::{
    AppendError, ConversationHead, NewLink, OutboxPage, QuarantinedDelivery, Store, StoreError, StreamPage, StreamRead,
    StreamState,
};
