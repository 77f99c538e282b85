//! Whole WebSocket frames, ready to be written to any number of sockets.

use std::collections::HashSet;

use bytes::Bytes;
use hub_actors::ConversationId;
use hub_actors::domain::{Event, EventKind};
use hub_actors::ports::{Encoder, UnreadCounts};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::event::event_frame;

/// First byte of a whole text frame: FIN set, opcode 1 (RFC 6455, section 5.2).
const WHOLE_TEXT: u8 = 0x81;
/// Header of a payload of up to 125 bytes; the length is in the second byte.
const SHORT_HEADER: usize = 2;
/// Header of a payload of up to 65,535 bytes; 126, then the length in 16 bits.
const MEDIUM_HEADER: usize = 4;
/// Header of any longer payload; 127, then the length in 64 bits.
const LONG_HEADER: usize = 10;

/// Size of an event's JSON beside its message's text, a little above what a new message with its conversation takes.
const EVENT_SIZE: usize = 2_560;

/// Turns events into frames from server to client, which are never masked (RFC 6455, section 5.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameEncoder;

impl Encoder for FrameEncoder {
    fn events(&self, epoch: &str, events: &[Event]) -> Bytes {
        let size = events.iter().map(|event| EVENT_SIZE + text_size(&event.kind)).sum();
        let mut buffer = Vec::with_capacity(size);
        for (event, with_conversation) in events.iter().zip(last_of_each_conversation(events)) {
            write_frame(&mut buffer, &event_frame(epoch, event, with_conversation));
        }
        Bytes::from(buffer)
    }

    fn unread_counts(&self, counts: &UnreadCounts) -> Bytes {
        text_frame(&Frame {
            event: "unread_count_update",
            data: UnreadData {
                total_unread: counts.values().sum(),
                unread_counts: ByPlatform(counts),
            },
        })
    }

    fn typing(&self, conversation_id: ConversationId, actor_id: &str, actor_name: Option<&str>) -> Bytes {
        text_frame(&Frame {
            event: "typing",
            data: TypingData {
                conversation_id,
                actor_id,
                actor_name,
            },
        })
    }
}

/// One whole text frame with the value as JSON. Empty when the value cannot be written as JSON, which none of the
/// hub's own can fail to be.
pub fn text_frame(value: &impl Serialize) -> Bytes {
    let mut buffer = Vec::with_capacity(512);
    write_frame(&mut buffer, value);
    Bytes::from(buffer)
}

/// A frame outside the stream.
#[derive(Serialize)]
struct Frame<T> {
    event: &'static str,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UnreadData<'a> {
    unread_counts: ByPlatform<'a>,
    total_unread: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypingData<'a> {
    conversation_id: ConversationId,
    actor_id: &'a str,
    actor_name: Option<&'a str>,
}

/// The counters under the names that clients know: two platforms may share one.
struct ByPlatform<'a>(&'a UnreadCounts);

impl Serialize for ByPlatform<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = super::count_by_platform(self.0.iter().map(|(platform, count)| (platform, *count)));
        let mut map = serializer.serialize_map(Some(counts.len()))?;
        for (platform, count) in counts {
            map.serialize_entry(platform, &count)?;
        }
        map.end()
    }
}

/// Marks the events that no later one of the same name and conversation follows in the batch.
fn last_of_each_conversation(events: &[Event]) -> Vec<bool> {
    let mut later = HashSet::new();
    let mut marks = vec![true; events.len()];
    for (mark, event) in marks.iter_mut().zip(events).rev() {
        *mark = new_message_of(&event.kind).is_none_or(|named| later.insert(named));
    }
    marks
}

/// The conversation of a new message, and whether it is an old one that was fetched, which has another name.
fn new_message_of(kind: &EventKind) -> Option<(ConversationId, bool)> {
    match kind {
        EventKind::MessageReceived {
            message, is_history, ..
        } => Some((message.conversation_id, *is_history)),
        EventKind::MessageQueued { message, .. } => Some((message.conversation_id, false)),
        _ => None,
    }
}

fn text_size(kind: &EventKind) -> usize {
    match kind {
        EventKind::MessageReceived { message, .. }
        | EventKind::MessageQueued { message, .. }
        | EventKind::MessageEdited { message }
        | EventKind::StatusChanged { message } => message.content.len(),
        // Each id takes 36 characters, two quotes and a comma.
        EventKind::ConversationChanged { read, .. } => read.len() * 39,
        _ => 0,
    }
}

/// Writes the JSON behind room for the medium header, the one that nearly all frames have, and moves it only when the
/// length asks for another.
fn write_frame(buffer: &mut Vec<u8>, value: &impl Serialize) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; MEDIUM_HEADER]);
    if let Err(error) = serde_json::to_writer(&mut *buffer, value) {
        tracing::error!(%error, "a frame could not be written as JSON");
        buffer.truncate(start);
        return;
    }
    let payload = start + MEDIUM_HEADER;
    let length = buffer.len() - payload;
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        buffer.copy_within(payload.., start + SHORT_HEADER);
        buffer.truncate(start + SHORT_HEADER + length);
        buffer[start + 1] = short;
    } else if let Ok(medium) = u16::try_from(length) {
        buffer[start + 1] = 126;
        buffer[start + 2..payload].copy_from_slice(&medium.to_be_bytes());
    } else {
        buffer.extend_from_slice(&[0; LONG_HEADER - MEDIUM_HEADER]);
        buffer.copy_within(payload..payload + length, start + LONG_HEADER);
        buffer[start + 1] = 127;
        buffer[start + 2..start + LONG_HEADER].copy_from_slice(&(length as u64).to_be_bytes());
    }
    buffer[start] = WHOLE_TEXT;
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, AT};
    use super::*;
    use hub_actors::domain::Message;
    use hub_actors::{PlatformId, Seq, UserId};
    use serde_json::{Value, json};
    use uuid::Uuid;

    /// Reads frames back by the words of RFC 6455, section 5.2.
    fn parse(mut bytes: &[u8]) -> Vec<Value> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[0], 0x81, "a whole text frame");
            assert_eq!(bytes[1] & 0x80, 0, "not masked");
            let (length, header) = match bytes[1] {
                126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
                127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()), 10),
                short => (u64::from(short), 2),
            };
            let is_shortest = match header {
                2 => true,
                4 => length > 125,
                _ => length > 65_535,
            };
            assert!(is_shortest, "the shortest form of the length");
            let end = header + usize::try_from(length).unwrap();
            values.push(serde_json::from_slice(&bytes[header..end]).unwrap());
            bytes = &bytes[end..];
        }
        values
    }

    fn received(seq: i64, conversation: u128, text: &str) -> Event {
        let message = Message {
            conversation_id: ConversationId(Uuid::from_u128(conversation)),
            content: text.to_owned(),
            ..samples::message()
        };
        let mut chat = samples::conversation();
        chat.id = message.conversation_id;
        Event {
            user_id: UserId(Uuid::from_u128(3)),
            seq: Seq(seq),
            kind: EventKind::MessageReceived {
                message: Box::new(message),
                conversation: Box::new(chat),
                is_history: false,
            },
            at: AT,
        }
    }

    #[test]
    fn a_batch_is_frames_in_order_with_the_conversation_on_its_last_message() {
        let events = [received(5, 2, "a"), received(6, 9, "b"), received(7, 2, "c")];
        let frames = parse(&FrameEncoder.events("k3x9", &events));
        let seqs: Vec<_> = frames.iter().map(|frame| frame["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, [5, 6, 7]);
        let attached: Vec<_> = frames
            .iter()
            .map(|frame| frame["data"].get("conversation").is_some())
            .collect();
        assert_eq!(attached, [false, true, true]);
        assert_eq!(frames[0]["data"]["message"]["content"], "a");
        assert_eq!(frames[0]["epoch"], "k3x9");
        assert!(frames[0].get("createdAt").is_none());
    }

    #[test]
    fn an_old_message_that_follows_takes_nothing_from_a_new_one() {
        let mut old = received(6, 2, "b");
        if let EventKind::MessageReceived { is_history, .. } = &mut old.kind {
            *is_history = true;
        }
        let frames = parse(&FrameEncoder.events("k3x9", &[received(5, 2, "a"), old]));
        let names: Vec<_> = frames.iter().map(|frame| frame["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["new_message", "message_history"]);
        assert!(frames.iter().all(|frame| frame["data"].get("conversation").is_some()));
    }

    #[test]
    fn every_length_has_its_header() {
        for length in [0, 1, 123, 124, 65_533, 65_534, 70_000] {
            let text = "x".repeat(length);
            let mut buffer = b"\x81\x02{}".to_vec();
            write_frame(&mut buffer, &text);
            write_frame(&mut buffer, &text);
            assert_eq!(parse(&buffer), [json!({}), json!(text), json!(text)], "{length}");
        }
    }

    #[test]
    fn a_usual_event_needs_no_second_allocation() {
        let event = received(1, 2, &"word ".repeat(100));
        let frames = FrameEncoder.events("0123456789abcdef", std::slice::from_ref(&event));
        assert!(frames.len() < EVENT_SIZE + text_size(&event.kind), "{}", frames.len());
    }

    #[test]
    fn counters_and_typing_stand_outside_the_stream() {
        let counts = [("facebook", 1), ("facebook_cookie", 2), ("custom", 0)];
        let counts = counts.map(|(name, count)| (PlatformId::from(name), count)).into();
        let frames = parse(&FrameEncoder.unread_counts(&counts));
        let expected = json!({"event": "unread_count_update",
            "data": {"unreadCounts": {"custom": 0, "facebook": 3}, "totalUnread": 3}});
        assert_eq!(frames, [expected]);
        let typing = parse(&FrameEncoder.typing(samples::conversation().id, "peer-1", None));
        assert_eq!(typing[0]["data"]["actorId"], "peer-1");
        assert!(typing[0].get("seq").is_none());
    }
}
