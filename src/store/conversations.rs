//! Conversations: read here, changed by the journal.

use hub_actors::domain::Conversation;
use hub_actors::ports::{ConversationHead, StoreError};
use hub_actors::{AccountId, ConversationId, ExternalId, PlatformId, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::errors::read;

/// Unread messages, platform by platform.
pub(super) type UnreadByPlatform = Vec<(PlatformId, i64)>;

/// Which conversations are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationFilter {
    /// Only of this platform; `facebook` and `facebook_cookie` are one.
    pub platform: Option<PlatformId>,
    /// How many conversations without unread messages are counted in.
    pub max_read: i64,
    /// At most so many.
    pub limit: i64,
    /// After leaving out so many.
    pub offset: i64,
}

/// A page of conversations: all with unread messages first, then others, newest first in each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationPage {
    /// The page.
    pub conversations: Vec<Conversation>,
    /// How many conversations have unread messages.
    pub unread: i64,
    /// How many have none, at most the filter's `max_read`.
    pub read: i64,
}

/// The columns that [`conversation`] reads, in its order.
macro_rules! conversation_columns {
    () => {
        "c.id, c.user_id, c.account_id, c.platform, c.platform_conversation_id, c.participant_id, c.participant_name, \
         c.participant_avatar_url, c.last_message_at, c.unread_count, c.created_at, c.updated_at"
    };
}
pub(super) use conversation_columns;

pub(super) fn conversation(row: &Row) -> Result<Conversation, StoreError> {
    Ok(Conversation {
        id: ConversationId(read(row, 0)?),
        user_id: UserId(read(row, 1)?),
        account_id: AccountId(read(row, 2)?),
        platform: PlatformId::from(read::<&str>(row, 3)?),
        external_id: ExternalId::from(read::<&str>(row, 4)?),
        participant_id: read(row, 5)?,
        participant_name: read(row, 6)?,
        participant_avatar_url: read(row, 7)?,
        last_message_at: read(row, 8)?,
        unread_count: read(row, 9)?,
        created_at: read(row, 10)?,
        updated_at: read(row, 11)?,
    })
}

/// The columns come first, so a row without a conversation (the page is empty) has nulls there and the counts behind.
const LIST: &str = concat!(
    "WITH linked AS MATERIALIZED (SELECT id FROM connected_accounts \
         WHERE user_id = $1 AND is_active AND ($2::text[] IS NULL OR platform = ANY($2::text[]))), \
     unread AS MATERIALIZED (SELECT c.*, 0 AS part FROM conversations c \
         WHERE c.user_id = $1 AND c.unread_count > 0 AND c.account_id IN (SELECT id FROM linked)), \
     read AS MATERIALIZED (SELECT c.*, 1 AS part FROM conversations c \
         WHERE c.user_id = $1 AND c.unread_count = 0 AND c.account_id IN (SELECT id FROM linked) \
         ORDER BY c.last_message_at DESC NULLS LAST, c.id DESC LIMIT $3), \
     page AS (SELECT * FROM (SELECT * FROM unread UNION ALL SELECT * FROM read) c \
         ORDER BY c.part, c.last_message_at DESC NULLS LAST, c.id DESC LIMIT $4 OFFSET $5) \
     SELECT ",
    conversation_columns!(),
    ", n.unread, n.read FROM (SELECT (SELECT count(*) FROM unread) AS unread, (SELECT count(*) FROM read) AS read) n \
     LEFT JOIN page c ON true ORDER BY c.part, c.last_message_at DESC NULLS LAST, c.id DESC"
);

/// The names under which a platform's accounts are stored.
fn stored_names(platform: &PlatformId) -> Vec<&str> {
    match platform.as_str() {
        "facebook" | "facebook_cookie" => vec!["facebook", "facebook_cookie"],
        name => vec![name],
    }
}

impl Store {
    /// A page of the conversations of the user's active accounts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversations(
        &self,
        user_id: UserId,
        filter: &ConversationFilter,
    ) -> Result<ConversationPage, StoreError> {
        let platforms = filter.platform.as_ref().map(stored_names);
        let (max_read, limit, offset) = (filter.max_read.max(0), filter.limit.max(0), filter.offset.max(0));
        let rows = self
            .query(LIST, &[&user_id.0, &platforms, &max_read, &limit, &offset])
            .await?;
        let mut page = ConversationPage {
            conversations: Vec::with_capacity(rows.len()),
            unread: 0,
            read: 0,
        };
        for row in &rows {
            (page.unread, page.read) = (read(row, 12)?, read(row, 13)?);
            if read::<Option<Uuid>>(row, 0)?.is_some() {
                page.conversations.push(conversation(row)?);
            }
        }
        Ok(page)
    }

    /// The user's conversation of that id, also of a disconnected account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversation(&self, user_id: UserId, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
        let row = self
            .query_one(
                concat!(
                    "SELECT ",
                    conversation_columns!(),
                    " FROM conversations c WHERE c.id = $2 AND c.user_id = $1"
                ),
                &[&user_id.0, &id.0],
            )
            .await?;
        row.as_ref().map(conversation).transpose()
    }

    /// The conversations of the user's account, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversations_of_account(
        &self,
        user_id: UserId,
        account_id: AccountId,
        limit: i64,
    ) -> Result<Vec<Conversation>, StoreError> {
        let rows = self
            .query(
                concat!(
                    "SELECT ",
                    conversation_columns!(),
                    " FROM conversations c WHERE c.user_id = $1 AND c.account_id = $2 \
                     ORDER BY c.last_message_at DESC NULLS LAST, c.id DESC LIMIT $3"
                ),
                &[&user_id.0, &account_id.0, &limit.max(0)],
            )
            .await?;
        rows.iter().map(conversation).collect()
    }

    /// The conversation of the user's account that is this chat on the platform.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversation_of_chat(
        &self,
        user_id: UserId,
        account_id: AccountId,
        chat: &ExternalId,
    ) -> Result<Option<Conversation>, StoreError> {
        let row = self
            .query_one(
                concat!(
                    "SELECT ",
                    conversation_columns!(),
                    " FROM conversations c WHERE c.account_id = $2 AND c.platform_conversation_id = $3 AND c.user_id = $1"
                ),
                &[&user_id.0, &account_id.0, &chat.as_str()],
            )
            .await?;
        row.as_ref().map(conversation).transpose()
    }

    /// Anybody's conversation, for the conversation's own actor.
    pub(super) async fn any_conversation_head(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationHead>, StoreError> {
        let row = self
            .query_one(
                "SELECT user_id, account_id, platform, platform_conversation_id FROM conversations WHERE id = $1",
                &[&id.0],
            )
            .await?;
        row.map(|row| {
            Ok(ConversationHead {
                id,
                user_id: UserId(read(&row, 0)?),
                account_id: AccountId(read(&row, 1)?),
                platform: PlatformId::from(read::<&str>(&row, 2)?),
                external_id: ExternalId::from(read::<&str>(&row, 3)?),
            })
        })
        .transpose()
    }

    /// The account's conversation with this chat.
    pub(super) async fn conversation_of(
        &self,
        account_id: AccountId,
        chat: &ExternalId,
    ) -> Result<Option<ConversationId>, StoreError> {
        let row = self
            .query_one(
                "SELECT id FROM conversations WHERE account_id = $1 AND platform_conversation_id = $2",
                &[&account_id.0, &chat.as_str()],
            )
            .await?;
        row.map(|row| read(&row, 0).map(ConversationId)).transpose()
    }

    /// Unread messages of each platform of the user's active accounts, zeros included.
    pub(super) async fn unread_by_platform(&self, user_id: UserId) -> Result<UnreadByPlatform, StoreError> {
        self.inner.unread_asked.ask(user_id).await
    }

    /// The same for several users, in their order.
    pub(super) async fn unread_of_users(self, users: Vec<UserId>) -> Result<Vec<UnreadByPlatform>, StoreError> {
        let ids: Vec<Uuid> = users.iter().map(|user| user.0).collect();
        let rows = self
            .query(
                // Lateral, as everywhere where many ask at once: a join may be planned to walk the whole table.
                "SELECT q.question, a.platform, coalesce(sum(c.unread), 0)::bigint \
                 FROM unnest($1::uuid[]) WITH ORDINALITY AS q(user_id, question) \
                 CROSS JOIN LATERAL (SELECT n.id, n.platform FROM connected_accounts n \
                     WHERE n.user_id = q.user_id AND n.is_active OFFSET 0) a \
                 CROSS JOIN LATERAL (SELECT sum(n.unread_count) AS unread FROM conversations n \
                     WHERE n.account_id = a.id AND n.unread_count > 0) c \
                 GROUP BY q.question, a.platform ORDER BY q.question, a.platform",
                &[&ids],
            )
            .await?;
        let mut counts: Vec<UnreadByPlatform> = users.iter().map(|_| Vec::new()).collect();
        for row in &rows {
            let question = usize::try_from(read::<i64>(row, 0)?).unwrap_or(0).wrapping_sub(1);
            if let Some(counts) = counts.get_mut(question) {
                counts.push((PlatformId::from(read::<&str>(row, 1)?), read(row, 2)?));
            }
        }
        Ok(counts)
    }
}
