//! A platform whose answers are scripted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hub_actors::domain::{Account, InboundEvent, Receipt, SendError};
use hub_actors::ports::{Adapter, Capabilities, Delivery, Outbound, ReceiveError, SendKey, TypingNotice};
use hub_actors::{ExternalId, OutboxId};
use tokio::sync::Notify;

use super::message_event;

/// How long the text "blocks" keeps the thread on which it is sent.
pub const BLOCKED: Duration = Duration::from_secs(3);

/// A platform that answers sends as it was told to, and notes them; "hangs" for ever, "slow 200" after 200 ms. A delivery's body is the message's id; its text is
/// the same.
pub struct Scripted {
    pub send_key: SendKey,
    pub answers: Mutex<HashMap<String, VecDeque<Result<Receipt, SendError>>>>,
    pub sends: Mutex<Vec<(OutboxId, String, String)>>,
    /// Lets a send of the text "waits" go on.
    pub goes_on: Notify,
}

impl Scripted {
    pub fn new(send_key: SendKey) -> Arc<Self> {
        Arc::new(Self {
            send_key,
            answers: Mutex::default(),
            sends: Mutex::default(),
            goes_on: Notify::default(),
        })
    }

    /// The next sends into a chat are answered with these.
    pub fn answer(&self, chat: &str, answers: impl IntoIterator<Item = Result<Receipt, SendError>>) {
        self.answers
            .lock()
            .unwrap()
            .entry(chat.to_owned())
            .or_default()
            .extend(answers);
    }

    /// Chat and text of every try.
    pub fn sent(&self) -> Vec<(String, String)> {
        self.sends
            .lock()
            .unwrap()
            .iter()
            .map(|(_, chat, text)| (chat.clone(), text.clone()))
            .collect()
    }
}

pub struct ScriptedAdapter(pub Arc<Scripted>);

#[async_trait]
impl Adapter for ScriptedAdapter {
    fn capabilities(&self) -> Capabilities {
        let send_key = self.0.send_key;
        Capabilities {
            send_key,
            edit: true,
            delete: true,
            reactions: true,
            read: true,
            typing: true,
            max_text: 10_000,
        }
    }

    fn receive(&self, _account: &Account, delivery: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        let text = String::from_utf8_lossy(&delivery.body).into_owned();
        assert!(text != "poison", "a poisonous delivery");
        let (chat, id) = text
            .split_once('/')
            .ok_or_else(|| ReceiveError::Unmappable("no chat".to_owned()))?;
        Ok(vec![message_event(chat, id)])
    }

    async fn send(&self, _account: &Account, outbound: &Outbound) -> Result<Receipt, SendError> {
        let chat = outbound.conversation.to_string();
        let text = match &outbound.action {
            hub_actors::domain::OutboundAction::Send { text, .. } => text.clone(),
            other => format!("{other:?}"),
        };
        self.0
            .sends
            .lock()
            .unwrap()
            .push((outbound.key, chat.clone(), text.clone()));
        match text.as_str() {
            "hangs" => std::future::pending::<()>().await,
            "waits" => self.0.goes_on.notified().await,
            #[expect(clippy::disallowed_methods, reason = "all actors of the thread are to stand still")]
            "blocks" => std::thread::sleep(BLOCKED),
            other => {
                if let Some(pause) = other.strip_prefix("slow ").and_then(|pause| pause.parse().ok()) {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
        let answer = self
            .0
            .answers
            .lock()
            .unwrap()
            .get_mut(&chat)
            .and_then(VecDeque::pop_front);
        answer.unwrap_or_else(|| {
            Ok(Receipt {
                external_id: Some(ExternalId::from(format!("sent-{}", outbound.key))),
            })
        })
    }

    async fn typing(&self, _account: &Account, _notice: &TypingNotice) {}
}
