//! One step of a user's stream as clients see it.

use hub_actors::domain::{Event, EventKind};
use hub_actors::{ConversationId, MessageId, Seq};
use serde::Serialize;
use utoipa::ToSchema;

use super::Timestamp;
use super::account::{AccountView, account};
use super::conversation::{ConversationView, conversation};
use super::message::{MessageView, ReactionView, message, reaction};

/// One event of the stream, the same on a socket and in the list of events.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView<'a> {
    /// `new_message`, `message_history` (an old message that was fetched), `message_status_update`, `message_edited`,
    /// `message_deleted`, `reaction_added`, `reaction_removed`, `conversation_update` or `connection_update`.
    event: &'static str,
    /// What the event is about; its fields depend on `event`.
    #[schema(value_type = Object)]
    data: EventData<'a>,
    /// One life of the database; numbers of different epochs do not compare.
    epoch: &'a str,
    /// The event's number in the stream: 1, 2, 3 … without a gap.
    #[schema(value_type = i64)]
    seq: Seq,
    #[serde(rename = "createdAt", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one encoding; a box would cost an allocation for each event"
)]
enum EventData<'a> {
    New(NewMessageData<'a>),
    Status(StatusData<'a>),
    Edited(EditedData<'a>),
    Deleted(DeletedData),
    Reaction(ReactionData<'a>),
    Conversation(ConversationData<'a>),
    Account(AccountData<'a>),
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMessageData<'a> {
    message: MessageView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusData<'a> {
    message_id: MessageId,
    conversation_id: ConversationId,
    status: &'static str,
    reason: Option<&'a str>,
    timestamp: Timestamp,
    message: MessageView<'a>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EditedData<'a> {
    message_id: MessageId,
    conversation_id: ConversationId,
    message: MessageView<'a>,
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedData {
    message_id: MessageId,
    conversation_id: ConversationId,
    /// Null when nothing of it stays: it was the double of another message.
    deleted_at: Option<Timestamp>,
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReactionData<'a> {
    message_id: MessageId,
    conversation_id: ConversationId,
    reaction: ReactionView<'a>,
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct ConversationData<'a> {
    conversation: ConversationView<'a>,
    /// The messages that became read; of more than 1,000 at once, the newest.
    read: &'a [MessageId],
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct AccountData<'a> {
    account: AccountView<'a>,
    timestamp: Timestamp,
}

/// The event as a program reads it from the list of events: with its conversation, where it has one, and its time.
pub fn event_json<'a>(epoch: &'a str, event: &'a Event) -> EventView<'a> {
    EventView {
        created_at: Some(Timestamp(event.at)),
        ..event_frame(epoch, event, true)
    }
}

/// The event as it goes over a socket. A page that gets `conversation` with a new message reloads its list, so a batch
/// carries it only where it is needed.
pub(super) fn event_frame<'a>(epoch: &'a str, event: &'a Event, with_conversation: bool) -> EventView<'a> {
    let (name, data) = event_data(event, with_conversation);
    EventView {
        event: name,
        data,
        epoch,
        seq: event.seq,
        created_at: None,
    }
}

fn event_data(event: &Event, with_conversation: bool) -> (&'static str, EventData<'_>) {
    let timestamp = Timestamp(event.at);
    match &event.kind {
        EventKind::MessageReceived {
            message: new,
            conversation: chat,
            is_history,
        } => {
            let data = NewMessageData {
                message: message(new),
                conversation: with_conversation.then(|| conversation(chat)),
                client_id: None,
                timestamp,
            };
            // A page that knows nothing of old messages must not announce them.
            let name = if *is_history { "message_history" } else { "new_message" };
            (name, EventData::New(data))
        }
        EventKind::MessageQueued {
            message: new,
            conversation: chat,
            client_id,
        } => {
            let data = NewMessageData {
                message: message(new).without_camel_conversation(),
                conversation: with_conversation.then(|| conversation(chat)),
                client_id: client_id.as_deref(),
                timestamp,
            };
            ("new_message", EventData::New(data))
        }
        EventKind::StatusChanged { message: changed } => {
            let data = StatusData {
                message_id: changed.id,
                conversation_id: changed.conversation_id,
                status: changed.status.as_str(),
                reason: changed.status_reason.as_deref(),
                timestamp,
                message: message(changed),
            };
            ("message_status_update", EventData::Status(data))
        }
        EventKind::MessageEdited { message: changed } => {
            let data = EditedData {
                message_id: changed.id,
                conversation_id: changed.conversation_id,
                message: message(changed),
                timestamp,
            };
            ("message_edited", EventData::Edited(data))
        }
        EventKind::MessageDeleted {
            conversation_id,
            message_id,
            deleted_at,
        } => {
            let data = DeletedData {
                message_id: *message_id,
                conversation_id: *conversation_id,
                deleted_at: deleted_at.map(Timestamp),
                timestamp,
            };
            ("message_deleted", EventData::Deleted(data))
        }
        EventKind::ReactionAdded {
            conversation_id,
            message_id,
            reaction: given,
        }
        | EventKind::ReactionRemoved {
            conversation_id,
            message_id,
            reaction: given,
        } => {
            let is_added = matches!(event.kind, EventKind::ReactionAdded { .. });
            let data = ReactionData {
                message_id: *message_id,
                conversation_id: *conversation_id,
                reaction: reaction(given),
                timestamp,
            };
            let name = if is_added { "reaction_added" } else { "reaction_removed" };
            (name, EventData::Reaction(data))
        }
        EventKind::ConversationChanged {
            conversation: changed,
            read,
        } => {
            let data = ConversationData {
                conversation: conversation(changed),
                read,
                timestamp,
            };
            ("conversation_update", EventData::Conversation(data))
        }
        EventKind::AccountChanged { account: changed } => {
            let data = AccountData {
                account: account(changed),
                timestamp,
            };
            ("connection_update", EventData::Account(data))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, AT};
    use super::*;
    use hub_actors::UserId;
    use serde_json::Value;
    use uuid::Uuid;

    fn value(kind: EventKind) -> Value {
        let event = Event {
            user_id: UserId(Uuid::from_u128(3)),
            seq: Seq(7),
            kind,
            at: AT,
        };
        serde_json::to_value(event_json("k3x9", &event)).unwrap()
    }

    #[test]
    fn an_own_message_hides_its_camel_case_conversation() {
        let queued = value(EventKind::MessageQueued {
            message: Box::new(samples::message()),
            conversation: Box::new(samples::conversation()),
            client_id: Some("c-1".to_owned()),
        });
        let message = &queued["data"]["message"];
        assert!(message.get("conversationId").is_none());
        assert_eq!(message["conversation_id"], queued["data"]["conversation"]["id"]);
        assert_eq!(queued["data"]["clientId"], "c-1");
        assert_eq!(queued["event"], "new_message");
        assert_eq!(queued["seq"], 7);
        assert_eq!(queued["epoch"], "k3x9");
        assert_eq!(queued["createdAt"], "2026-01-02T03:04:05.678901Z");
    }

    #[test]
    fn every_kind_has_its_name_and_fields() {
        let status = value(EventKind::StatusChanged {
            message: Box::new(samples::message()),
        });
        assert_eq!(status["event"], "message_status_update");
        for field in [
            "messageId",
            "conversationId",
            "status",
            "reason",
            "timestamp",
            "message",
        ] {
            assert!(status["data"].get(field).is_some(), "{field}");
        }
        let read = value(EventKind::ConversationChanged {
            conversation: Box::new(samples::conversation()),
            read: vec![samples::message().id],
        });
        assert_eq!(read["event"], "conversation_update");
        assert_eq!(read["data"]["read"][0], "00000000-0000-0000-0000-000000000001");
        let reaction = value(EventKind::ReactionRemoved {
            conversation_id: samples::message().conversation_id,
            message_id: samples::message().id,
            reaction: samples::message().reactions[1].clone(),
        });
        assert_eq!(reaction["event"], "reaction_removed");
        assert_eq!(reaction["data"]["reaction"]["emoji"], "\u{1f44e}");
        let account = value(EventKind::AccountChanged {
            account: Box::new(samples::account()),
        });
        assert_eq!(account["event"], "connection_update");
        assert_eq!(account["data"]["account"]["state"], "live");
    }
}
