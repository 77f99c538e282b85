//! Loads what a batch's rules will look at.

use std::collections::BTreeSet;

use futures_util::TryFutureExt;
use hub_actors::domain::{IdempotencyRecord, Needs, ParkedEvent, UnreadMessage, Workspace};
use hub_actors::ports::StoreError;
use hub_actors::{AccountId, ConversationId, ExternalId, MessageId, OutboxId, Seq, UserId};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use super::Trouble;
use crate::store::accounts::{account, account_columns};
use crate::store::conversations::{conversation, conversation_columns};
use crate::store::errors::{is_contended, read};
use crate::store::messages::{join_reactions, message, message_columns};
use crate::store::outbox::{entry, outbox_columns};
use crate::store::pool::Connection;
use crate::store::sealing::PARKED;
use crate::vault::Vault;

/// In the order of the ids, so that two batches never wait for each other in a circle. `NO KEY` lets other tables refer to
/// the user meanwhile.
const USERS: &str = "SELECT id, last_seq FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE";

/// The same without those whose rows others hold.
const FREE_USERS: &str =
    "SELECT id, last_seq FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED";

/// A user's rows are free again in milliseconds, unless who holds them stands still.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '2s'";

/// The sub-queries with LIMIT and OFFSET, here and below, keep the planner from turning the order of the joins round: it plans
/// while the tables are still small, when reading a whole one for each batch looks cheap.
const ACCOUNTS: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT c.account_id FROM unnest($2::uuid[]) AS k(id) \
         CROSS JOIN LATERAL (SELECT n.account_id FROM conversations n WHERE n.id = k.id LIMIT 1) c) q \
     CROSS JOIN LATERAL (SELECT * FROM connected_accounts n WHERE n.id = q.id LIMIT 1) a"
);

/// Also the conversations of messages that idempotency keys lead to.
const CONVERSATIONS: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT m.conversation_id \
         FROM unnest($2::uuid[], $3::text[]) AS k(user_id, key) \
         CROSS JOIN LATERAL (SELECT n.message_id FROM idempotency_keys n \
             WHERE n.user_id = k.user_id AND n.key = k.key LIMIT 1) i \
         CROSS JOIN LATERAL (SELECT n.conversation_id FROM messages n WHERE n.id = i.message_id LIMIT 1) m) q \
     CROSS JOIN LATERAL (SELECT * FROM conversations n WHERE n.id = q.id LIMIT 1) c"
);

const EXTERNAL_CONVERSATIONS: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM unnest($1::uuid[], $2::text[]) AS q(account_id, chat) CROSS JOIN LATERAL (SELECT * FROM conversations n \
     WHERE n.account_id = q.account_id AND n.platform_conversation_id = q.chat LIMIT 1) c"
);

/// Also the messages that idempotency keys lead to.
const MESSAGES: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT i.message_id \
         FROM unnest($2::uuid[], $3::text[]) AS k(user_id, key) \
         CROSS JOIN LATERAL (SELECT n.message_id FROM idempotency_keys n \
             WHERE n.user_id = k.user_id AND n.key = k.key LIMIT 1) i) q \
     CROSS JOIN LATERAL (SELECT * FROM messages n WHERE n.id = q.id LIMIT 1) m",
    join_reactions!()
);

const EXTERNAL_MESSAGES: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM unnest($1::uuid[], $2::text[], $3::text[]) AS q(account_id, chat, message) \
     CROSS JOIN LATERAL (SELECT n.id FROM conversations n \
         WHERE n.account_id = q.account_id AND n.platform_conversation_id = q.chat LIMIT 1) c \
     CROSS JOIN LATERAL (SELECT * FROM messages n \
         WHERE n.conversation_id = c.id AND n.platform_message_id = q.message LIMIT 1) m",
    join_reactions!()
);

const PARKED_EVENTS: &str = "SELECT p.id, p.user_id, p.conversation_id, p.platform_message_id, p.payload, p.created_at \
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS q(account_id, chat, message) \
    CROSS JOIN LATERAL (SELECT n.id FROM conversations n \
        WHERE n.account_id = q.account_id AND n.platform_conversation_id = q.chat LIMIT 1) c \
    CROSS JOIN LATERAL (SELECT * FROM parked_events n \
        WHERE n.conversation_id = c.id AND n.platform_message_id = q.message OFFSET 0) p ORDER BY p.id";

/// By their own ids, by their messages' ids, and by the messages that idempotency keys lead to.
const OUTBOX_ENTRIES: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    " FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT e.id FROM (SELECT unnest($2::uuid[]) AS message_id \
             UNION SELECT i.message_id FROM unnest($3::uuid[], $4::text[]) AS k(user_id, key) \
             CROSS JOIN LATERAL (SELECT n.message_id FROM idempotency_keys n \
                 WHERE n.user_id = k.user_id AND n.key = k.key LIMIT 1) i) m \
         CROSS JOIN LATERAL (SELECT n.id FROM outbox n WHERE n.message_id = m.message_id LIMIT 1) e) q \
     CROSS JOIN LATERAL (SELECT * FROM outbox n WHERE n.id = q.id LIMIT 1) o \
     CROSS JOIN LATERAL (SELECT n.platform_conversation_id FROM conversations n WHERE n.id = o.conversation_id LIMIT 1) c"
);

/// Of conversations by their own ids, and of chats.
const UNREAD: &str = "SELECT q.id, m.id, m.platform_message_id, m.sent_at \
    FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT n.id FROM unnest($2::uuid[], $3::text[]) AS a(account_id, chat) \
        CROSS JOIN LATERAL (SELECT c.id FROM conversations c \
            WHERE c.account_id = a.account_id AND c.platform_conversation_id = a.chat LIMIT 1) n) q \
    CROSS JOIN LATERAL (SELECT n.id, n.platform_message_id, n.sent_at FROM messages n \
        WHERE n.conversation_id = q.id AND NOT n.is_read AND NOT n.is_outgoing \
        ORDER BY n.sent_at DESC, n.id DESC LIMIT 1000) m ORDER BY q.id, m.sent_at DESC, m.id DESC";

/// How many of those that [`UNREAD`] leaves out stay unread when the person has read up to a message.
const OLDER_UNREAD: &str = concat!(
    "SELECT c.id, q.last, o.count FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) \
         AS q(account_id, chat, last, number) \
     CROSS JOIN LATERAL (SELECT n.id FROM conversations n \
         WHERE n.account_id = q.account_id AND n.platform_conversation_id = q.chat LIMIT 1) c \
     CROSS JOIN LATERAL (SELECT q.number, (SELECT n.sent_at FROM messages n \
         WHERE n.conversation_id = c.id AND n.platform_message_id = q.last) AS sent_at OFFSET 0) v \
     CROSS JOIN LATERAL (SELECT count(*) AS count FROM (SELECT n.platform_message_id, n.sent_at FROM messages n \
         WHERE n.conversation_id = c.id AND NOT n.is_read AND NOT n.is_outgoing \
         ORDER BY n.sent_at DESC, n.id DESC OFFSET 1000) n WHERE NOT ",
    covered!(),
    ") o"
);

const UNSEEN: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM unnest($1::uuid[], $2::text[]) AS q(account_id, chat) CROSS JOIN LATERAL (SELECT n.id FROM conversations n \
         WHERE n.account_id = q.account_id AND n.platform_conversation_id = q.chat LIMIT 1) c \
     CROSS JOIN LATERAL (SELECT * FROM messages n WHERE n.conversation_id = c.id AND n.is_outgoing \
         AND n.status IN ('sent', 'delivered') ORDER BY n.sent_at DESC, n.id DESC LIMIT 1000) m",
    join_reactions!()
);

const LEASES: &str = "SELECT account_id, epoch FROM account_leases WHERE account_id = ANY($1::uuid[])";

const IDEMPOTENCY: &str = "SELECT k.user_id, k.key, k.fingerprint, k.message_id \
    FROM unnest($1::uuid[], $2::text[]) AS q(user_id, key) CROSS JOIN LATERAL (SELECT * FROM idempotency_keys n \
        WHERE n.user_id = q.user_id AND n.key = q.key LIMIT 1) k";

/// All statements of this file, to be prepared.
pub(super) static STATEMENTS: [&str; 14] = [
    USERS,
    FREE_USERS,
    ACCOUNTS,
    CONVERSATIONS,
    EXTERNAL_CONVERSATIONS,
    MESSAGES,
    EXTERNAL_MESSAGES,
    PARKED_EVENTS,
    OUTBOX_ENTRIES,
    UNREAD,
    OLDER_UNREAD,
    IDEMPOTENCY,
    UNSEEN,
    LEASES,
];

/// What becomes of users whose rows others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// They are waited for, up to two seconds.
    Wait,
    /// They are left out.
    Skip,
}

/// Begins the transaction, locks the users and fills the workspace, in one round trip.
pub(super) async fn load(
    connection: &Connection,
    vault: &Vault,
    needs: &Needs,
    lock: Lock,
    workspace: &mut Workspace,
) -> Result<(), Trouble> {
    let keys = Keys::of(needs);
    let mut is_held = false;
    let asked = keys
        .ask(connection, lock)?
        .inspect_err(|error| is_held = is_contended(error));
    let loaded = connection.wait(asked).await;
    let loaded = loaded.map_err(|error| {
        if is_held {
            Trouble::Contended(error)
        } else {
            error.into()
        }
    })?;
    for row in &loaded.users {
        workspace.streams.insert(UserId(read(row, 0)?), Seq(read(row, 1)?));
    }
    for row in &loaded.accounts {
        let account = account(row)?;
        workspace.accounts.insert(account.id, account);
    }
    for row in loaded.conversations.iter().chain(&loaded.external_conversations) {
        workspace.add_conversation(conversation(row)?);
    }
    for row in loaded
        .messages
        .iter()
        .chain(&loaded.external_messages)
        .chain(&loaded.unseen)
    {
        workspace.add_message(message(row, vault)?);
    }
    for row in &loaded.parked {
        workspace.add_parked(parked(row, vault)?);
    }
    for row in &loaded.outbox {
        let entry = entry(row, vault)?;
        workspace.outbox.insert(entry.id, entry);
    }
    for row in &loaded.unread {
        let messages = workspace.unread.entry(ConversationId(read(row, 0)?)).or_default();
        messages.push(UnreadMessage {
            id: MessageId(read(row, 1)?),
            external_id: read::<Option<&str>>(row, 2)?.map(ExternalId::from),
            sent_at: read(row, 3)?,
        });
    }
    for row in &loaded.older_unread {
        let key = (ConversationId(read(row, 0)?), ExternalId::from(read::<&str>(row, 1)?));
        workspace.older_unread.insert(key, read(row, 2)?);
    }
    for row in &loaded.leases {
        workspace.leases.insert(AccountId(read(row, 0)?), read(row, 1)?);
    }
    for row in &loaded.idempotency {
        let record = IdempotencyRecord {
            fingerprint: read::<&[u8]>(row, 2)?
                .try_into()
                .map_err(|_| StoreError::Failed("idempotency_keys.fingerprint is not 32 bytes".to_owned()))?,
            message_id: MessageId(read(row, 3)?),
        };
        workspace
            .idempotency
            .insert((UserId(read(row, 0)?), read(row, 1)?), record);
    }
    Ok(())
}

fn parked(row: &Row, vault: &Vault) -> Result<ParkedEvent, StoreError> {
    let id: Uuid = read(row, 0)?;
    Ok(ParkedEvent {
        id,
        user_id: UserId(read(row, 1)?),
        conversation_id: ConversationId(read(row, 2)?),
        message: ExternalId::from(read::<&str>(row, 3)?),
        kind: PARKED.open_json(vault, id.as_bytes(), read(row, 4)?)?,
        created_at: read(row, 5)?,
    })
}

/// What is needed, column by column, as the statements take it.
struct Keys<'n> {
    users: Vec<Uuid>,
    accounts: Vec<Uuid>,
    conversations: Vec<Uuid>,
    external_conversations: (Vec<Uuid>, Vec<&'n str>),
    messages: Vec<Uuid>,
    external_messages: (Vec<Uuid>, Vec<&'n str>, Vec<&'n str>),
    outbox: Vec<Uuid>,
    outbox_messages: Vec<Uuid>,
    unread: Vec<Uuid>,
    seen: (Vec<Uuid>, Vec<&'n str>, Vec<&'n str>),
    /// Of `seen`, the messages' numbers.
    seen_numbers: Vec<Option<i64>>,
    unseen_chats: (Vec<Uuid>, Vec<&'n str>),
    leases: Vec<Uuid>,
    idempotency: (Vec<Uuid>, Vec<&'n str>),
}

/// The rows that were found.
struct Loaded {
    users: Vec<Row>,
    accounts: Vec<Row>,
    conversations: Vec<Row>,
    external_conversations: Vec<Row>,
    messages: Vec<Row>,
    external_messages: Vec<Row>,
    parked: Vec<Row>,
    outbox: Vec<Row>,
    unread: Vec<Row>,
    older_unread: Vec<Row>,
    idempotency: Vec<Row>,
    unseen: Vec<Row>,
    leases: Vec<Row>,
}

impl<'n> Keys<'n> {
    fn of(needs: &'n Needs) -> Self {
        let external = &needs.external_messages;
        let chats = |chats: &'n BTreeSet<(AccountId, ExternalId)>| {
            let pairs = chats.iter().map(|(account, chat)| (account.0, chat.as_str()));
            pairs.unzip()
        };
        Self {
            users: needs.users.iter().map(|UserId(id)| *id).collect(),
            accounts: needs.accounts.iter().map(|AccountId(id)| *id).collect(),
            conversations: needs.conversations.iter().map(|ConversationId(id)| *id).collect(),
            external_conversations: chats(&needs.external_conversations),
            messages: needs.messages.iter().map(|MessageId(id)| *id).collect(),
            external_messages: (
                external.iter().map(|(account, _, _)| account.0).collect(),
                external.iter().map(|(_, chat, _)| chat.as_str()).collect(),
                external.iter().map(|(_, _, message)| message.as_str()).collect(),
            ),
            outbox: needs.outbox.iter().map(|OutboxId(id)| *id).collect(),
            // The entry of every message that is named: a repeated append finds what the first one left in the outbox.
            outbox_messages: needs.outbox_of_messages.union(&needs.messages).map(|id| id.0).collect(),
            unread: needs.unread.iter().map(|ConversationId(id)| *id).collect(),
            seen: (
                needs.seen.iter().map(|(account, _, _)| account.0).collect(),
                needs.seen.iter().map(|(_, chat, _)| chat.as_str()).collect(),
                needs.seen.iter().map(|(_, _, last)| last.as_str()).collect(),
            ),
            seen_numbers: needs.seen.iter().map(|(_, _, last)| last.number()).collect(),
            unseen_chats: chats(&needs.unseen_chats),
            leases: needs.leases.iter().map(|AccountId(id)| *id).collect(),
            idempotency: needs
                .idempotency
                .iter()
                .map(|(user, key)| (user.0, key.as_str()))
                .unzip(),
        }
    }

    /// Sends everything before the first answer is back. What needs nothing is left out.
    fn ask<'a>(
        &'a self,
        connection: &'a Connection,
        lock: Lock,
    ) -> Result<impl Future<Output = Result<Loaded, Error>> + use<'a, 'n>, StoreError> {
        let users = match lock {
            Lock::Wait => USERS,
            Lock::Skip => FREE_USERS,
        };
        let ask = |sql: &'static str| {
            let statement = connection.statement(sql)?;
            Ok::<_, StoreError>(Ask { connection, statement })
        };
        let (users, accounts, conversations) = (ask(users)?, ask(ACCOUNTS)?, ask(CONVERSATIONS)?);
        let (external_conversations, messages) = (ask(EXTERNAL_CONVERSATIONS)?, ask(MESSAGES)?);
        let (external_messages, parked) = (ask(EXTERNAL_MESSAGES)?, ask(PARKED_EVENTS)?);
        let (outbox, unread, idempotency) = (ask(OUTBOX_ENTRIES)?, ask(UNREAD)?, ask(IDEMPOTENCY)?);
        let (older_unread, unseen, leases) = (ask(OLDER_UNREAD)?, ask(UNSEEN)?, ask(LEASES)?);
        Ok(async move {
            let (repeats, repeat_keys) = &self.idempotency;
            let (accounts_of_chats, chats) = &self.external_conversations;
            let (accounts_of_messages, chats_of_messages, external) = &self.external_messages;
            let no_conversation = self.conversations.is_empty() && repeats.is_empty();
            let no_message = self.messages.is_empty() && repeats.is_empty();
            let no_entry = self.outbox.is_empty() && self.outbox_messages.is_empty() && repeats.is_empty();
            let by_message: [&(dyn ToSql + Sync); 3] = [accounts_of_messages, chats_of_messages, external];
            let by_repeat: [&(dyn ToSql + Sync); 2] = [repeats, repeat_keys];
            let ids_of_users: [&(dyn ToSql + Sync); 1] = [&self.users];
            let ids_of_accounts: [&(dyn ToSql + Sync); 2] = [&self.accounts, &self.conversations];
            let ids_of_conversations: [&(dyn ToSql + Sync); 3] = [&self.conversations, repeats, repeat_keys];
            let by_chat: [&(dyn ToSql + Sync); 2] = [accounts_of_chats, chats];
            let ids_of_messages: [&(dyn ToSql + Sync); 3] = [&self.messages, repeats, repeat_keys];
            let ids_of_entries: [&(dyn ToSql + Sync); 4] = [&self.outbox, &self.outbox_messages, repeats, repeat_keys];
            let (seen_accounts, seen_chats, seen_last) = &self.seen;
            let (unseen_accounts, unseen_chats) = &self.unseen_chats;
            let of_unread: [&(dyn ToSql + Sync); 3] = [&self.unread, seen_accounts, seen_chats];
            let of_seen: [&(dyn ToSql + Sync); 4] = [seen_accounts, seen_chats, seen_last, &self.seen_numbers];
            let of_unseen: [&(dyn ToSql + Sync); 2] = [unseen_accounts, unseen_chats];
            let ids_of_leases: [&(dyn ToSql + Sync); 1] = [&self.leases];
            let no_unread = self.unread.is_empty() && seen_chats.is_empty();
            // join! polls in this order, and a statement is sent when it is first polled.
            let answers = futures_util::join!(
                connection.client().batch_execute(BEGIN),
                users.unless(false, &ids_of_users),
                accounts.unless(
                    self.accounts.is_empty() && self.conversations.is_empty(),
                    &ids_of_accounts
                ),
                conversations.unless(no_conversation, &ids_of_conversations),
                external_conversations.unless(chats.is_empty(), &by_chat),
                messages.unless(no_message, &ids_of_messages),
                external_messages.unless(external.is_empty(), &by_message),
                parked.unless(external.is_empty(), &by_message),
                outbox.unless(no_entry, &ids_of_entries),
                unread.unless(no_unread, &of_unread),
                older_unread.unless(seen_chats.is_empty(), &of_seen),
                idempotency.unless(repeats.is_empty(), &by_repeat),
                unseen.unless(unseen_chats.is_empty(), &of_unseen),
                leases.unless(self.leases.is_empty(), &ids_of_leases),
            );
            answers.0?;
            Ok(Loaded {
                users: answers.1?,
                accounts: answers.2?,
                conversations: answers.3?,
                external_conversations: answers.4?,
                messages: answers.5?,
                external_messages: answers.6?,
                parked: answers.7?,
                outbox: answers.8?,
                unread: answers.9?,
                older_unread: answers.10?,
                idempotency: answers.11?,
                unseen: answers.12?,
                leases: answers.13?,
            })
        })
    }
}

/// A statement that may not be needed.
#[derive(Clone, Copy)]
struct Ask<'a> {
    connection: &'a Connection,
    statement: &'a Statement,
}

impl Ask<'_> {
    async fn unless(self, is_needless: bool, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        if is_needless {
            Ok(Vec::new())
        } else {
            self.connection.client().query(self.statement, parameters).await
        }
    }
}
