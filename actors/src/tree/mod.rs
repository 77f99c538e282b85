//! What lives here: the tree's start and end, and the handle through which HTTP and sockets send messages into it.
//! Who calls it: the binary crate.
//! What it may not know: SQL, HTTP, platforms by name.

mod act;
mod errors;
mod hub;
mod links;
mod login;
mod settings;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_rt::Arbiter;
use tokio::sync::oneshot;

pub use act::Acted;
pub use errors::{CommandError, DeliverError, Delivered};
pub use hub::{Hub, TreeParts};
pub use settings::TreeSettings;

use crate::clock;
use crate::connection;
use crate::conversation::{self, ConversationKey};
use crate::domain::{
    AccountState, Append, Appended, Change, Conversation, Message, NewMessage, Queued, Refusal, StreamPosition,
};
use crate::ids::{AccountId, ConversationId, MessageId, Seq, SessionId, UserId};
use crate::mailbox::{Blame, CallError, answer};
use crate::outbox;
use crate::ports::{ConversationHead, Delivery, SocketOutlet, TypingNotice};
use crate::session::{self, SocketNumber};
use crate::supervise::{Node, install_panic_hook};

/// How often one delivery may crash the actor that works on it.
const POISON_TRIES: usize = 3;
/// How often a command may be lost because an actor ended for another reason while it waited.
const MAX_LOSSES: usize = 20;
/// Time for an actor that is ending to be gone.
const LOSS_PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(25);
/// How long the actors that did start may take to end when another one did not.
const START_FAILED_PATIENCE: Duration = Duration::from_secs(5);

/// The living tree, as HTTP handlers and sockets see it. Cheap to clone.
#[derive(Clone)]
pub struct Tree {
    hub: Arc<Hub>,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub struct SendAnswer {
    /// With its newest known status.
    pub message: Message,
    pub conversation: Conversation,
    /// The Idempotency-Key was known: this is the first request's message.
    pub is_repeat: bool,
}

impl Tree {
    /// Starts the tree. Must be called on an actix system.
    ///
    /// # Errors
    /// When one of the actors that are always there does not start.
    pub async fn start(parts: TreeParts) -> Result<Self, CallError> {
        install_panic_hook();
        let arbiters = (0..parts.settings.arbiters.max(1)).map(|_| Arbiter::new()).collect();
        let hub = Hub::new(parts, arbiters);
        let tree = Self { hub };
        if let Err(error) = tree.start_all().await {
            tree.stop(START_FAILED_PATIENCE).await;
            return Err(error);
        }
        Ok(tree)
    }

    async fn start_all(&self) -> Result<(), CallError> {
        let hub = &self.hub;
        for shard in 0..hub.settings.journal_shards.max(1) {
            hub.journals.get(&shard).await?;
        }
        hub.readers.get(&0).await?;
        hub.outboxes.get(&0).await?;
        hub.schedulers.get(&0).await?;
        hub.leases.get(&0).await?;
        Ok(())
    }

    /// The handle of a tree, for a part of it.
    pub(crate) fn of(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Ends all sockets; their clients are told to come back.
    pub async fn close_sockets(&self, patience: Duration) {
        self.hub.sessions.stop(patience).await;
    }

    /// Ends the tree in order, at most `patience` long: tries to send are finished or handed back, what waits for its commit
    /// is committed. Each part gets a share of the time that is left.
    pub async fn stop(&self, patience: Duration) {
        let hub = &self.hub;
        let deadline = clock::instant() + patience;
        let left = || deadline.saturating_duration_since(clock::instant());
        hub.sessions.stop(left() / 8).await;
        let share = left() / 2;
        let mut outboxes = pin!(hub.outboxes.stop(share));
        if tokio::time::timeout(share * 3 / 4, &mut outboxes).await.is_err() {
            hub.lets_go.send_replace(true);
            outboxes.await;
        }
        hub.logins.stop(left() / 8).await;
        hub.leases.stop(left() / 8).await;
        hub.connections.stop(left() / 8).await;
        hub.conversations.stop(left() / 8).await;
        hub.journals.stop(left() / 2).await;
        hub.give_up_leases(left() / 2).await;
        hub.readers.stop(left() / 2).await;
        hub.schedulers.stop(left()).await;
        hub.stop_arbiters();
    }

    /// Takes a webhook delivery. Comes back after the commit. A delivery that crashes its actor three times is put into
    /// quarantine, so that it cannot wedge its account.
    ///
    /// # Errors
    /// [`DeliverError`], never `Crashed`.
    pub async fn deliver(&self, account_id: AccountId, delivery: Delivery) -> Result<Delivered, DeliverError> {
        let mut crashes = 0;
        let mut losses = 0;
        while crashes < POISON_TRIES {
            let blame = Blame::default();
            match self.deliver_once(account_id, delivery.clone(), blame.clone()).await {
                Err(DeliverError::Crashed) if blame.is_here() => crashes += 1,
                Err(DeliverError::Crashed) if losses < MAX_LOSSES => losses += 1,
                Err(DeliverError::Crashed) => return Err(DeliverError::Unavailable(CallError::Gone.to_string())),
                result => return result,
            }
            tokio::time::sleep(LOSS_PAUSE).await;
        }
        let account = self.hub.store.account(account_id).await;
        let account = account.map_err(|error| DeliverError::Unavailable(error.to_string()))?;
        let account = account.ok_or(DeliverError::NoAccount)?;
        connection::quarantine(
            &self.hub,
            &account,
            &delivery,
            "it crashed its handler three times".to_owned(),
        )
        .await
    }

    async fn deliver_once(
        &self,
        account_id: AccountId,
        delivery: Delivery,
        blame: Blame,
    ) -> Result<Delivered, DeliverError> {
        let question = |reply| connection::Command::Deliver { delivery, blame, reply };
        self.hub.connections.ask(&account_id, PATIENCE, question).await?
    }

    /// Accepts a message: it is committed, and on its way, when this returns. With `patience` it waits that long for
    /// the platform's answer.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn send(
        &self,
        user_id: UserId,
        message: NewMessage,
        patience: Option<Duration>,
    ) -> Result<SendAnswer, CommandError> {
        let (message_id, conversation_id) = (message.id, message.conversation_id);
        let head = self.head(user_id, conversation_id).await?;
        let adapter = self.hub.adapters.get(&head.platform);
        if let Some(limit) = adapter.map(|adapter| adapter.capabilities().max_text)
            && message.text.chars().count() > limit
        {
            return Err(CommandError::TextTooLong { limit });
        }
        let change = Change::Queue(Box::new(message));
        self.queue(user_id, conversation_id, message_id, change, patience).await
    }

    /// Tries a failed message, or one of unknown fate, again: same outbox entry, same key.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn retry(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
        message_id: MessageId,
        patience: Option<Duration>,
    ) -> Result<SendAnswer, CommandError> {
        let change = Change::Retry {
            message_id,
            conversation_id,
        };
        self.queue(user_id, conversation_id, message_id, change, patience).await
    }

    async fn queue(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
        message_id: MessageId,
        change: Change,
        patience: Option<Duration>,
    ) -> Result<SendAnswer, CommandError> {
        if self.hub.outbox_is_full() {
            return Err(CommandError::Busy);
        }
        // Before the commit, so that an outcome that comes at once is not missed.
        let watch = match patience {
            Some(_) => self.watch(conversation_id, message_id, false).await,
            None => None,
        };
        let appended = self.act(user_id, conversation_id, change).await?;
        let queued = appended
            .queued
            .ok_or_else(|| CommandError::Unavailable("the message was not queued".to_owned()))?;
        let Queued {
            mut message,
            conversation,
            is_repeat,
            ..
        } = *queued;
        if let Some(patience) = patience
            && message.status.is_on_its_way()
        {
            let watch = if is_repeat {
                self.watch(conversation_id, message.id, true).await
            } else {
                watch
            };
            if let Some(watch) = watch
                && let Ok(newest) = answer(watch, patience).await
            {
                message = *newest;
            }
        }
        Ok(SendAnswer {
            message,
            conversation,
            is_repeat,
        })
    }

    async fn watch(
        &self,
        conversation_id: ConversationId,
        message_id: MessageId,
        only_if_waiting: bool,
    ) -> Option<oneshot::Receiver<Box<Message>>> {
        let outbox = self.hub.outboxes.get(&0).await.ok()?;
        let question = |reply| outbox::Command::Watch {
            conversation_id,
            message_id,
            only_if_waiting,
            reply,
        };
        outbox.ask(question).ok()
    }

    /// Marks one message as read.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn read_message(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
        message_id: MessageId,
    ) -> Result<(), CommandError> {
        let change = Change::ReadMessage {
            message_id,
            conversation_id,
        };
        self.act(user_id, conversation_id, change).await.map(drop)
    }

    /// Marks a conversation as read, and tells the platform where it wants to know, as long as the outbox has room.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn read_conversation(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
    ) -> Result<(), CommandError> {
        let head = self.head(user_id, conversation_id).await?;
        let tell_platform = self
            .hub
            .adapters
            .get(&head.platform)
            .is_some_and(|adapter| adapter.capabilities().read && !self.hub.outbox_is_full());
        let change = Change::ReadConversation {
            conversation_id,
            tell_platform,
        };
        self.act(user_id, conversation_id, change).await.map(drop)
    }

    /// Tells the platform that the person is writing.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn typing(&self, user_id: UserId, conversation_id: ConversationId) -> Result<(), CommandError> {
        let head = self.head(user_id, conversation_id).await?;
        let connection = self.hub.connections.get(&head.account_id).await?;
        let notice = TypingNotice {
            conversation: head.external_id.clone(),
        };
        Ok(connection.tell(connection::Command::Typing { notice })?)
    }

    /// Changes the state of an account and tells the person.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn set_account_state(
        &self,
        user_id: UserId,
        account_id: AccountId,
        state: AccountState,
        reason: Option<String>,
    ) -> Result<(), CommandError> {
        Ok(self
            .hub
            .set_account_state(user_id, account_id, state, reason)
            .await
            .map(drop)?)
    }

    /// The account, or its credentials, were changed by somebody else than its connection.
    pub fn reload_account(&self, account_id: AccountId) {
        self.hub.connections.reset(move |key| *key == account_id);
        self.hub.conversations.reset(move |key| key.account_id == account_id);
        if let Some(connection) = self.hub.connections.find(&account_id) {
            connection.insist(connection::Command::Reload);
        }
    }

    /// Lets a socket listen to its user's stream.
    ///
    /// # Errors
    /// When the session could not start, for example because storage is away.
    pub async fn listen(
        &self,
        user_id: UserId,
        session_id: SessionId,
        since: Option<StreamPosition>,
        outlet: Box<dyn SocketOutlet>,
    ) -> Result<SocketNumber, CallError> {
        let question = |reply| session::Command::Open {
            session_id,
            since,
            outlet,
            reply,
        };
        self.hub.sessions.ask(&user_id, PATIENCE, question).await
    }

    /// A socket has ended.
    pub fn socket_closed(&self, user_id: UserId, socket: SocketNumber) {
        if let Some(session) = self.hub.sessions.find(&user_id) {
            // When the session is too busy to hear it, its next push to the socket fails and removes it.
            let _ = session.tell(session::Command::Closed { socket });
        }
    }

    /// A signed-in session is over: its sockets are ended.
    pub fn end_session(&self, user_id: UserId, session_id: SessionId) {
        if let Some(session) = self.hub.sessions.find(&user_id) {
            session.insist(session::Command::EndSession { session_id });
        }
    }

    /// Another hub on the same database says that a user's stream has grown.
    pub fn announced(&self, user_id: UserId, last: Seq) {
        if let Some(session) = self.hub.sessions.find(&user_id) {
            // Lost when the session is too busy; its position check finds the new events.
            let _ = session.tell(session::Command::Announce { last });
        }
    }

    /// Every actor of the tree.
    pub async fn nodes(&self) -> Vec<Node> {
        let hub = &self.hub;
        let mut nodes = hub.journals.nodes().await;
        nodes.extend(hub.readers.nodes().await);
        nodes.extend(hub.connections.nodes().await);
        nodes.extend(hub.conversations.nodes().await);
        nodes.extend(hub.sessions.nodes().await);
        nodes.extend(hub.outboxes.nodes().await);
        nodes.extend(hub.schedulers.nodes().await);
        nodes.extend(hub.leases.nodes().await);
        nodes.extend(hub.logins.nodes().await);
        nodes
    }

    /// Entries that wait in the outbox.
    pub fn outbox_depth(&self) -> usize {
        self.hub.outbox_depth.load(Ordering::Relaxed)
    }

    /// Running conversations, connections and sessions.
    pub fn population(&self) -> [(&'static str, usize); 3] {
        [
            ("conversation", self.hub.conversations.count()),
            ("connection", self.hub.connections.count()),
            ("session", self.hub.sessions.count()),
        ]
    }

    /// The conversation, if it is the user's.
    async fn head(&self, user_id: UserId, id: ConversationId) -> Result<Arc<ConversationHead>, CommandError> {
        let head = self
            .hub
            .head(id)
            .await
            .map_err(|error| CommandError::Unavailable(error.to_string()))?;
        head.filter(|head| head.user_id == user_id)
            .ok_or(CommandError::Refused(Refusal::NoConversation))
    }

    /// Sends a change through its conversation, which keeps its order. Tried again when the actor crashes under it.
    async fn act(&self, user_id: UserId, id: ConversationId, change: Change) -> Result<Appended, CommandError> {
        let head = self.head(user_id, id).await?;
        let key = ConversationKey {
            account_id: head.account_id,
            external_id: head.external_id.clone(),
        };
        let append = Append { user_id, change };
        for _ in 0..MAX_LOSSES {
            let conversation = self.hub.conversations.get(&key).await?;
            let append = append.clone();
            let answered = match conversation.ask(|reply| conversation::Command::Act { append, reply }) {
                Ok(receiver) => {
                    fail::fail_point!("send.handed_over");
                    answer(receiver, PATIENCE).await
                }
                Err(error) => Err(error),
            };
            match answered {
                Ok(result) => return Ok(result?),
                Err(CallError::Gone) => tokio::time::sleep(LOSS_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommandError::from(CallError::Gone))
    }
}
