//! Logins in the tree, over an in-memory store and a platform that knows one code and one password.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hub_actors::domain::{Account, InboundEvent, Receipt, SendError, SendFailure};
use hub_actors::login::LoginProgress;
use hub_actors::ports::{
    Adapter, Capabilities, Delivery, LinkEnd, LinkMemory, LinkStart, LiveAdapter, LoginAnswer, LoginAttempt, LoginDone,
    LoginError, LoginRequest, LoginStep, OpenLink, Outbound, ReceiveError, SendKey, TypingNotice,
};
use hub_actors::tree::Tree;
use hub_actors::{ExternalId, LoginId, PlatformId, UserId};
use support::{MemoryStore, START, tree_of, until};

/// A platform with one account. Counts the attempts that are held and the links that were opened.
#[derive(Default)]
struct Door {
    held: Arc<AtomicUsize>,
    opens: AtomicUsize,
}

struct Platform(Arc<Door>);

struct Attempt {
    is_known: bool,
    held: Arc<AtomicUsize>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl LoginAttempt for Attempt {
    async fn answer(&mut self, answer: LoginAnswer) -> Result<LoginStep, LoginError> {
        match answer {
            LoginAnswer::Code(code) if code == "crash" => panic!("as the test wishes"),
            LoginAnswer::Code(code) if code == "old" => Err(LoginError::ExpiredCode),
            LoginAnswer::Code(code) if code == "12345" => {
                self.is_known = true;
                Ok(LoginStep::Password)
            }
            LoginAnswer::Code(_) => Err(LoginError::WrongCode),
            LoginAnswer::Password(password) if self.is_known && password == "secret" => {
                let memory = LinkMemory::from([("session".to_owned(), vec![7])]);
                Ok(LoginStep::Done(Box::new(LoginDone {
                    external_id: ExternalId::from("me"),
                    name: Some("Me".to_owned()),
                    username: None,
                    memory,
                })))
            }
            LoginAnswer::Password(_) => Err(LoginError::WrongPassword),
            LoginAnswer::Look => Err(LoginError::OutOfTurn),
        }
    }
}

#[async_trait]
impl Adapter for Platform {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_key: SendKey::Forever,
            edit: false,
            delete: false,
            reactions: false,
            read: false,
            typing: false,
            max_text: 100,
        }
    }

    fn receive(&self, _: &Account, _: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        Err(ReceiveError::Unsigned("nobody calls"))
    }

    async fn send(&self, _: &Account, _: &Outbound) -> Result<Receipt, SendError> {
        Err(SendError::new(SendFailure::Unsupported))
    }

    async fn typing(&self, _: &Account, _: &TypingNotice) {}

    fn live(&self) -> Option<&dyn LiveAdapter> {
        Some(self)
    }
}

#[async_trait]
impl LiveAdapter for Platform {
    async fn open(&self, start: LinkStart) -> Result<OpenLink, LinkEnd> {
        assert_eq!(start.memory["session"], [7]);
        self.0.opens.fetch_add(1, Ordering::SeqCst);
        Err(LinkEnd::NeedsLogin {
            reason: "enough for this test".to_owned(),
        })
    }

    async fn begin_login(&self, request: LoginRequest) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError> {
        if matches!(request, LoginRequest::Phone(number) if number == "+0") {
            return Err(LoginError::BannedPhone);
        }
        self.0.held.fetch_add(1, Ordering::SeqCst);
        let held = Arc::clone(&self.0.held);
        Ok((Box::new(Attempt { is_known: false, held }), LoginStep::Code))
    }
}

async fn setup() -> (Arc<MemoryStore>, Account, Arc<Door>, Tree) {
    let (store, account) = MemoryStore::with_account();
    store.rows(|rows| rows.workspace.leases.insert(account.id, 1));
    store.rows(|rows| rows.memory.insert("session".to_owned(), vec![7]));
    let door = Arc::new(Door::default());
    let tree = tree_of(&store, Arc::new(Platform(Arc::clone(&door)))).await;
    (store, account, door, tree)
}

async fn begin(tree: &Tree, user: UserId, number: &str) -> Result<LoginId, LoginError> {
    let request = LoginRequest::Phone(number.to_owned());
    let begun = tree.begin_login(user, PlatformId::from("scripted"), request).await;
    begun.map(|(id, progress)| {
        assert_eq!(progress, LoginProgress::Code);
        id
    })
}

fn code(text: &str) -> LoginAnswer {
    LoginAnswer::Code(text.to_owned())
}

fn password(text: &str) -> LoginAnswer {
    LoginAnswer::Password(text.to_owned())
}

#[actix_rt::test]
async fn a_login_is_kept_between_its_steps_and_links_the_account() {
    let (store, account, door, tree) = setup().await;
    let user = account.user_id;
    let id = begin(&tree, user, "+1").await.unwrap();
    let opened = door.opens.load(Ordering::SeqCst);
    assert_eq!(tree.answer_login(user, id, code("1")).await, Err(LoginError::WrongCode));
    let step = tree.answer_login(user, id, code("12345")).await;
    assert_eq!(step, Ok(LoginProgress::Password));
    assert_eq!(
        tree.answer_login(user, id, LoginAnswer::Look).await,
        Ok(LoginProgress::Password)
    );
    let wrong = tree.answer_login(user, id, password("x")).await;
    assert_eq!(wrong, Err(LoginError::WrongPassword));
    let stranger = UserId::generate(START);
    let foreign = tree.answer_login(stranger, id, password("secret")).await;
    assert_eq!(foreign, Err(LoginError::Lost));

    // The database is away just then: what the platform granted is not lost.
    store.rows(|rows| rows.is_away = true);
    let stored = tree.answer_login(user, id, password("secret")).await;
    assert_eq!(stored, Err(LoginError::NotStored));
    store.rows(|rows| rows.is_away = false);
    let done = LoginProgress::Done {
        account_id: account.id,
        username: Some("Me".to_owned()),
    };
    assert_eq!(tree.answer_login(user, id, LoginAnswer::Look).await, Ok(done.clone()));
    assert_eq!(door.held.load(Ordering::SeqCst), 0);
    assert_eq!(tree.answer_login(user, id, password("again")).await, Ok(done));
    until("the link is opened", || door.opens.load(Ordering::SeqCst) > opened).await;
    tree.stop(std::time::Duration::from_secs(4)).await;
}

#[actix_rt::test]
async fn a_login_that_is_over_says_start_again() {
    let (_store, account, door, tree) = setup().await;
    let user = account.user_id;
    assert_eq!(begin(&tree, user, "+0").await, Err(LoginError::BannedPhone));
    for (last, error) in [("old", LoginError::ExpiredCode), ("crash", LoginError::Lost)] {
        let id = begin(&tree, user, "+1").await.unwrap();
        assert_eq!(tree.answer_login(user, id, code(last)).await, Err(error));
        assert_eq!(tree.answer_login(user, id, code("12345")).await, Err(LoginError::Lost));
    }
    until("nothing is held any more", || door.held.load(Ordering::SeqCst) == 0).await;
    let nobody = LoginId::generate(START);
    assert_eq!(
        tree.answer_login(user, nobody, code("12345")).await,
        Err(LoginError::Lost)
    );
    tree.stop(std::time::Duration::from_secs(4)).await;
}

#[actix_rt::test]
async fn a_newer_login_ends_the_older_one() {
    let (_store, account, door, tree) = setup().await;
    let user = account.user_id;
    let first = begin(&tree, user, "+1").await.unwrap();
    let second = begin(&tree, user, "+1").await.unwrap();
    until("the first one ends", || door.held.load(Ordering::SeqCst) == 1).await;
    assert_eq!(tree.answer_login(user, first, code("1")).await, Err(LoginError::Lost));
    assert_eq!(
        begin(&tree, UserId::generate(START), "+1").await,
        Err(LoginError::NumberBusy)
    );
    for number in ["+2", "+3", "+4"] {
        begin(&tree, user, number).await.unwrap();
    }
    until("three are left", || door.held.load(Ordering::SeqCst) == 3).await;
    assert_eq!(tree.answer_login(user, second, code("1")).await, Err(LoginError::Lost));
    tree.stop(std::time::Duration::from_secs(4)).await;
}
