//! A client that follows the stream: what it holds, and what it makes of each event.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::Client;

/// What a client holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbox {
    pub accounts: BTreeMap<String, Value>,
    pub conversations: BTreeMap<String, Value>,
    pub messages: BTreeMap<String, Value>,
    pub unread: i64,
}

impl Inbox {
    /// Reads everything anew; with it the position from which on it may have changed.
    pub async fn read(user: &Client) -> (Self, i64) {
        let all = "/api/conversations?limit=500&max_read=500";
        let page = user.get(all).await.expect(200);
        let position = page["position"]
            .as_str()
            .unwrap()
            .split_once(':')
            .unwrap()
            .1
            .parse()
            .unwrap();
        let mut inbox = Self {
            accounts: by_id(&user.get("/api/oauth/accounts").await.expect(200)["accounts"]),
            conversations: by_id(&page["conversations"]),
            unread: user.get("/api/messages/unread/count").await.expect(200)["total"]
                .as_i64()
                .unwrap(),
            ..Self::default()
        };
        for conversation in inbox.conversations.keys() {
            let page = user
                .get(&format!("/api/messages/{conversation}?limit=200"))
                .await
                .expect(200);
            inbox.messages.extend(by_id(&page["messages"]));
        }
        (inbox, position)
    }

    /// Follows one event, as a client does that knows nothing but the stream.
    pub fn follow(&mut self, event: &Value) {
        let data = &event["data"];
        let message_id = data["messageId"].as_str().unwrap_or_default();
        match event["event"].as_str().unwrap() {
            "new_message" | "message_history" | "message_status_update" | "message_edited" => {
                self.keep_message(&data["message"]);
            }
            "message_deleted" if data["deletedAt"].is_null() => drop(self.messages.remove(message_id)),
            "message_deleted" => {
                let message = self.message(message_id);
                let mut set = |name: &str, value: Value| message.insert(name.to_owned(), value);
                for (name, value) in [
                    ("content", json!("")),
                    ("attachments", json!([])),
                    ("reactions", json!([])),
                    ("media_url", Value::Null),
                    ("mediaUrl", Value::Null),
                    ("edited_at", Value::Null),
                    ("editedAt", Value::Null),
                    ("deleted_at", data["deletedAt"].clone()),
                    ("deletedAt", data["deletedAt"].clone()),
                ] {
                    set(name, value);
                }
            }
            name @ ("reaction_added" | "reaction_removed") => {
                let reaction = &data["reaction"];
                let reactions = self.message(message_id)["reactions"].as_array_mut().unwrap();
                let is_same =
                    |one: &Value| one["actor_id"] == reaction["actor_id"] && one["emoji"] == reaction["emoji"];
                reactions.retain(|one| !is_same(one));
                if name == "reaction_added" {
                    reactions.push(reaction.clone());
                    let key = |one: &Value| (one["actor_id"].to_string(), one["emoji"].to_string());
                    reactions.sort_by_key(key);
                }
            }
            "conversation_update" => {
                for id in data["read"].as_array().unwrap() {
                    let message = self.message(id.as_str().unwrap());
                    message.insert("is_read".to_owned(), json!(true));
                    message.insert("isRead".to_owned(), json!(true));
                }
            }
            "connection_update" => {
                let account = &data["account"];
                self.accounts.insert(id(account), account.clone());
                if account["is_active"] == false {
                    self.forget(&id(account));
                }
            }
            other => panic!("a client does not know {other}"),
        }
        if let Some(conversation) = data.get("conversation") {
            self.conversations.insert(id(conversation), conversation.clone());
        }
        self.unread = self
            .conversations
            .values()
            .filter_map(|one| one["unread_count"].as_i64())
            .sum();
    }

    /// The conversations of an account that was disconnected are shown no more.
    fn forget(&mut self, account: &str) {
        self.conversations.retain(|_, one| one["account_id"] != account);
        let conversations = &self.conversations;
        let is_shown = |message: &Value| conversations.contains_key(message["conversation_id"].as_str().unwrap());
        self.messages.retain(|_, message| is_shown(message));
    }

    /// Nothing is on its way out.
    pub fn is_settled(&self) -> bool {
        let mut messages = self.messages.values();
        messages.all(|message| message["status"] != "queued" && message["status"] != "sending")
    }

    fn keep_message(&mut self, message: &Value) {
        let mut message = message.clone();
        // An own message comes without it, for the sake of an old page.
        message["conversationId"] = message["conversation_id"].clone();
        self.messages.insert(id(&message), message);
    }

    fn message(&mut self, id: &str) -> &mut Map<String, Value> {
        self.messages
            .get_mut(id)
            .expect("the message is known")
            .as_object_mut()
            .unwrap()
    }
}

/// What is its id.
pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

fn by_id(list: &Value) -> BTreeMap<String, Value> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| (id(one), one.clone()))
        .collect()
}
