//! P8: whatever the order in which a message and what happens to it arrive, all ends in the same state; and what a
//! client builds from the events is what a fresh look shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers in tests are small"
)]

mod support;

use std::collections::BTreeMap;

use hub_actors::domain::{
    Append, Change, DeliveryStatus, EventKind, InboundEvent, InboundKind, Message, Receipt, SendReport,
};
use hub_actors::{ConversationId, ExternalId, MessageId};
use proptest::prelude::*;
use support::{MemoryStore, START, message_event, new_message};
use time::Duration;

fn happened(kind: InboundKind) -> InboundEvent {
    InboundEvent {
        kind,
        ..message_event("chat", "m")
    }
}

fn own_message() -> InboundEvent {
    let mut event = message_event("chat", "m");
    if let InboundKind::Message(message) = &mut event.kind {
        message.is_outgoing = true;
    }
    event
}

fn edited(text: &str, second: i64) -> InboundEvent {
    happened(InboundKind::Edited {
        message: ExternalId::from("m"),
        text: text.to_owned(),
        at: START + Duration::seconds(second),
    })
}

fn reacted(actor: &str, is_active: bool, second: i64) -> InboundEvent {
    happened(InboundKind::Reaction {
        message: ExternalId::from("m"),
        actor_id: actor.to_owned(),
        emoji: "👍".to_owned(),
        is_active,
        at: START + Duration::seconds(second),
    })
}

fn receipt(status: DeliveryStatus, second: i64) -> InboundEvent {
    let at = START + Duration::seconds(second);
    happened(InboundKind::Receipt {
        message: ExternalId::from("m"),
        status,
        reason: None,
        at,
    })
}

fn deleted() -> InboundEvent {
    happened(InboundKind::Deleted {
        message: ExternalId::from("m"),
        at: START + Duration::seconds(90),
    })
}

/// Everything of a message that does not depend on when the hub saw it.
fn essence(message: &Message) -> String {
    let mut reactions: Vec<_> = message
        .reactions
        .iter()
        .map(|one| (&one.actor_id, &one.emoji, one.is_active, one.at))
        .collect();
    reactions.sort();
    let Message {
        content,
        status,
        edited_at,
        deleted_at,
        delivered_at,
        read_at,
        is_read,
        ..
    } = message;
    format!("{content:?} {status:?} {edited_at:?} {deleted_at:?} {delivered_at:?} {read_at:?} {is_read} {reactions:?}")
}

/// The message's essence and the unread count after the events, each delivered `copies` times.
fn outcome(events: &[InboundEvent], copies: usize) -> (String, i32) {
    let (store, account) = MemoryStore::with_account();
    let chat = ExternalId::from("chat");
    for event in events {
        for _ in 0..copies {
            let change = Change::Inbound {
                account_id: account.id,
                conversation: chat.clone(),
                events: vec![event.clone()],
                link: None,
            };
            store
                .apply(&Append {
                    user_id: account.user_id,
                    change,
                })
                .unwrap();
        }
    }
    store.rows(|rows| {
        assert_eq!(rows.workspace.messages.len(), 1, "one message, however often it came");
        let numbers: Vec<i64> = rows.events.iter().map(|event| event.seq.0).collect();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
        let kinds: Vec<_> = rows.events.iter().map(|event| &event.kind).collect();
        assert_eq!(followed(&kinds), fresh(rows));
        assert_climbing(&kinds);
        let message = rows.workspace.messages.values().next().unwrap();
        let conversation = rows.workspace.conversations.values().next().unwrap();
        (essence(message), conversation.unread_count)
    })
}

/// Receipts never go backwards on the way either: no event takes back what an earlier one has shown.
fn assert_climbing(kinds: &[&EventKind]) {
    let mut ranks: BTreeMap<MessageId, u8> = BTreeMap::new();
    for kind in kinds {
        if let EventKind::StatusChanged { message } = kind {
            let shown = ranks.entry(message.id).or_default();
            assert!(message.status.rank() >= *shown, "{:?} after {shown}", message.status);
            *shown = message.status.rank();
        }
    }
}

type View = (BTreeMap<MessageId, String>, BTreeMap<ConversationId, i32>);

/// What a client knows that only follows the events.
fn followed(kinds: &[&EventKind]) -> View {
    let mut messages: BTreeMap<MessageId, Message> = BTreeMap::new();
    let mut unread = BTreeMap::new();
    for kind in kinds {
        if let Some(conversation) = kind.conversation() {
            unread.insert(conversation.id, conversation.unread_count);
        }
        match kind {
            EventKind::MessageReceived { message, .. }
            | EventKind::MessageQueued { message, .. }
            | EventKind::MessageEdited { message }
            | EventKind::StatusChanged { message } => {
                messages.insert(message.id, (**message).clone());
            }
            EventKind::MessageDeleted { message_id, .. } => {
                messages.remove(message_id);
            }
            EventKind::ReactionAdded {
                message_id, reaction, ..
            }
            | EventKind::ReactionRemoved {
                message_id, reaction, ..
            } => {
                let reactions = &mut messages.get_mut(message_id).unwrap().reactions;
                reactions.retain(|known| known.actor_id != reaction.actor_id || known.emoji != reaction.emoji);
                reactions.push(reaction.clone());
            }
            EventKind::ConversationChanged { read, .. } => {
                for id in read {
                    if let Some(message) = messages.get_mut(id) {
                        message.is_read = true;
                    }
                }
            }
            EventKind::AccountChanged { .. } => {}
        }
    }
    messages.retain(|_, message| message.deleted_at.is_none());
    (
        messages
            .into_iter()
            .map(|(id, message)| (id, shown(&message)))
            .collect(),
        unread,
    )
}

/// What a fresh look shows; a deleted message is not shown.
fn fresh(rows: &support::Rows) -> View {
    let messages = rows
        .workspace
        .messages
        .values()
        .filter(|message| message.deleted_at.is_none());
    let conversations = rows.workspace.conversations.values();
    (
        messages.map(|message| (message.id, shown(message))).collect(),
        conversations
            .map(|conversation| (conversation.id, conversation.unread_count))
            .collect(),
    )
}

fn shown(message: &Message) -> String {
    let mut reactions: Vec<_> = message
        .reactions
        .iter()
        .filter(|one| one.is_active)
        .map(|one| &one.actor_id)
        .collect();
    reactions.sort();
    format!(
        "{:?} {:?} {} {reactions:?}",
        message.content, message.status, message.is_read
    )
}

fn incoming() -> Vec<InboundEvent> {
    vec![
        message_event("chat", "m"),
        edited("first edit", 10),
        edited("second edit", 20),
        reacted("ann", true, 5),
        reacted("ann", false, 6),
        reacted("bob", true, 7),
    ]
}

fn outgoing() -> Vec<InboundEvent> {
    vec![
        own_message(),
        receipt(DeliveryStatus::Delivered, 10),
        receipt(DeliveryStatus::Read, 20),
        edited("edit", 15),
        reacted("ann", true, 5),
    ]
}

fn with_deletion(mut events: Vec<InboundEvent>) -> Vec<InboundEvent> {
    events.push(deleted());
    events
}

/// The essence of a message that this hub sends, after the platform's answer (`None`) and what the platform reports of it.
fn outcome_of_send(steps: &[Option<InboundEvent>]) -> String {
    let (store, account) = MemoryStore::with_account();
    let chat = ExternalId::from("chat");
    let user_id = account.user_id;
    let apply = |change| store.apply(&Append { user_id, change }).unwrap();
    let inbound = |event| Change::Inbound {
        account_id: account.id,
        conversation: chat.clone(),
        events: vec![event],
        link: None,
    };
    apply(inbound(message_event("chat", "before")));
    let conversation_id = store.rows(|rows| *rows.workspace.conversations.keys().next().unwrap());
    let new = new_message(conversation_id, "hello");
    let id = new.id;
    let entry = apply(Change::Queue(Box::new(new))).queued.unwrap().entry.unwrap();
    for step in steps {
        let receipt = Receipt {
            external_id: Some(ExternalId::from("m")),
        };
        apply(match step {
            Some(event) => inbound(event.clone()),
            None => Change::SendEnded {
                entry: Box::new(entry.clone()),
                report: SendReport::Sent(receipt),
            },
        });
    }
    store.rows(|rows| {
        assert_eq!(rows.workspace.messages.len(), 2, "the echo is no message of its own");
        assert!(rows.workspace.outbox.is_empty(), "nothing is left to send");
        let kinds: Vec<_> = rows.events.iter().map(|event| &event.kind).collect();
        assert_eq!(followed(&kinds), fresh(rows));
        assert_climbing(&kinds);
        essence(&rows.workspace.messages[&id])
    })
}

fn sending() -> Vec<Option<InboundEvent>> {
    std::iter::once(None).chain(outgoing().into_iter().map(Some)).collect()
}

/// All orders of so many things, by their places.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    });
    longer.collect()
}

/// Not a sample: each of the 720 orders of message, edit, reaction, deletion, delivered and read; each delivered once and
/// twice; of a message that the platform tells of, and of one that this hub sends, whose answer is then one of the six.
#[test]
fn all_720_orders_of_six_events_end_alike() {
    let events = [
        own_message(),
        edited("edit", 15),
        reacted("ann", true, 5),
        deleted(),
        receipt(DeliveryStatus::Delivered, 10),
        receipt(DeliveryStatus::Read, 20),
    ];
    let all = orders(events.len());
    assert_eq!(all.len(), 720);
    let (expected, expected_of_send) = (outcome(&events, 1), outcome_of_send(&answered(&events)));
    for order in all {
        let ordered: Vec<InboundEvent> = order.iter().map(|place| events[*place].clone()).collect();
        for copies in [1, 2] {
            assert_eq!(outcome(&ordered, copies), expected, "{order:?}, {copies} copies");
        }
        assert_eq!(outcome_of_send(&answered(&ordered)), expected_of_send, "{order:?}");
    }
}

/// The same steps, where the answer to the send takes the place of the message.
fn answered(events: &[InboundEvent]) -> Vec<Option<InboundEvent>> {
    let steps = events.iter().cloned().map(Some);
    let is_message = |step: &Option<InboundEvent>| {
        step.as_ref()
            .is_some_and(|event| matches!(event.kind, InboundKind::Message(_)))
    };
    steps.map(|step| if is_message(&step) { None } else { step }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_an_incoming_message_ends_alike(events in Just(incoming()).prop_shuffle(), copies in 1_usize..3) {
        prop_assert_eq!(outcome(&events, copies), outcome(&incoming(), 1));
    }

    #[test]
    fn every_order_of_an_own_message_ends_alike(events in Just(outgoing()).prop_shuffle(), copies in 1_usize..3) {
        prop_assert_eq!(outcome(&events, copies), outcome(&outgoing(), 1));
    }

    #[test]
    fn every_order_of_the_answer_and_the_echo_ends_alike(steps in Just(sending()).prop_shuffle()) {
        prop_assert_eq!(outcome_of_send(&steps), outcome_of_send(&sending()));
    }

    #[test]
    fn deleting_is_final_in_every_order(
        incoming_events in Just(with_deletion(incoming())).prop_shuffle(),
        own in Just(with_deletion(outgoing())).prop_shuffle(),
    ) {
        prop_assert_eq!(outcome(&incoming_events, 1), outcome(&with_deletion(incoming()), 1));
        prop_assert_eq!(outcome(&own, 2), outcome(&with_deletion(outgoing()), 1));
    }
}

#[test]
fn an_answer_in_the_same_second_comes_after_what_it_answers() {
    let (store, account) = MemoryStore::with_account();
    let at = |milliseconds| START + Duration::milliseconds(milliseconds);
    let say = |id: &str, sent_at: time::OffsetDateTime, is_history: bool| {
        let mut event = message_event("chat", id);
        if let InboundKind::Message(message) = &mut event.kind {
            message.sent_at = sent_at;
            message.is_history = is_history;
        }
        let change = Change::Inbound {
            account_id: account.id,
            conversation: ExternalId::from("chat"),
            events: vec![event],
            link: None,
        };
        let user_id = account.user_id;
        store.apply(&Append { user_id, change }).unwrap();
        let of = |message: &&Message| message.external_id == Some(ExternalId::from(id));
        store.rows(|rows| rows.workspace.messages.values().find(of).unwrap().sent_at)
    };
    assert_eq!(say("question", at(5_400), false), at(5_400));
    assert!(say("answer", at(5_000), false) > at(5_400));
    assert_eq!(say("older", at(4_000), false), at(4_000));
    assert_eq!(
        say("past", at(5_000), true),
        at(5_000),
        "what is fetched keeps its time"
    );
    assert_eq!(say("later", at(6_000), false), at(6_000));
}
