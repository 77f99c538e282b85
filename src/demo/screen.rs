//! What the demo shows in the terminal. Text from messages is cleaned: it must not steer the terminal.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use super::keepsake::Keepsake;

/// Characters of a message's text that one line shows.
const SHOWN: usize = 90;
/// Conversations whose names the view remembers.
const REMEMBERED: usize = 1_000;

/// The terminal, or the file that the output goes to.
#[derive(Clone)]
pub(super) struct Screen {
    has_colors: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Warning,
}

impl Screen {
    pub(super) fn new() -> Self {
        let has_colors = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { has_colors }
    }

    /// What the demo is doing.
    pub(super) fn step(&self, text: &str) {
        self.write(Style::Dim, &format!("· {}", clean(text, usize::MAX)));
    }

    /// What does not work.
    pub(super) fn warning(&self, text: &str) {
        self.write(Style::Warning, &format!("! {}", clean(text, 400)));
    }

    /// What happens on the correspondent's side.
    pub(super) fn correspondent(&self, text: &str) {
        self.write(
            Style::Dim,
            &format!("                 correspondent: {}", clean(text, 200)),
        );
    }

    /// A step of the user's stream, already cleaned.
    pub(super) fn event(&self, line: &str) {
        self.write(Style::Plain, line);
    }

    /// Where the hub is, how to sign in, and what to try.
    pub(super) fn welcome(&self, url: &str, keepsake: &Keepsake, conversation: &str) {
        let Keepsake { email, password, .. } = keepsake;
        self.write(Style::Plain, "");
        self.write(Style::Bold, &format!("The hub runs at {url}"));
        self.write(Style::Plain, &format!("  e-mail    {email}"));
        self.write(Style::Plain, &format!("  password  {password}"));
        self.write(Style::Plain, "");
        self.write(Style::Bold, "Try it from another terminal:");
        for line in curl_lines(url, email, password, conversation) {
            self.write(Style::Plain, &format!("  {line}"));
        }
        self.write(Style::Plain, "");
        self.write(
            Style::Bold,
            "Live: the events of this user's stream, each with its number. Ctrl-C stops.",
        );
    }

    fn write(&self, style: Style, text: &str) {
        let code = match style {
            Style::Plain => "",
            Style::Bold => "\u{1b}[1m",
            Style::Dim => "\u{1b}[2m",
            Style::Warning => "\u{1b}[33m",
        };
        let mut out = io::stdout().lock();
        // Nobody may be looking any more, as after `| head`: no reason to stop the hub.
        let _ = if self.has_colors && !code.is_empty() {
            writeln!(out, "{code}{text}\u{1b}[0m")
        } else {
            writeln!(out, "{text}")
        };
        let _ = out.flush();
    }
}

/// Three lines to paste one after the other: sign in, list the conversations, write to Ada.
fn curl_lines(url: &str, email: &str, password: &str, conversation: &str) -> [String; 3] {
    let json = "-H 'content-type: application/json'";
    let bearer = "-H \"authorization: Bearer $TOKEN\"";
    [
        format!(
            "TOKEN=$(curl -s {url}/api/auth/login {json} -d '{{\"email\":\"{email}\",\"password\":\"{password}\"}}' \
             | sed -E 's/.*\"accessToken\":\"([^\"]*)\".*/\\1/')"
        ),
        format!("curl -s {url}/api/conversations {bearer}"),
        format!("curl -s {url}/api/messages/{conversation}/send {bearer} {json} -d '{{\"content\":\"Hello Ada\"}}'"),
    ]
}

/// Turns events into lines. It learns the names of conversations from the events that carry them.
#[derive(Default)]
pub(super) struct EventView {
    names: HashMap<String, String>,
}

impl EventView {
    /// The event in one line; none for what is not worth one.
    pub(super) fn line(&mut self, event: &Value) -> Option<String> {
        let data = &event["data"];
        self.learn(&data["conversation"]);
        let told = match event["event"].as_str()? {
            "new_message" => self.message(&data["message"]),
            "message_status_update" => {
                let status = clean(data["status"].as_str()?, 20);
                let reason = data["reason"]
                    .as_str()
                    .map(|reason| format!(" ({})", clean(reason, 120)));
                format!(
                    "{status}{}: {}",
                    reason.unwrap_or_default(),
                    self.message(&data["message"])
                )
            }
            "message_edited" => format!("edited: {}", self.message(&data["message"])),
            "message_deleted" => format!("deleted: a message in {}", self.name(data["conversationId"].as_str()?)),
            "reaction_added" => self.reaction(data, "reacts with")?,
            "reaction_removed" => self.reaction(data, "takes back")?,
            "conversation_update" => {
                let unread = data["conversation"]["unreadCount"].as_i64()?;
                format!("{}: {unread} unread", self.name(data["conversation"]["id"].as_str()?))
            }
            "connection_update" => {
                let account = &data["account"];
                let name = clean(account["platformUsername"].as_str().unwrap_or("account"), 40);
                format!("account {name} is {}", clean(account["state"].as_str()?, 20))
            }
            _ => return None,
        };
        let time = event["createdAt"]
            .as_str()
            .and_then(|time| time.get(11..19))
            .unwrap_or("        ");
        let number = event["seq"].as_i64().map(|seq| format!("#{seq}")).unwrap_or_default();
        Some(format!("{} {number:>6}  {told}", clean(time, 8)))
    }

    fn learn(&mut self, conversation: &Value) {
        if let (Some(id), Some(name)) = (conversation["id"].as_str(), conversation["participantName"].as_str())
            && self.names.len() < REMEMBERED
        {
            self.names.insert(id.to_owned(), clean(name, 40));
        }
    }

    fn name(&self, conversation: &str) -> String {
        self.names
            .get(conversation)
            .cloned()
            .unwrap_or_else(|| "a conversation".to_owned())
    }

    fn message(&self, message: &Value) -> String {
        let text = clean(message["content"].as_str().unwrap_or_default(), SHOWN);
        if message["isOutgoing"] == true {
            let name = self.name(message["conversation_id"].as_str().unwrap_or_default());
            format!("you → {name}  {text}")
        } else {
            let name = message["senderName"]
                .as_str()
                .or(message["senderId"].as_str())
                .unwrap_or("somebody");
            format!("{} → you  {text}", clean(name, 40))
        }
    }

    fn reaction(&self, data: &Value, verb: &str) -> Option<String> {
        let emoji = clean(data["reaction"]["emoji"].as_str()?, 16);
        Some(format!(
            "{} {verb} {emoji}",
            self.name(data["conversationId"].as_str()?)
        ))
    }
}

/// The text without anything that a terminal would obey, cut to a length.
fn clean(text: &str, length: usize) -> String {
    let mut cleaned: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(length)
        .collect();
    if text.chars().nth(length).is_some() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_become_lines() {
        let mut view = EventView::default();
        let chat = json!({ "id": "c", "participantName": "Ada", "unreadCount": 2 });
        let mut line = |name: &str, data: Value| {
            view.line(&json!({ "event": name, "data": data, "seq": 7, "createdAt": "2026-01-02T03:04:05.678901Z" }))
        };
        let received = json!({ "conversation": chat, "message": { "content": "a\u{1b}[2Jb", "senderName": "Ada" } });
        assert_eq!(
            line("new_message", received).as_deref(),
            Some("03:04:05     #7  Ada → you  a [2Jb")
        );
        let own = json!({ "content": "hi", "isOutgoing": true, "conversation_id": "c" });
        assert_eq!(
            line("new_message", json!({ "message": own })).as_deref(),
            Some("03:04:05     #7  you → Ada  hi")
        );
        let failed = json!({ "status": "failed", "reason": "no", "message": own });
        assert_eq!(
            line("message_status_update", failed).as_deref(),
            Some("03:04:05     #7  failed (no): you → Ada  hi")
        );
        let reaction = json!({ "conversationId": "c", "reaction": { "emoji": "👍" } });
        assert_eq!(
            line("reaction_added", reaction).as_deref(),
            Some("03:04:05     #7  Ada reacts with 👍")
        );
        assert_eq!(
            line("conversation_update", json!({ "conversation": chat })).as_deref(),
            Some("03:04:05     #7  Ada: 2 unread")
        );
        assert_eq!(line("something_new", json!({})), None);
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        assert_eq!(clean("äöü", 2), "äö…");
        assert_eq!(clean("äöü", 3), "äöü");
    }

    #[test]
    fn the_curl_lines_are_what_a_shell_expects() {
        let [login, list, send] = curl_lines("http://h", "a@b.c", "p", "id");
        assert_eq!(
            login,
            "TOKEN=$(curl -s http://h/api/auth/login -H 'content-type: application/json' \
             -d '{\"email\":\"a@b.c\",\"password\":\"p\"}' | sed -E 's/.*\"accessToken\":\"([^\"]*)\".*/\\1/')"
        );
        assert_eq!(
            list,
            "curl -s http://h/api/conversations -H \"authorization: Bearer $TOKEN\""
        );
        assert!(send.starts_with("curl -s http://h/api/messages/id/send -H"));
    }
}
