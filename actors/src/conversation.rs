//! One actor per conversation: the order of what happens in it, recent duplicates, who is writing.
//!
//! It is started by the first thing that happens in a conversation and ends when nothing has happened for a while.
//! What it holds can be lost at any time: order, deduplication and parking are settled by the rules inside the
//! journal's transaction; the actor only keeps work away from the database and calm on the sockets.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use crate::clock;
use crate::domain::{AccountState, Append, Appended, Change, InboundEvent, InboundKind, LinkStep};
use crate::ids::{AccountId, ConversationId, ExternalId, UserId};
use crate::journal;
use crate::mailbox::{Blame, Letter, Receiver};
use crate::ports::AppendError;
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

/// Appends of one conversation that may be on their way; more are answered with "busy".
const MAX_IN_FLIGHT: usize = 1_024;
/// Messages remembered as committed, so that a redelivery is answered without the database.
const REMEMBERED: usize = 256;
/// A person who keeps writing is shown again at most this often.
const TYPING_INTERVAL: Duration = Duration::from_secs(2);
/// People of one conversation whose writing is remembered.
const MAX_TYPING: usize = 64;
const IDLE_CHECK: Duration = Duration::from_secs(15);

/// Names a conversation before it has an id of ours: the account and the platform's id of the chat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    pub account_id: AccountId,
    pub external_id: ExternalId,
}

impl fmt::Display for ConversationKey {
    /// The chat's id is the platform's business and may be a telephone number: the tree shows a hash of it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.external_id.hash(&mut hasher);
        write!(formatter, "{}:{:08x}", self.account_id, hasher.finish() & 0xffff_ffff)
    }
}

/// What can be asked of a conversation.
pub enum Command {
    /// The platform reports something.
    Inbound {
        user_id: UserId,
        events: Vec<InboundEvent>,
        /// For what came over a live link.
        link: Option<LinkStep>,
        blame: Blame,
        reply: Reply,
    },
    /// The person does something: sends, reads, retries.
    Act { append: Append, reply: Reply },
    /// End.
    Stop,
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// A conversation.
pub struct Conversation {
    hub: Arc<Hub>,
    key: ConversationKey,
    id: Option<ConversationId>,
    /// Its id was looked up, or is being.
    was_looked_up: bool,
    remembered: VecDeque<ExternalId>,
    typing: HashMap<String, Instant>,
    in_flight: usize,
    last_activity: Instant,
    _guard: ChildGuard,
}

/// Makes conversations.
pub struct ConversationSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for ConversationSpec {
    type Key = ConversationKey;
    type Child = Conversation;
    const PATH: &'static str = "conversations/conversation";
    const MAILBOX: usize = 1_024;

    fn build(&self, key: &ConversationKey, guard: ChildGuard) -> Conversation {
        Conversation {
            hub: Hub::upgrade(&self.hub),
            key: key.clone(),
            id: None,
            was_looked_up: false,
            remembered: VecDeque::new(),
            typing: HashMap::new(),
            in_flight: 0,
            last_activity: clock::instant(),
            _guard: guard,
        }
    }

    fn gave_up(&self, key: &ConversationKey, error: &str) {
        Hub::upgrade(&self.hub).account_failed(key.account_id, error);
    }

    fn came_back(&self, key: &ConversationKey) {
        Hub::upgrade(&self.hub).account_came_back(key.account_id, AccountState::Live);
    }
}

impl Actor for Conversation {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(IDLE_CHECK, |conversation, context| {
            let idle = conversation.last_activity.elapsed() > conversation.hub.settings.conversation_idle;
            if idle && conversation.in_flight == 0 {
                context.stop();
            }
        });
    }
}

impl Receiver for Conversation {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Conversation {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("conversation");
        self.last_activity = clock::instant();
        match letter.open() {
            Command::Inbound {
                user_id,
                events,
                link,
                blame,
                reply,
            } => {
                blame.during(|| self.inbound(user_id, events, link, reply, context));
            }
            Command::Act { append, reply } => self.commit(append, Vec::new(), reply, context),
            Command::Stop => context.stop(),
        }
    }
}

impl Conversation {
    fn inbound(
        &mut self,
        user_id: UserId,
        events: Vec<InboundEvent>,
        link: Option<LinkStep>,
        reply: Reply,
        context: &mut Context<Self>,
    ) {
        let mut durable = Vec::with_capacity(events.len());
        let mut messages = Vec::new();
        for event in events {
            match &event.kind {
                InboundKind::Typing { actor_id, actor_name } => {
                    self.show_typing(user_id, actor_id, actor_name.clone(), context);
                }
                InboundKind::Message(message)
                    if self.remembered.contains(&message.external_id) && !message.is_outgoing => {}
                kind => {
                    if let InboundKind::Message(message) = kind {
                        messages.push(message.external_id.clone());
                        self.typing.remove(&message.sender_id);
                    }
                    durable.push(event);
                }
            }
        }
        let account_id = self.key.account_id;
        let change = match link {
            Some(link) if durable.is_empty() && !link.remember.is_empty() => Change::Remember { account_id, link },
            _ if durable.is_empty() => return drop(reply.send(Ok(Appended::default()))),
            link => Change::Inbound {
                account_id,
                conversation: self.key.external_id.clone(),
                events: durable,
                link,
            },
        };
        self.commit(Append { user_id, change }, messages, reply, context);
    }

    fn commit(&mut self, append: Append, messages: Vec<ExternalId>, reply: Reply, context: &mut Context<Self>) {
        if self.in_flight >= MAX_IN_FLIGHT {
            let _ = reply.send(Err(AppendError::Busy));
            return;
        }
        self.in_flight += 1;
        fail::fail_point!("conversation.before_append");
        // The journal is told here and now: what is spawned has no order.
        let committed = journal::append(&self.hub, append);
        context.spawn(committed.into_actor(self).map(move |result, conversation, _context| {
            conversation.in_flight -= 1;
            if let Ok(appended) = &result {
                conversation.remember(messages, appended);
            }
            let _ = reply.send(result);
        }));
    }

    fn remember(&mut self, messages: Vec<ExternalId>, appended: &Appended) {
        self.id = self
            .id
            .or_else(|| appended.events.iter().find_map(|event| event.kind.conversation_id()));
        self.remembered.extend(messages);
        let surplus = self.remembered.len().saturating_sub(REMEMBERED);
        self.remembered.drain(..surplus);
    }

    /// Shown to who is online, never stored: in a conversation that is not stored yet there is nowhere to show it.
    fn show_typing(&mut self, user_id: UserId, actor_id: &str, name: Option<String>, context: &mut Context<Self>) {
        let now = clock::instant();
        self.typing
            .retain(|_, shown| now.duration_since(*shown) < TYPING_INTERVAL);
        if self.typing.contains_key(actor_id) || self.typing.len() >= MAX_TYPING {
            return;
        }
        if let Some(id) = self.id {
            self.typing.insert(actor_id.to_owned(), now);
            self.hub.publish_typing(user_id, id, actor_id, name.as_deref());
        } else if !self.was_looked_up && self.hub.sessions.find(&user_id).is_some() {
            self.was_looked_up = true;
            let (hub, key, actor_id) = (Arc::clone(&self.hub), self.key.clone(), actor_id.to_owned());
            let found = async move { hub.store.conversation_id(key.account_id, &key.external_id).await };
            context.spawn(
                found
                    .into_actor(self)
                    .map(move |found, conversation, context| match found {
                        Ok(id) => {
                            conversation.id = conversation.id.or(id);
                            conversation.show_typing(user_id, &actor_id, name, context);
                        }
                        Err(error) => {
                            conversation.was_looked_up = false;
                            tracing::debug!(%error, "somebody who is writing is not shown");
                        }
                    }),
            );
        }
    }
}
