//! What a client asks to send, checked.

use hub_actors::ConversationId;
use hub_actors::domain::MessageKind;
use serde_json::{Value, json};
use url::Url;

use crate::http::input::{FieldErrors, Fields, MAX_TEXT};

/// Longest address of a medium, in characters.
const MAX_MEDIA_URL: usize = 1_000;
/// Longest id of a message on a platform, in characters.
const MAX_REPLY_TO: usize = 255;
/// Longest id that a client gives its own message, in characters.
const MAX_CLIENT_ID: usize = 200;

/// A message as a client asks to send it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// The text, without space around it.
    pub content: String,
    /// What it is said to carry.
    pub kind: MessageKind,
    /// Where its medium is.
    pub media_url: Option<String>,
    /// The message that it answers, as the client names it.
    pub reply_to: Option<String>,
    /// The client's own id for it.
    pub client_id: Option<String>,
}

impl SendRequest {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// Every wrong field, with the reasons.
    pub fn from_json(body: &Value) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let content = fields.required("content", MAX_TEXT).unwrap_or_default().to_owned();
        let kind = kind(&mut fields);
        let media_url = media_url(&mut fields);
        let reply_to = fields
            .optional(&["replyTo", "reply_to"], MAX_REPLY_TO)
            .map(str::to_owned);
        let client_id = fields
            .optional(&["clientId", "client_id"], MAX_CLIENT_ID)
            .map(str::to_owned);
        for (name, text) in [("replyTo", &reply_to), ("clientId", &client_id)] {
            if text.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
                fields.errors.add(name, "Control characters are not allowed.");
            }
        }
        fields.errors.or(Self {
            content,
            kind,
            media_url,
            reply_to,
            client_id,
        })
    }

    /// All that is asked, in one way of writing: two requests are the same when this is.
    pub fn canonical(&self, conversation_id: ConversationId) -> String {
        let parts = json!([
            conversation_id,
            self.content,
            self.kind,
            self.media_url,
            self.reply_to,
            self.client_id
        ]);
        parts.to_string()
    }
}

fn kind(fields: &mut Fields<'_>) -> MessageKind {
    let Some((name, value)) = fields.value(&["message_type", "messageType"]) else {
        return MessageKind::Text;
    };
    // What a system reports is not for a person to send.
    let known = value.as_str().and_then(MessageKind::from_name);
    known.filter(|kind| *kind != MessageKind::System).unwrap_or_else(|| {
        let sentence = match value {
            Value::Null => "This field may not be null.".to_owned(),
            Value::String(text) => {
                let shown: String = text.chars().take(50).collect();
                format!("\"{shown}\" is not a valid choice.")
            }
            _ => "Not a valid string.".to_owned(),
        };
        fields.errors.add(name, sentence);
        MessageKind::Text
    })
}

fn media_url(fields: &mut Fields<'_>) -> Option<String> {
    const NAMES: [&str; 2] = ["media_url", "mediaUrl"];
    let (name, _) = fields.value(&NAMES)?;
    let text = fields.optional(&NAMES, MAX_MEDIA_URL)?;
    let is_address = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_address
        || text
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
    {
        fields.errors.add(name, "Enter a valid URL.");
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn errors(body: &Value) -> Value {
        Value::Object(SendRequest::from_json(body).unwrap_err().0)
    }

    #[test]
    fn both_casings_are_read_and_the_text_is_trimmed() {
        let snake = json!({"content": " hi ", "message_type": "image", "media_url": "https://example.com/x.png"});
        let camel = json!({"content": "hi", "messageType": "image", "mediaUrl": "https://example.com/x.png"});
        let read = SendRequest::from_json(&snake).unwrap();
        assert_eq!(SendRequest::from_json(&camel).as_ref(), Ok(&read));
        assert_eq!((read.content.as_str(), read.kind), ("hi", MessageKind::Image));
        let empty = json!({"content": "hi", "media_url": null, "replyTo": null, "clientId": null});
        assert_eq!(SendRequest::from_json(&empty).unwrap().media_url, None);
    }

    #[test]
    fn every_wrong_field_has_its_sentence() {
        for (body, expected) in [
            (json!({}), json!({"content": ["This field is required."]})),
            (
                json!({"content": null}),
                json!({"content": ["This field may not be null."]}),
            ),
            (
                json!({"content": " \n"}),
                json!({"content": ["This field may not be blank."]}),
            ),
            (
                json!({"content": "a\u{0}b"}),
                json!({"content": ["Null characters are not allowed."]}),
            ),
            (json!({"content": 5}), json!({"content": ["Not a valid string."]})),
            (
                json!({"content": "x".repeat(10_001)}),
                json!({"content": ["Ensure this field has no more than 10000 characters."]}),
            ),
            (
                json!({"content": "x", "message_type": "audio", "media_url": "no"}),
                json!({"message_type": ["\"audio\" is not a valid choice."], "media_url": ["Enter a valid URL."]}),
            ),
            (
                json!({"content": "x", "messageType": "system", "mediaUrl": "javascript:alert(1)"}),
                json!({"messageType": ["\"system\" is not a valid choice."], "mediaUrl": ["Enter a valid URL."]}),
            ),
            (
                json!({"content": "x", "replyTo": "a\u{7}b", "clientId": []}),
                json!({"replyTo": ["Control characters are not allowed."], "clientId": ["Not a valid string."]}),
            ),
            (
                json!([]),
                json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
            ),
        ] {
            assert_eq!(errors(&body), expected);
        }
        assert!(SendRequest::from_json(&json!({"content": "\u{1f600}".repeat(10_000)})).is_ok());
    }

    #[test]
    fn requests_are_told_apart_and_their_writing_not() {
        let here = ConversationId(Uuid::from_u128(1));
        let print = |body: Value, conversation| SendRequest::from_json(&body).unwrap().canonical(conversation);
        let first = print(json!({"content": "hi", "message_type": "text"}), here);
        assert_eq!(first, print(json!({"content": " hi"}), here));
        assert_ne!(first, print(json!({"content": "ho"}), here));
        assert_ne!(first, print(json!({"content": "hi", "message_type": "file"}), here));
        assert_ne!(
            first,
            print(json!({"content": "hi"}), ConversationId(Uuid::from_u128(2)))
        );
    }
}
