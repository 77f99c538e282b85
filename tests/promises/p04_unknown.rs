//! P4: a table of what can go wrong and what the message says then. A message whose fate is not known shows `unknown`
//! with the reason; a person's retry uses the same outbox entry and the same key. The platform is a scripted one, with
//! and without a key, on the real store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hub_actors::domain::{
    Account, AccountState, Append, Change, Credentials, DeliveryStatus, InboundEvent, InboundKind, Message, Refusal,
    SendError, SendFailure,
};
use hub_actors::ports::{self, Adapter, Adapters, NoBus, SendKey};
use hub_actors::tree::{CommandError, Tree, TreeParts, TreeSettings};
use hub_actors::{AccountId, Clock, ConversationId, ExternalId, MessageId, PlatformId, UserId};
use messaging_hub::settings::DatabaseSettings;
use messaging_hub::store::{NewAccount, Store};
use messaging_hub::vault::{MasterKey, Vault};

use crate::on_both_databases;
use crate::scripted::{Numbers, Scripted, ScriptedAdapter, delivery, new_message};
use crate::support::{self, Database, Kind, VAULT_KEY};

on_both_databases!(
    every_failure_has_its_outcome,
    only_failed_and_unknown_messages_are_retried
);

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// A living tree on the real store, with a scripted platform.
struct Bed {
    database: Database,
    store: Store,
    tree: Tree,
    platform: Arc<Scripted>,
    user_id: UserId,
}

impl Bed {
    async fn start(kind: Kind, send_key: SendKey) -> Self {
        let database = Database::fresh(kind).await;
        let mut settings = DatabaseSettings {
            path: database.folder().to_owned(),
            ..DatabaseSettings::default()
        };
        if kind == Kind::Postgres {
            settings.url = database.url().into();
        }
        let clock = Clock::system();
        let master = MasterKey::parse(VAULT_KEY).unwrap();
        let store = Store::connect(&settings, Vault::default(), master, clock.clone());
        let store = store.await.unwrap();
        let platform = Scripted::new(send_key);
        let adapter: Arc<dyn Adapter> = Arc::new(ScriptedAdapter(Arc::clone(&platform)));
        let tree = Tree::start(TreeParts {
            settings: TreeSettings::default(),
            clock,
            store: Arc::new(store.clone()),
            adapters: Adapters::new([(PlatformId::from("scripted"), adapter)]),
            encoder: Arc::new(Numbers),
            bus: Arc::new(NoBus),
        });
        let tree = tree.await.unwrap();
        let user = store
            .create_user("person@example.org", "no hash")
            .await
            .unwrap()
            .unwrap();
        Self {
            database,
            store,
            tree,
            platform,
            user_id: user.id,
        }
    }

    /// An account with one chat, both of that name.
    async fn chat(&self, name: &str) -> (Account, ConversationId) {
        let new = NewAccount {
            id: AccountId::generate(Clock::system().now()),
            user_id: self.user_id,
            platform: PlatformId::from("scripted"),
            external_id: ExternalId::from(name),
            name: None,
            credentials: Credentials::default(),
            state: AccountState::Live,
        };
        let account = self.store.create_account(new).await.unwrap();
        self.tree
            .deliver(account.id, delivery(&format!("{name}/hello")))
            .await
            .unwrap();
        let events = self
            .store
            .stream_page(self.user_id, hub_actors::Seq(0), 10_000)
            .await
            .unwrap()
            .events;
        let conversations = events.iter().filter_map(|event| event.kind.conversation());
        let own = conversations.filter(|conversation| conversation.account_id == account.id);
        let id = own.map(|conversation| conversation.id).next().unwrap();
        (account, id)
    }

    async fn message(&self, id: MessageId) -> Message {
        self.store.message(self.user_id, id).await.unwrap().unwrap()
    }

    async fn send(&self, id: ConversationId, text: &str, patience: Option<Duration>) -> Message {
        let sent = self.tree.send(self.user_id, new_message(id, text), patience).await;
        sent.unwrap().message
    }

    async fn retry(&self, message: &Message) -> Result<Message, CommandError> {
        let (user_id, chat) = (self.user_id, message.conversation_id);
        let retried = self.tree.retry(user_id, chat, message.id, PATIENCE).await;
        retried.map(|answer| answer.message)
    }

    async fn until(&self, what: &str, id: MessageId, status: DeliveryStatus) -> Message {
        support::until(what, async || {
            Some(self.message(id).await).filter(|message| message.status == status)
        })
        .await
    }

    /// The keys of a chat's tries, in order.
    fn tries(&self, chat: &str) -> Vec<String> {
        let sends = self.platform.sends.lock().unwrap();
        let own = sends.iter().filter(|(_, to, _)| to == chat);
        own.map(|(key, ..)| key.to_string()).collect()
    }

    /// The outbox entry of a message, as key and state; none when there is none. Real databases can be asked.
    async fn assert_entry(&self, message: &Message, expected: Option<(&str, &str)>) {
        if self.database.kind == Kind::Postgres {
            let sql = format!(
                "SELECT id || ' ' || state FROM outbox WHERE message_id = '{}'",
                message.id
            );
            let expected: Vec<String> = expected.iter().map(|(key, state)| format!("{key} {state}")).collect();
            assert_eq!(self.database.query(&sql).await, expected);
        }
    }

    async fn end(self) {
        self.tree.stop(Duration::from_secs(2)).await;
        self.store.close().await;
    }
}

/// What the message says after the first try, and how many tries the hub makes by itself when the second one works.
fn table(failure: SendFailure, key: SendKey) -> (DeliveryStatus, usize) {
    use DeliveryStatus::{Failed, Sent, Unknown};
    match (failure, key) {
        // Not in the list below, because it waits for its link: actors/tests/links.rs.
        (SendFailure::NotConnected | SendFailure::Unreachable | SendFailure::RateLimited { .. }, _)
        | (SendFailure::AnswerLost | SendFailure::PlatformFailed, SendKey::Forever) => (Sent, 2),
        (SendFailure::AnswerLost | SendFailure::PlatformFailed, SendKey::None) => (Unknown, 1),
        (
            SendFailure::Unauthorized | SendFailure::Refused | SendFailure::Unsupported | SendFailure::ForbiddenAddress,
            _,
        ) => (Failed, 1),
    }
}

const FAILURES: [(&str, SendFailure); 8] = [
    ("unreachable", SendFailure::Unreachable),
    ("answer-lost", SendFailure::AnswerLost),
    ("platform-failed", SendFailure::PlatformFailed),
    (
        "rate-limited",
        SendFailure::RateLimited {
            after: Duration::from_millis(500),
        },
    ),
    ("unauthorized", SendFailure::Unauthorized),
    ("refused", SendFailure::Refused),
    ("unsupported", SendFailure::Unsupported),
    ("forbidden-address", SendFailure::ForbiddenAddress),
];

async fn every_failure_has_its_outcome(kind: Kind) {
    for key in [SendKey::Forever, SendKey::None] {
        let bed = Bed::start(kind, key).await;
        join_all(FAILURES.map(|(name, failure)| one_row(&bed, key, name, failure))).await;
        bed.end().await;
    }
}

async fn one_row(bed: &Bed, key: SendKey, name: &str, failure: SendFailure) {
    let (status, tries) = table(failure, key);
    let context = format!("{name}, {key:?}");
    let (account, chat) = bed.chat(name).await;
    bed.platform
        .answer(name, [Err(SendError::with_detail(failure, "its own words"))]);
    let sent = bed.send(chat, name, None).await;
    let message = bed.until(&context, sent.id, status).await;
    let made = bed.tries(name);
    assert_eq!(made.len(), tries, "{context}");
    if status == DeliveryStatus::Sent {
        assert_eq!(message.status_reason, None, "{context}");
        bed.assert_entry(&message, None).await;
    } else {
        let expected = format!("{} (its own words)", failure.sentence());
        assert_eq!(message.status_reason, Some(expected), "{context}");
        bed.assert_entry(&message, Some((&made[0], "stopped"))).await;
        let retried = bed.retry(&message).await.unwrap();
        assert_eq!(
            (retried.id, retried.status),
            (sent.id, DeliveryStatus::Sent),
            "{context}"
        );
        assert_eq!(retried.status_reason, None, "{context}");
    }
    let keys: BTreeSet<String> = bed.tries(name).into_iter().collect();
    assert_eq!(keys.len(), 1, "{context}: every try has the same key");
    let state = ports::Store::account(&bed.store, account.id)
        .await
        .unwrap()
        .unwrap()
        .state;
    let expected = AccountState::Live;
    assert_eq!(
        state, expected,
        "{context}: a retry that works brings an account back whose credentials were refused"
    );
}

/// Each state in which a message can be, and whether a retry is taken.
async fn only_failed_and_unknown_messages_are_retried(kind: Kind) {
    let bed = Bed::start(kind, SendKey::None).await;
    let (account, chat) = bed.chat("chat").await;
    let refused =
        |result: Result<Message, CommandError>| matches!(result, Err(CommandError::Refused(Refusal::NotRetryable)));
    let lost = SendFailure::AnswerLost;
    bed.platform
        .answer("chat", [Err(SendError::new(lost)), Err(SendError::new(lost))]);
    let unknown = bed.send(chat, "unknown", PATIENCE).await;
    assert_eq!(unknown.status, DeliveryStatus::Unknown);
    let still = bed.retry(&unknown).await.unwrap();
    assert_eq!(still.status, DeliveryStatus::Unknown, "its second answer was lost too");
    assert_eq!(still.status_reason.as_deref(), Some(lost.sentence()));
    let sent = bed.retry(&unknown).await.unwrap();
    assert_eq!(sent.status, DeliveryStatus::Sent);
    assert_eq!(
        bed.tries("chat").iter().collect::<BTreeSet<_>>().len(),
        1,
        "three tries, one key"
    );
    assert!(refused(bed.retry(&sent).await), "sent");

    for status in [DeliveryStatus::Delivered, DeliveryStatus::Read] {
        let receipt = InboundKind::Receipt {
            message: sent.external_id.clone().unwrap(),
            status,
            reason: None,
            at: Clock::system().now(),
        };
        commit(&bed, &account, receipt).await;
        let message = bed.message(sent.id).await;
        assert_eq!(message.status, status);
        assert!(refused(bed.retry(&message).await), "{status:?}");
    }

    let wait = SendFailure::RateLimited {
        after: Duration::from_secs(600),
    };
    bed.platform.answer("chat", [Err(SendError::new(wait))]);
    let queued = bed.send(chat, "queued", None).await;
    support::until("the first try of it has ended", async || {
        (bed.tries("chat").len() == 4).then_some(())
    })
    .await;
    let queued = bed.until("it waits", queued.id, DeliveryStatus::Queued).await;
    let again = bed.tree.retry(bed.user_id, chat, queued.id, None).await.unwrap();
    assert_eq!(
        (again.is_repeat, &again.message),
        (true, &queued),
        "it is on its way already"
    );
    let received = received(&bed).await;
    assert!(refused(bed.retry(&received).await), "received");
    assert_eq!(bed.tries("chat").len(), 4, "none of these retries has sent anything");
    bed.end().await;
}

async fn commit(bed: &Bed, account: &Account, kind: InboundKind) {
    let event = InboundEvent {
        kind,
        ..crate::scripted::message_event("chat", "x")
    };
    let change = Change::Inbound {
        account_id: account.id,
        conversation: ExternalId::from("chat"),
        events: vec![event],
        link: None,
    };
    let append = Append {
        user_id: bed.user_id,
        change,
    };
    let answers = ports::Store::commit(&bed.store, vec![append]).await.unwrap();
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
}

/// The message with which the chat began.
async fn received(bed: &Bed) -> Message {
    let events = bed
        .store
        .stream_page(bed.user_id, hub_actors::Seq(0), 1)
        .await
        .unwrap()
        .events;
    let hub_actors::domain::EventKind::MessageReceived { message, .. } = &events[0].kind else {
        panic!("the stream begins with what came in: {:?}", events[0].kind.name());
    };
    (**message).clone()
}
