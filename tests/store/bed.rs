//! A store on a fresh database, and short ways to fill it.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hub_actors::domain::{
    Account, AccountState, Append, Appended, Change, Conversation, ConversationProfile, Credentials, InboundEvent,
    InboundKind, InboundMessage, Message, MessageKind, NewMessage, OutboxEntry,
};
use hub_actors::ports::{AppendError, Store as _, StreamPage};
use hub_actors::{AccountId, Clock, ConversationId, ExternalId, MessageId, OutboxId, PlatformId, Seq, UserId};
use messaging_hub::settings::{DatabaseSettings, RetentionSettings};
use messaging_hub::store::{ConversationFilter, MessageRange, NewAccount, Store, User};
use messaging_hub::vault::{MasterKey, Vault};
use tempfile::TempDir;
use time::OffsetDateTime;

pub const MASTER: &str = "7f3a000000000000000000000000000000000000000000000000000000000001";

/// A store on a database of its own.
pub struct Bed {
    pub store: Store,
    pub clock: Clock,
    pub vault: Vault,
    pub settings: DatabaseSettings,
    _folder: Option<TempDir>,
    /// Admin URL and name of the database to drop.
    database: Option<(String, String)>,
}

/// Runs a test on the embedded database and on a real PostgreSQL.
pub fn on_each_database<F: Future<Output = Bed>>(test: impl Fn(Bed) -> F) {
    on_embedded(&test);
    on_real(&test);
}

/// Runs a test on the embedded database.
pub fn on_embedded<F: Future<Output = Bed>>(test: impl Fn(Bed) -> F) {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings {
            path: folder.path().to_owned(),
            connect_timeout_seconds: 30,
            ..DatabaseSettings::default()
        };
        let bed = Bed::on(settings, Some(folder), None).await;
        test(bed).await.store.close().await;
    });
}

/// Runs a test on a real PostgreSQL.
///
/// # Panics
/// When `HUB_TEST_POSTGRES_URL` is missing: `./test.sh` starts a server and sets it.
pub fn on_real<F: Future<Output = Bed>>(test: impl Fn(Bed) -> F) {
    let admin = std::env::var("HUB_TEST_POSTGRES_URL")
        .expect("HUB_TEST_POSTGRES_URL must name a PostgreSQL to make databases in: run ./test.sh, which starts one");
    runtime().block_on(async {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hub_test_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        ask(&admin, &format!("CREATE DATABASE {name}")).await;
        let mut url = url::Url::parse(&admin).unwrap();
        url.set_path(&name);
        let settings = DatabaseSettings {
            url: url.to_string().into(),
            pool_size: 8,
            ..DatabaseSettings::default()
        };
        let bed = Bed::on(settings, None, Some((admin.clone(), name))).await;
        let bed = test(bed).await;
        bed.store.close().await;
        let (admin, name) = bed.database.unwrap();
        ask(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs a statement past the store, on a real database.
pub async fn ask(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let running = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    running.await.unwrap().unwrap();
}

impl Bed {
    async fn on(settings: DatabaseSettings, folder: Option<TempDir>, database: Option<(String, String)>) -> Self {
        let clock = Clock::system();
        let vault = Vault::default();
        let master = MasterKey::parse(MASTER).unwrap();
        let store = Store::connect_with_retention(
            &settings,
            &RetentionSettings::default(),
            vault.clone(),
            master,
            clock.clone(),
        )
        .await
        .unwrap();
        Self {
            store,
            clock,
            vault,
            settings,
            _folder: folder,
            database,
        }
    }

    /// Another hub on the same database.
    pub async fn another_hub(&self) -> Store {
        let vault = Vault::default();
        let master = MasterKey::parse(MASTER).unwrap();
        Store::connect(&self.settings, vault, master, self.clock.clone())
            .await
            .unwrap()
    }

    /// Asks a real database past the store.
    pub async fn rows(&self, sql: &str) -> Vec<tokio_postgres::Row> {
        let url = secrecy::ExposeSecret::expose_secret(&self.settings.url);
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let running = tokio::spawn(connection);
        let rows = client.query(sql, &[]).await.unwrap();
        drop(client);
        running.await.unwrap().unwrap();
        rows
    }

    /// Moves the clock of the store forwards.
    pub fn later(&self, by: Duration) {
        self.clock.shift(by, false);
    }

    pub async fn user(&self, name: &str) -> User {
        let email = format!("{name}@example.com");
        self.store.create_user(&email, "$2b$12$hash").await.unwrap().unwrap()
    }

    pub async fn account(&self, user: UserId, external_id: &str) -> Account {
        self.store
            .create_account(self.new_account(user, external_id))
            .await
            .unwrap()
    }

    pub fn new_account(&self, user_id: UserId, external_id: &str) -> NewAccount {
        let mut credentials = Credentials::default();
        credentials
            .0
            .insert("secret".to_owned(), format!("secret of {external_id}").into());
        NewAccount {
            id: AccountId::generate(self.clock.now()),
            user_id,
            platform: PlatformId::from("custom"),
            external_id: ExternalId::from(external_id),
            name: Some(format!("name of {external_id}")),
            credentials,
            state: AccountState::Live,
        }
    }

    /// What must still go out; all of it can be read.
    pub async fn outbox(&self) -> Vec<OutboxEntry> {
        let ids = self.store.pending_outbox().await.unwrap();
        let page = self.store.outbox(&ids).await.unwrap();
        assert!(page.unreadable.is_empty(), "{:?}", page.unreadable);
        page.entries
    }

    /// Commits one change.
    pub async fn commit(&self, user_id: UserId, change: Change) -> Result<Appended, AppendError> {
        let mut answers = self.store.commit(vec![Append { user_id, change }]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Commits what a platform reported.
    pub async fn inbound(&self, account: &Account, chat: &str, events: Vec<InboundKind>) -> Appended {
        self.commit(account.user_id, inbound(account, chat, events))
            .await
            .unwrap()
    }

    /// A conversation with one received message.
    pub async fn conversation(&self, account: &Account, chat: &str) -> Conversation {
        let first = message(&format!("first in {chat}"), self.clock.now());
        self.inbound(account, chat, vec![first]).await;
        let page = self.conversations(account.user_id).await;
        page.into_iter().find(|one| one.external_id.as_str() == chat).unwrap()
    }

    pub async fn conversations(&self, user: UserId) -> Vec<Conversation> {
        let filter = ConversationFilter {
            platform: None,
            max_read: 100,
            limit: 100,
            offset: 0,
        };
        self.store.conversations(user, &filter).await.unwrap().conversations
    }

    pub async fn messages(&self, user: UserId, conversation: ConversationId) -> Vec<Message> {
        let range = MessageRange {
            limit: 1_000,
            offset: 0,
            before: None,
        };
        self.store
            .messages(user, conversation, &range)
            .await
            .unwrap()
            .unwrap()
            .messages
    }

    pub async fn stream(&self, user: UserId) -> StreamPage {
        self.store.stream_page(user, Seq(0), 100_000).await.unwrap()
    }

    /// Asserts that the user's stream is 1, 2, 3 … up to its end, and returns the names of its events.
    pub async fn gap_free(&self, user: UserId) -> Vec<&'static str> {
        let page = self.stream(user).await;
        let numbers: Vec<i64> = page.events.iter().map(|event| event.seq.0).collect();
        let wanted: Vec<i64> = (1..=page.state.last.0).collect();
        assert_eq!(numbers, wanted);
        page.events.iter().map(|event| event.kind.name()).collect()
    }

    pub fn new_message(&self, conversation_id: ConversationId, text: &str) -> NewMessage {
        let now = self.clock.now();
        NewMessage {
            id: MessageId::generate(now),
            outbox_id: OutboxId::generate(now),
            conversation_id,
            text: text.to_owned(),
            kind: MessageKind::Text,
            media_url: None,
            reply_to: None,
            client_id: Some("client id".to_owned()),
            idempotency: None,
        }
    }
}

/// A received message.
pub fn message(external_id: &str, at: OffsetDateTime) -> InboundKind {
    InboundKind::Message(Box::new(InboundMessage {
        external_id: ExternalId::from(external_id),
        sender_id: "peer".to_owned(),
        sender_name: Some("Peer 😀".to_owned()),
        text: format!("text of {external_id}"),
        kind: MessageKind::Text,
        media_url: None,
        attachments: Vec::new(),
        reply_to: None,
        is_outgoing: false,
        is_read: false,
        is_history: false,
        sent_at: at,
    }))
}

pub fn inbound(account: &Account, chat: &str, events: Vec<InboundKind>) -> Change {
    let events = events
        .into_iter()
        .map(|kind| InboundEvent {
            conversation: ExternalId::from(chat),
            profile: ConversationProfile {
                participant_id: Some("peer".to_owned()),
                name: Some(format!("chat {chat}")),
                avatar_url: None,
            },
            kind,
        })
        .collect();
    Change::Inbound {
        account_id: account.id,
        conversation: ExternalId::from(chat),
        events,
        link: None,
    }
}
