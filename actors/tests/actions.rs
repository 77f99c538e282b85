//! What a person does to a message that is on its platform: it changes when the platform has taken it, never before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use hub_actors::domain::{
    Account, Act, Append, Appended, Change, EventKind, InboundKind, Message, NewAction, OutboxEntry, Receipt, Refusal,
    SendReport,
};
use hub_actors::ports::AppendError;
use hub_actors::{MessageId, OutboxId};
use support::{MemoryStore, START, message_event};

struct Bench {
    store: Arc<MemoryStore>,
    account: Account,
    /// An own message and one that came in.
    own: MessageId,
    theirs: MessageId,
}

impl Bench {
    fn new() -> Self {
        let (store, account) = MemoryStore::with_account();
        let mut events = vec![message_event("chat", "1"), message_event("chat", "2")];
        if let InboundKind::Message(message) = &mut events[0].kind {
            message.is_outgoing = true;
        }
        let change = Change::Inbound {
            account_id: account.id,
            conversation: "chat".into(),
            events,
            link: None,
        };
        let user_id = account.user_id;
        store.apply(&Append { user_id, change }).unwrap();
        let id = |name: &str| {
            store.rows(|rows| {
                let mut messages = rows.workspace.messages.values();
                messages
                    .find(|one| one.external_id.as_ref().is_some_and(|id| id.as_str() == name))
                    .unwrap()
                    .id
            })
        };
        let (own, theirs) = (id("1"), id("2"));
        Self {
            store,
            account,
            own,
            theirs,
        }
    }

    fn message(&self, id: MessageId) -> Message {
        self.store.rows(|rows| rows.workspace.messages[&id].clone())
    }

    fn new_action(&self, id: MessageId, act: Act) -> NewAction {
        NewAction {
            outbox_id: OutboxId::generate(START),
            conversation_id: self.message(id).conversation_id,
            message_id: id,
            act,
        }
    }

    fn apply(&self, change: Change) -> Result<Appended, AppendError> {
        let user_id = self.account.user_id;
        self.store.apply(&Append { user_id, change })
    }

    fn queue(&self, id: MessageId, act: Act) -> OutboxEntry {
        let change = Change::Act(Box::new(self.new_action(id, act)));
        *self.apply(change).unwrap().outbox.expect("something goes out")
    }

    fn refusal(&self, id: MessageId, act: Act) -> Option<Refusal> {
        match self.apply(Change::Act(Box::new(self.new_action(id, act)))) {
            Err(AppendError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    fn end(&self, entry: &OutboxEntry, report: SendReport) -> Vec<EventKind> {
        let entry = Box::new(entry.clone());
        let appended = self.apply(Change::SendEnded { entry, report }).unwrap();
        appended.events.into_iter().map(|event| event.kind).collect()
    }

    fn waiting(&self) -> usize {
        self.store.rows(|rows| rows.workspace.outbox.len())
    }
}

fn edit(text: &str) -> Act {
    Act::Edit { text: text.to_owned() }
}

fn react(is_active: bool) -> Act {
    let emoji = "\u{1f44d}".to_owned();
    Act::React { emoji, is_active }
}

fn taken() -> SendReport {
    SendReport::Sent(Receipt::default())
}

#[test]
fn an_edit_shows_when_it_is_taken() {
    let bench = Bench::new();
    let before = bench.message(bench.own);
    let entry = bench.queue(bench.own, edit("better"));
    assert_eq!((bench.message(bench.own), bench.waiting()), (before, 1));
    let events = bench.end(&entry, taken());
    assert!(matches!(events.as_slice(), [EventKind::MessageEdited { message }] if message.content == "better"));
    assert_eq!(
        (bench.message(bench.own).content.as_str(), bench.waiting()),
        ("better", 0)
    );
}

#[test]
fn what_the_platform_refuses_leaves_no_trace() {
    let bench = Bench::new();
    for act in [edit("worse"), Act::Delete, react(true)] {
        let before = bench.message(bench.own);
        let entry = bench.queue(bench.own, act);
        let reason = "too late".to_owned();
        assert_eq!(bench.end(&entry, SendReport::Failed { reason }), []);
        assert_eq!((bench.message(bench.own), bench.waiting()), (before, 0));
    }
}

#[test]
fn an_edit_that_the_platform_told_of_first_is_not_told_twice() {
    let bench = Bench::new();
    let entry = bench.queue(bench.own, edit("better"));
    let mut echo = message_event("chat", "1");
    echo.kind = InboundKind::Edited {
        message: "1".into(),
        text: "better".to_owned(),
        at: START,
    };
    bench
        .apply(Change::Inbound {
            account_id: bench.account.id,
            conversation: "chat".into(),
            events: vec![echo],
            link: None,
        })
        .unwrap();
    assert_eq!(bench.message(bench.own).content, "better");
    assert_eq!(bench.end(&entry, taken()), []);
}

#[test]
fn a_reaction_comes_and_goes_and_a_deletion_stays() {
    let bench = Bench::new();
    for is_active in [true, false] {
        let entry = bench.queue(bench.theirs, react(is_active));
        bench.end(&entry, taken());
        let reactions = bench.message(bench.theirs).reactions;
        assert_eq!((reactions.len(), reactions[0].is_active), (1, is_active));
        assert_eq!(reactions[0].actor_id, "me");
    }
    let late = bench.queue(bench.own, edit("too late"));
    let entry = bench.queue(bench.own, Act::Delete);
    assert!(matches!(
        bench.end(&entry, taken()).as_slice(),
        [EventKind::MessageDeleted { .. }]
    ));
    assert_eq!(bench.end(&late, taken()), []);
    assert_eq!(bench.message(bench.own).content, "");
    assert_eq!(bench.refusal(bench.own, Act::Delete), Some(Refusal::NoMessage));
}

#[test]
fn what_cannot_be_is_refused() {
    let bench = Bench::new();
    assert_eq!(bench.refusal(bench.theirs, edit("x")), Some(Refusal::NotOwn));
    bench
        .store
        .rows(|rows| rows.workspace.messages.get_mut(&bench.own).unwrap().external_id = None);
    assert_eq!(bench.refusal(bench.own, Act::Delete), Some(Refusal::NotSent));
    bench.store.rows(|rows| {
        let account = rows.workspace.accounts.get_mut(&bench.account.id).unwrap();
        account.is_active = false;
    });
    assert_eq!(
        bench.refusal(bench.theirs, react(true)),
        Some(Refusal::AccountDisconnected)
    );
    assert_eq!(bench.waiting(), 0);
}

#[test]
fn a_repeated_append_queues_nothing_new() {
    let bench = Bench::new();
    let new = Box::new(bench.new_action(bench.own, edit("better")));
    for _ in 0..2 {
        let appended = bench.apply(Change::Act(new.clone())).unwrap();
        assert_eq!(appended.outbox.map(|entry| entry.id), Some(new.outbox_id));
    }
    assert_eq!(bench.waiting(), 1);
}
