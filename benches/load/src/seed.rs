//! People who are signed in and have a linked account with one conversation, put where the hub looks for them.

use std::time::Duration;

use hub_actors::{AccountId, Clock, ConversationId, SessionId, UserId};
use messaging_hub::platforms::custom::{Link, Secret};
use messaging_hub::vault::Place;
use messaging_hub::vault::tokens::{self, Tokens};
use secrecy::SecretString;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Outcome;
use crate::database::{Database, bytea};
use crate::hub::JWT_SECRET;
use crate::wire;

const DAY: Duration = Duration::from_secs(86_400);

/// A person.
pub struct Person {
    pub user: UserId,
    pub account: AccountId,
    pub conversation: ConversationId,
    pub token: String,
    secret: Secret,
}

impl Person {
    /// A signed delivery of one event or an array of events.
    pub fn delivery(&self, id: &str, body: &str) -> Vec<u8> {
        let now = Clock::system().now().unix_timestamp();
        let signature = self.secret.sign(id, now, body.as_bytes());
        let headers = format!("webhook-id: {id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n");
        wire::post(&format!("/api/webhooks/custom/{}", self.account), &headers, body)
    }

    /// Where the person's sockets open; `since` is a position to resume from.
    pub fn socket_path(&self, since: Option<&str>) -> String {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        format!("/ws/messages/?token={}{since}", self.token)
    }
}

/// One event: a message for the person in their conversation.
pub fn received(id: &str, text: &str) -> String {
    format!(
        r#"{{"type":"message.received","conversation":{{"id":"chat","name":"Ada"}},"message":{{"id":"{id}","sender":{{"id":"ada","name":"Ada"}},"text":"{text}"}}}}"#
    )
}

/// Makes `count` people whose accounts send to `outbound_url`.
pub async fn people(database: &Database, count: usize, outbound_url: &str) -> Outcome<Vec<Person>> {
    let clock = Clock::system();
    let tokens = Tokens::new(&SecretString::from(JWT_SECRET), DAY, DAY, clock.clone());
    let now = clock.now();
    let at = now.format(&Rfc3339)?;
    let later = (now + DAY).format(&Rfc3339)?;
    let mut people = Vec::with_capacity(count);
    let (mut users, mut sessions, mut accounts, mut conversations) = (vec![], vec![], vec![], vec![]);
    for number in 0..count {
        let (user, session) = (UserId::generate(now), SessionId::generate(now));
        let (account, conversation) = (AccountId::generate(now), ConversationId::generate(now));
        let email = format!("user{number}@load.example");
        let pair = tokens.issue(user, &email, session)?;
        let (credentials, secret) = Link::create(outbound_url);
        let place = Place {
            table: "connected_accounts",
            column: "credentials",
            row: account.0.as_bytes(),
        };
        let sealed = database.vault.seal(place, &serde_json::to_vec(&credentials)?)?;
        users.push(Ok(format!("{user}\t{email}\tnone\t{at}\t{at}")));
        let hash = bytea(&tokens::hash(&pair.refresh));
        sessions.push(Ok(format!(
            "{}\t{session}\t{user}\t{hash}\t{later}\t{at}",
            pair.refresh_id
        )));
        let credentials = bytea(&sealed);
        accounts.push(Ok(format!(
            "{account}\t{user}\tcustom\tload\tLoad\t{credentials}\ttrue\tlive\t{at}\t{at}"
        )));
        conversations.push(Ok(conversation_row(conversation, user, account, "chat", now, 0)?));
        people.push(Person {
            user,
            account,
            conversation,
            token: pair.access,
            secret,
        });
    }
    database
        .copy(
            "users (id, email, password_hash, created_at, updated_at)",
            users.into_iter(),
        )
        .await?;
    let columns = "refresh_tokens (id, session_id, user_id, token_hash, expires_at, created_at)";
    database.copy(columns, sessions.into_iter()).await?;
    let columns = "connected_accounts (id, user_id, platform, platform_user_id, platform_username, credentials, \
        is_active, state, created_at, updated_at)";
    database.copy(columns, accounts.into_iter()).await?;
    database.copy(CONVERSATIONS, conversations.into_iter()).await?;
    database
        .analyze("users, refresh_tokens, connected_accounts, conversations")
        .await?;
    Ok(people)
}

/// Table and columns of [`conversation_row`].
pub const CONVERSATIONS: &str = "conversations (id, user_id, platform, account_id, platform_conversation_id, \
    participant_name, last_message_at, unread_count, created_at, updated_at)";

/// A conversation's row.
pub fn conversation_row(
    id: ConversationId,
    user: UserId,
    account: AccountId,
    chat: &str,
    at: OffsetDateTime,
    unread: usize,
) -> Outcome<String> {
    let at = at.format(&Rfc3339)?;
    Ok(format!(
        "{id}\t{user}\tcustom\t{account}\t{chat}\tAda\t{at}\t{unread}\t{at}\t{at}"
    ))
}
