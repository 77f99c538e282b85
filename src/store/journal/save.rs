//! Saves what a batch has changed and commits it.

use std::pin::Pin;
use std::task::Poll;

use hub_actors::ports::StoreError;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::Trouble;
use super::rows::Rows;
use crate::store::errors::{classify, is_contended};
use crate::store::pool::{Connection, PATIENCE, Transaction};

const READ_CONVERSATIONS: &str = "UPDATE messages SET is_read = true \
    WHERE conversation_id = ANY($1::uuid[]) AND NOT is_read AND NOT is_outgoing";
const READ_UP_TO: &str = concat!(
    "UPDATE messages n SET is_read = true \
     FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS v(conversation_id, number, sent_at) \
     WHERE n.conversation_id = v.conversation_id AND NOT n.is_read AND NOT n.is_outgoing AND ",
    covered!()
);
const REMEMBER: &str = "INSERT INTO link_memory (account_id, name, value) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[]) \
    ON CONFLICT (account_id, name) DO UPDATE SET value = excluded.value";
const FORGET: &str = "DELETE FROM link_memory m USING unnest($1::uuid[], $2::text[]) AS v(account_id, name) \
    WHERE m.account_id = v.account_id AND m.name = v.name";
const UPDATE_ACCOUNTS: &str = "UPDATE connected_accounts a \
    SET state = v.state, state_reason = v.state_reason, state_until = v.state_until, updated_at = v.updated_at \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) \
    AS v(id, state, state_reason, state_until, updated_at) \
    WHERE a.id = v.id";
const INSERT_CONVERSATIONS: &str = "INSERT INTO conversations (id, user_id, platform, account_id, \
    platform_conversation_id, participant_id, participant_name, participant_avatar_url, last_message_at, unread_count, \
    created_at, updated_at) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], \
    $7::text[], $8::text[], $9::timestamptz[], $10::integer[], $11::timestamptz[], $12::timestamptz[])";
const UPDATE_CONVERSATIONS: &str = "UPDATE conversations c SET participant_id = v.participant_id, \
    participant_name = v.participant_name, participant_avatar_url = v.participant_avatar_url, \
    last_message_at = v.last_message_at, unread_count = v.unread_count, updated_at = v.updated_at \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::integer[], $7::timestamptz[]) \
    AS v(id, participant_id, participant_name, participant_avatar_url, last_message_at, unread_count, updated_at) \
    WHERE c.id = v.id";
const DELETE_MESSAGES: &str = "WITH reactions AS (DELETE FROM message_reactions WHERE message_id = ANY($1::uuid[])), \
    edits AS (DELETE FROM message_edits WHERE message_id = ANY($1::uuid[])) \
    DELETE FROM messages WHERE id = ANY($1::uuid[])";
const INSERT_MESSAGES: &str = "INSERT INTO messages (id, conversation_id, platform_message_id, sender_id, sender_name, \
    content, message_type, media_url, reply_to, is_outgoing, is_read, status, status_reason, sent_at, delivered_at, \
    read_at, edited_at, deleted_at, created_at, attachments, is_sent_here) \
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], \
    $5::text[], $6::bytea[], $7::text[], $8::bytea[], $9::text[], $10::boolean[], $11::boolean[], $12::text[], \
    $13::text[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], \
    $19::timestamptz[], $20::bytea[], $21::boolean[])";
const UPDATE_MESSAGES: &str = "UPDATE messages m SET platform_message_id = v.platform_message_id, content = v.content, \
    media_url = v.media_url, is_read = v.is_read, status = v.status, status_reason = v.status_reason, \
    delivered_at = v.delivered_at, read_at = v.read_at, edited_at = v.edited_at, deleted_at = v.deleted_at, \
    attachments = v.attachments \
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::boolean[], $6::text[], $7::text[], \
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::bytea[]) AS v(id, platform_message_id, content, \
    media_url, is_read, status, status_reason, delivered_at, read_at, edited_at, deleted_at, attachments) WHERE m.id = v.id";
const ERASE: &str = "WITH reactions AS (DELETE FROM message_reactions WHERE message_id = ANY($1::uuid[])) \
    DELETE FROM message_edits WHERE message_id = ANY($1::uuid[])";
const UPSERT_REACTIONS: &str = "INSERT INTO message_reactions (message_id, actor_id, emoji, is_active, reacted_at) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::timestamptz[]) \
    ON CONFLICT (message_id, actor_id, emoji) DO UPDATE \
    SET is_active = excluded.is_active, reacted_at = excluded.reacted_at";
/// A redelivered edit is there already.
const INSERT_EDITS: &str = "INSERT INTO message_edits (message_id, edited_at, content) \
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[]) ON CONFLICT DO NOTHING";
const INSERT_OUTBOX: &str = "INSERT INTO outbox (id, user_id, account_id, conversation_id, message_id, payload, state, \
    attempts, due_at, stream_seq, created_at) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], \
    $5::uuid[], $6::bytea[], $7::text[], $8::integer[], $9::timestamptz[], $10::bigint[], $11::timestamptz[])";
const UPDATE_OUTBOX: &str = "UPDATE outbox o SET state = v.state, attempts = v.attempts, due_at = v.due_at \
    FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::timestamptz[]) AS v(id, state, attempts, due_at) \
    WHERE o.id = v.id";
const INSERT_PARKED: &str = "INSERT INTO parked_events (id, user_id, conversation_id, platform_message_id, payload, \
    created_at) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::timestamptz[])";
const DELETE_PARKED: &str = "DELETE FROM parked_events WHERE id = ANY($1::uuid[])";
const INSERT_IDEMPOTENCY: &str = "INSERT INTO idempotency_keys (user_id, key, fingerprint, message_id, created_at) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[], $5::timestamptz[])";
const INSERT_EVENTS: &str = "INSERT INTO events (user_id, seq, kind, conversation_id, payload, created_at) \
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::bytea[], $6::timestamptz[])";
const UPDATE_STREAMS: &str = "UPDATE users u SET last_seq = v.last_seq \
    FROM unnest($1::uuid[], $2::bigint[]) AS v(id, last_seq) WHERE u.id = v.id";
const DELETE_OUTBOX: &str = "DELETE FROM outbox WHERE id = ANY($1::uuid[]) OR message_id = ANY($2::uuid[])";

/// All statements of this file, to be prepared.
pub(super) static STATEMENTS: [&str; 21] = [
    READ_CONVERSATIONS,
    READ_UP_TO,
    REMEMBER,
    FORGET,
    UPDATE_ACCOUNTS,
    INSERT_CONVERSATIONS,
    UPDATE_CONVERSATIONS,
    DELETE_MESSAGES,
    INSERT_MESSAGES,
    UPDATE_MESSAGES,
    ERASE,
    UPSERT_REACTIONS,
    INSERT_EDITS,
    INSERT_OUTBOX,
    UPDATE_OUTBOX,
    INSERT_PARKED,
    DELETE_PARKED,
    INSERT_IDEMPOTENCY,
    INSERT_EVENTS,
    UPDATE_STREAMS,
    DELETE_OUTBOX,
];

/// The answer to a statement that is sent when this is first polled.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// A statement on its way.
enum Sent<'a> {
    Waiting(Answer<'a>),
    /// A fast database has answered already.
    Answered(u64),
}

impl<'a> Sent<'a> {
    /// Sends it. An error means that it failed at once, most likely before it was sent.
    async fn now(mut answer: Answer<'a>) -> Result<Self, Error> {
        match futures_util::poll!(&mut answer) {
            Poll::Pending => Ok(Self::Waiting(answer)),
            Poll::Ready(result) => result.map(Self::Answered),
        }
    }

    async fn wait(self) -> Result<u64, Error> {
        match self {
            Self::Waiting(answer) => answer.await,
            Self::Answered(rows) => Ok(rows),
        }
    }
}

/// Statements that are sent one behind the other, without waiting for answers.
struct Pipeline<'a> {
    connection: &'a Connection,
    answers: Vec<Answer<'a>>,
}

impl<'a> Pipeline<'a> {
    /// Appends a statement, unless there is nothing for it to do.
    fn push<const N: usize>(
        &mut self,
        sql: &'static str,
        is_needless: bool,
        parameters: [&'a (dyn ToSql + Sync); N],
    ) -> Result<(), StoreError> {
        if !is_needless {
            let (client, statement) = (self.connection.client(), self.connection.statement(sql)?);
            self.answers
                .push(Box::pin(async move { client.execute(statement, &parameters).await }));
        }
        Ok(())
    }
}

/// Saves all rows and commits, in one round trip.
pub(super) async fn save_and_commit(
    connection: &Connection,
    transaction: Transaction<'_>,
    rows: &Rows<'_>,
) -> Result<(), Trouble> {
    let mut answers = Vec::new();
    for answer in statements(connection, rows)? {
        // What fails on this side is not sent, so COMMIT must not follow it. Dropping the transaction rolls it back.
        answers.push(Sent::now(answer).await.map_err(|error| classify(&error))?);
    }
    fail::fail_point!("journal.before_commit");
    let client = connection.client();
    let commit: Answer<'_> = Box::pin(async { client.batch_execute("COMMIT").await.map(|()| 0) });
    let commit = Sent::now(commit).await;
    fail::fail_point!("journal.commit_sent");
    transaction.close();
    let all = async {
        // Answers come in the order of sending, so waiting for them one after the other loses no time.
        for answer in answers {
            answer.wait().await.map_err(|error| match error.as_db_error() {
                // The database has refused a statement: then COMMIT, which follows it, rolls back.
                Some(_) if is_contended(&error) => Trouble::Contended(classify(&error)),
                Some(_) => Trouble::from(classify(&error)),
                None => Trouble::Moment(StoreError::Unknown(error.to_string())),
            })?;
        }
        let committed = match commit {
            Ok(commit) => commit.wait().await,
            Err(error) => Err(error),
        };
        committed.map_err(|error| Trouble::Moment(StoreError::Unknown(error.to_string())))?;
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| {
        connection.retire();
        let text = format!("no answer to COMMIT within {} s", PATIENCE.as_secs());
        Err(Trouble::Moment(StoreError::Unknown(text)))
    })
}

/// In the order that the rules ask for: what was read before this batch first, removals before what takes their place.
fn statements<'a>(connection: &'a Connection, rows: &'a Rows<'_>) -> Result<Vec<Answer<'a>>, StoreError> {
    let mut pipeline = Pipeline {
        connection,
        answers: Vec::with_capacity(8),
    };
    push_conversations(&mut pipeline, rows)?;
    push_messages(&mut pipeline, rows)?;
    push_outbox(&mut pipeline, rows)?;
    let row = &rows.events;
    pipeline.push(
        INSERT_EVENTS,
        row.user_id.is_empty(),
        [
            &row.user_id,
            &row.seq,
            &row.kind,
            &row.conversation_id,
            &row.payload,
            &row.created_at,
        ],
    )?;
    let row = &rows.streams;
    pipeline.push(UPDATE_STREAMS, row.user_id.is_empty(), [&row.user_id, &row.last_seq])?;
    let nothing_leaves = rows.outbox_removed.is_empty() && rows.outbox_settled.is_empty();
    pipeline.push(
        DELETE_OUTBOX,
        nothing_leaves,
        [&rows.outbox_removed, &rows.outbox_settled],
    )?;
    Ok(pipeline.answers)
}

fn push_conversations<'a>(pipeline: &mut Pipeline<'a>, rows: &'a Rows<'_>) -> Result<(), StoreError> {
    let read = &rows.read_conversations;
    pipeline.push(READ_CONVERSATIONS, read.is_empty(), [read])?;
    let read = &rows.read_up_to;
    pipeline.push(
        READ_UP_TO,
        read.conversation_id.is_empty(),
        [&read.conversation_id, &read.number, &read.sent_at],
    )?;
    let row = &rows.remembered;
    pipeline.push(REMEMBER, row.name.is_empty(), [&row.account_id, &row.name, &row.value])?;
    let row = &rows.forgotten;
    pipeline.push(FORGET, row.name.is_empty(), [&row.account_id, &row.name])?;
    let row = &rows.accounts;
    pipeline.push(
        UPDATE_ACCOUNTS,
        row.id.is_empty(),
        [
            &row.id,
            &row.state,
            &row.state_reason,
            &row.state_until,
            &row.updated_at,
        ],
    )?;
    let row = &rows.conversations_new;
    pipeline.push(
        INSERT_CONVERSATIONS,
        row.id.is_empty(),
        [
            &row.id,
            &row.user_id,
            &row.platform,
            &row.account_id,
            &row.external_id,
            &row.participant_id,
            &row.participant_name,
            &row.participant_avatar_url,
            &row.last_message_at,
            &row.unread_count,
            &row.created_at,
            &row.updated_at,
        ],
    )?;
    let row = &rows.conversations;
    pipeline.push(
        UPDATE_CONVERSATIONS,
        row.id.is_empty(),
        [
            &row.id,
            &row.participant_id,
            &row.participant_name,
            &row.participant_avatar_url,
            &row.last_message_at,
            &row.unread_count,
            &row.updated_at,
        ],
    )
}

fn push_messages<'a>(pipeline: &mut Pipeline<'a>, rows: &'a Rows<'_>) -> Result<(), StoreError> {
    let removed = &rows.messages_removed;
    pipeline.push(DELETE_MESSAGES, removed.is_empty(), [removed])?;
    let row = &rows.messages_new;
    pipeline.push(
        INSERT_MESSAGES,
        row.id.is_empty(),
        [
            &row.id,
            &row.conversation_id,
            &row.external_id,
            &row.sender_id,
            &row.sender_name,
            &row.content,
            &row.kind,
            &row.media_url,
            &row.reply_to,
            &row.is_outgoing,
            &row.is_read,
            &row.status,
            &row.status_reason,
            &row.sent_at,
            &row.delivered_at,
            &row.read_at,
            &row.edited_at,
            &row.deleted_at,
            &row.created_at,
            &row.attachments,
            &row.is_sent_here,
        ],
    )?;
    let row = &rows.messages;
    pipeline.push(
        UPDATE_MESSAGES,
        row.id.is_empty(),
        [
            &row.id,
            &row.external_id,
            &row.content,
            &row.media_url,
            &row.is_read,
            &row.status,
            &row.status_reason,
            &row.delivered_at,
            &row.read_at,
            &row.edited_at,
            &row.deleted_at,
            &row.attachments,
        ],
    )?;
    pipeline.push(ERASE, rows.erased.is_empty(), [&rows.erased])?;
    let row = &rows.reactions;
    pipeline.push(
        UPSERT_REACTIONS,
        row.message_id.is_empty(),
        [
            &row.message_id,
            &row.actor_id,
            &row.emoji,
            &row.is_active,
            &row.reacted_at,
        ],
    )?;
    let row = &rows.edits;
    pipeline.push(
        INSERT_EDITS,
        row.message_id.is_empty(),
        [&row.message_id, &row.edited_at, &row.content],
    )
}

fn push_outbox<'a>(pipeline: &mut Pipeline<'a>, rows: &'a Rows<'_>) -> Result<(), StoreError> {
    let row = &rows.outbox_new;
    pipeline.push(
        INSERT_OUTBOX,
        row.id.is_empty(),
        [
            &row.id,
            &row.user_id,
            &row.account_id,
            &row.conversation_id,
            &row.message_id,
            &row.payload,
            &row.state,
            &row.attempts,
            &row.due_at,
            &row.stream_seq,
            &row.created_at,
        ],
    )?;
    let row = &rows.outbox;
    pipeline.push(
        UPDATE_OUTBOX,
        row.id.is_empty(),
        [&row.id, &row.state, &row.attempts, &row.due_at],
    )?;
    let row = &rows.parked_new;
    pipeline.push(
        INSERT_PARKED,
        row.id.is_empty(),
        [
            &row.id,
            &row.user_id,
            &row.conversation_id,
            &row.message,
            &row.payload,
            &row.created_at,
        ],
    )?;
    let removed = &rows.parked_removed;
    pipeline.push(DELETE_PARKED, removed.is_empty(), [removed])?;
    let row = &rows.idempotency_new;
    pipeline.push(
        INSERT_IDEMPOTENCY,
        row.user_id.is_empty(),
        [
            &row.user_id,
            &row.key,
            &row.fingerprint,
            &row.message_id,
            &row.created_at,
        ],
    )
}
