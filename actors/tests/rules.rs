//! The rules where they are easily got wrong: answers that name another message, what happens twice in a batch, old
//! messages, accounts that are gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use hub_actors::domain::{
    Account, AccountState, Append, Change, Conversation, DeliveryStatus, EventKind, InboundEvent, InboundKind, Message,
    OutboxEntry, Receipt, Refusal, SendReport,
};
use hub_actors::ports::AppendError;
use hub_actors::{ExternalId, MessageId};
use support::{MemoryStore, START, message_event, new_message};
use time::Duration;

struct Bench {
    store: Arc<MemoryStore>,
    account: Account,
}

impl Bench {
    fn new() -> Self {
        let (store, account) = MemoryStore::with_account();
        Self { store, account }
    }

    fn apply(&self, change: Change) -> Result<Vec<EventKind>, AppendError> {
        let user_id = self.account.user_id;
        let appended = self.store.apply(&Append { user_id, change })?;
        Ok(appended.events.into_iter().map(|event| event.kind).collect())
    }

    fn inbound(&self, events: Vec<InboundEvent>) -> Change {
        Change::Inbound {
            account_id: self.account.id,
            conversation: ExternalId::from("chat"),
            events,
            link: None,
        }
    }

    fn chat(&self) -> Conversation {
        self.store
            .rows(|rows| rows.workspace.conversations.values().next().unwrap().clone())
    }

    fn message(&self, id: MessageId) -> Option<Message> {
        self.store.rows(|rows| rows.workspace.messages.get(&id).cloned())
    }

    fn named(&self, external_id: &str) -> MessageId {
        self.store
            .rows(|rows| rows.workspace.message_ids[&(self.chat_id(rows), ExternalId::from(external_id))])
    }

    fn chat_id(&self, rows: &support::Rows) -> hub_actors::ConversationId {
        rows.workspace.conversation_ids[&(self.account.id, ExternalId::from("chat"))]
    }

    fn queue(&self, text: &str) -> (MessageId, OutboxEntry) {
        let new = new_message(self.chat().id, text);
        let (id, user_id) = (new.id, self.account.user_id);
        let change = Change::Queue(Box::new(new));
        let appended = self.store.apply(&Append { user_id, change }).unwrap();
        (id, appended.queued.unwrap().entry.unwrap())
    }

    fn end(&self, entry: &OutboxEntry, report: SendReport) {
        let entry = Box::new(entry.clone());
        self.apply(Change::SendEnded { entry, report }).unwrap();
    }

    /// The platform takes it and answers with this id.
    fn answer(&self, entry: &OutboxEntry, external_id: &str) {
        let external_id = Some(ExternalId::from(external_id));
        self.end(entry, SendReport::Sent(Receipt { external_id }));
    }
}

fn about(kind: InboundKind) -> InboundEvent {
    InboundEvent {
        kind,
        ..message_event("chat", "any")
    }
}

fn said(id: &str, second: i64, is_history: bool, is_read: bool) -> InboundEvent {
    let mut event = message_event("chat", id);
    if let InboundKind::Message(message) = &mut event.kind {
        message.sent_at = START + Duration::seconds(second);
        message.is_history = is_history;
        message.is_read = is_read;
    }
    event
}

fn deleted(id: &str) -> InboundEvent {
    about(InboundKind::Deleted {
        message: ExternalId::from(id),
        at: START,
    })
}

fn seen_up_to(id: &str) -> InboundEvent {
    about(InboundKind::SeenUpTo {
        message: ExternalId::from(id),
        by_peer: false,
        at: START,
    })
}

fn reacted(actor: usize) -> InboundEvent {
    about(InboundKind::Reaction {
        message: ExternalId::from("m"),
        actor_id: format!("actor {actor}"),
        emoji: "👍".to_owned(),
        is_active: true,
        at: START,
    })
}

#[test]
fn an_answer_that_names_another_message_deletes_nothing() {
    let bench = Bench::new();
    bench
        .apply(bench.inbound(vec![message_event("chat", "theirs")]))
        .unwrap();
    let theirs = bench.named("theirs");
    let sent = |id: MessageId, external_id: Option<&str>| {
        let message = bench.message(id).expect("it is still there");
        assert_eq!(message.status, DeliveryStatus::Sent);
        assert_eq!(message.external_id.as_ref().map(ExternalId::as_str), external_id);
    };
    // A receiver that gives every message the same id.
    let (first, entry) = bench.queue("first");
    bench.answer(&entry, "ok");
    let (second, entry) = bench.queue("second");
    bench.answer(&entry, "ok");
    sent(first, Some("ok"));
    sent(second, None);
    // One that fails, and is tried again after a later one was taken.
    let (failed, entry) = bench.queue("failed");
    let reason = "no".to_owned();
    bench.end(&entry, SendReport::Failed { reason });
    let (later, later_entry) = bench.queue("later");
    bench.answer(&later_entry, "fine");
    let conversation_id = bench.chat().id;
    bench
        .apply(Change::Retry {
            message_id: failed,
            conversation_id,
        })
        .unwrap();
    bench.answer(&entry, "fine");
    sent(later, Some("fine"));
    sent(failed, None);
    // One that answers with the id of what was replied to.
    let (reply, entry) = bench.queue("reply");
    bench.answer(&entry, "theirs");
    sent(reply, None);
    assert!(bench.message(theirs).is_some());
    assert_eq!(bench.chat().unread_count, 1);
    let deleted = bench.store.rows(|rows| {
        let kinds = rows.events.iter().map(|event| &event.kind);
        kinds
            .filter(|kind| matches!(kind, EventKind::MessageDeleted { .. }))
            .count()
    });
    assert_eq!(deleted, 0);
}

#[test]
fn what_became_read_earlier_in_a_batch_is_counted_once() {
    let bench = Bench::new();
    let user_id = bench.account.user_id;
    let messages = ["5", "6", "7"].map(|id| message_event("chat", id));
    bench.apply(bench.inbound(messages.to_vec())).unwrap();
    bench.apply(bench.inbound(vec![deleted("5"), seen_up_to("6")])).unwrap();
    assert_eq!(bench.chat().unread_count, 1);
    let messages = ["8", "9", "10"].map(|id| message_event("chat", id));
    bench.apply(bench.inbound(messages.to_vec())).unwrap();
    assert_eq!(bench.chat().unread_count, 4);
    let read = |id: &str| Change::ReadMessage {
        message_id: bench.named(id),
        conversation_id: bench.chat().id,
    };
    let batch = [
        read("8"),
        read("10"),
        bench.inbound(vec![seen_up_to("9")]),
        bench.inbound(vec![message_event("chat", "11"), seen_up_to("9")]),
    ];
    for answer in bench
        .store
        .apply_together(&batch.map(|change| Append { user_id, change }))
    {
        answer.unwrap();
    }
    assert_eq!(bench.chat().unread_count, 1, "11");
}

#[test]
fn a_message_may_bring_any_number_of_reactions() {
    let bench = Bench::new();
    let early: Vec<InboundEvent> = (0..257).map(reacted).collect();
    let refused = bench.apply(bench.inbound(early));
    assert!(matches!(refused, Err(AppendError::Refused(Refusal::TooManyParked))));
    let events = std::iter::once(message_event("chat", "m")).chain((0..300).map(reacted));
    bench.apply(bench.inbound(events.collect())).unwrap();
    assert_eq!(bench.message(bench.named("m")).unwrap().reactions.len(), 300);
}

#[test]
fn a_disconnected_account_takes_no_state_but_disabled() {
    let bench = Bench::new();
    let account_id = bench.account.id;
    bench.store.rows(|rows| {
        let account = rows.workspace.accounts.get_mut(&account_id).unwrap();
        (account.is_active, account.state) = (false, AccountState::Disabled);
    });
    let tell = |state, reason: &str| {
        let change = Change::AccountState {
            account_id,
            state,
            reason: Some(reason.to_owned()),
            until: None,
        };
        bench.apply(change).unwrap().len()
    };
    assert_eq!(tell(AccountState::NeedsLogin, "a late 401"), 0);
    assert_eq!(tell(AccountState::Live, "a late 200"), 0);
    let state = bench.store.rows(|rows| rows.workspace.accounts[&account_id].state);
    assert_eq!(state, AccountState::Disabled);
    assert_eq!(tell(AccountState::Disabled, "You disconnected it."), 1);
}

#[test]
fn what_changes_in_the_list_is_told_to_who_does_not_follow_history() {
    let bench = Bench::new();
    let names = |events: Vec<InboundEvent>| -> Vec<&'static str> {
        let kinds = bench.apply(bench.inbound(events)).unwrap();
        kinds.iter().map(EventKind::name).collect()
    };
    assert_eq!(names(vec![said("a", 10, false, true)]), ["message_received"]);
    assert_eq!(
        names(vec![said("b", 5, true, true)]),
        ["message_received"],
        "an older one"
    );
    let told = ["message_received", "conversation_changed"];
    assert_eq!(names(vec![said("c", 20, true, true)]), told, "a newer one");
    assert_eq!(names(vec![said("d", 4, true, false)]), told, "an unread one");
    let both = vec![said("e", 25, true, true), said("f", 30, false, true)];
    assert_eq!(names(both), ["message_received"; 2], "the last one tells all");
    let mut renamed = about(InboundKind::Profile);
    renamed.profile.name = Some("a new name".to_owned());
    assert_eq!(names(vec![said("g", 40, false, true), renamed]), told);
}
