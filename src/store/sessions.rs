//! Signed-in sessions: families of refresh tokens, each replacing the one before it (RFC 9700, section 4.14.2).

use std::time::Duration;

use hub_actors::ports::StoreError;
use hub_actors::{SessionId, UserId};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Store;
use super::errors::read;
use super::pool::{Connection, Transaction};
use super::sealing::REPLACEMENT;

/// A refresh token that was just issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefreshToken {
    /// The token's own id.
    pub id: Uuid,
    /// The family that it belongs to.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// SHA-256 of the token; the token itself is not stored.
    pub token_hash: [u8; 32],
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// What became of a refresh token that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It is replaced by the new one.
    Rotated,
    /// It was replaced a moment ago, by another tab: the pair that replaced it, opened.
    Repeated {
        /// What was stored as the replacement.
        replacement: Vec<u8>,
    },
    /// It was replaced long ago, so somebody kept a copy: the whole session is now revoked.
    Reused {
        /// The session that ended.
        session_id: SessionId,
    },
    /// There is no such token.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its session was ended.
    Revoked,
}

const INSERT: &str = "INSERT INTO refresh_tokens (id, session_id, user_id, token_hash, expires_at, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const FIND: &str = "SELECT id, session_id, user_id, expires_at, revoked_at IS NOT NULL, replaced_at, replacement \
    FROM refresh_tokens WHERE token_hash = $1 FOR UPDATE";
const REPLACE: &str = "UPDATE refresh_tokens SET replaced_at = $2, replacement = $3 WHERE id = $1";
const REVOKE: &str = "UPDATE refresh_tokens SET revoked_at = $2, replacement = NULL \
    WHERE session_id = $1 AND revoked_at IS NULL";

impl Store {
    /// Stores the first refresh token of a new session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_session(&self, token: &NewRefreshToken) -> Result<(), StoreError> {
        self.execute(
            INSERT,
            &[
                &token.id,
                &token.session_id.0,
                &token.user_id.0,
                &token.token_hash.as_slice(),
                &token.expires_at,
                &self.now(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Replaces a refresh token by a new one of the same session, in one transaction. `replacement` is what
    /// [`Rotation::Repeated`] gives back to another tab that hands the old token in within `grace`.
    ///
    /// # Errors
    /// [`StoreError`]; the old token then stays as it was.
    pub async fn rotate_session(
        &self,
        old_hash: [u8; 32],
        new: &NewRefreshToken,
        replacement: &[u8],
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        let mut connection = self.connection().await?;
        connection.prepare(&[FIND, REPLACE, INSERT, REVOKE]).await?;
        let transaction = Transaction::new(&connection);
        let rotation = self.rotate(&connection, old_hash, new, replacement, grace).await?;
        transaction.commit().await?;
        Ok(rotation)
    }

    async fn rotate(
        &self,
        connection: &Connection,
        old_hash: [u8; 32],
        new: &NewRefreshToken,
        replacement: &[u8],
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        let (client, now) = (connection.client(), self.now());
        let find = connection.statement(FIND)?;
        let rows = connection
            .wait(async {
                let parameters: [&(dyn ToSql + Sync); 1] = [&old_hash.as_slice()];
                let (begun, rows) = futures_util::join!(client.batch_execute("BEGIN"), client.query(find, &parameters));
                begun?;
                rows
            })
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Rotation::Unknown);
        };
        let id: Uuid = read(row, 0)?;
        let session_id = SessionId(read(row, 1)?);
        let expires_at: OffsetDateTime = read(row, 3)?;
        let replaced_at: Option<OffsetDateTime> = read(row, 5)?;
        if read(row, 4)? {
            return Ok(Rotation::Revoked);
        }
        if expires_at <= now {
            return Ok(Rotation::Expired);
        }
        if let Some(replaced_at) = replaced_at {
            let sealed: Option<&[u8]> = read(row, 6)?;
            return match sealed.filter(|_| now <= replaced_at + grace) {
                Some(sealed) => Ok(Rotation::Repeated {
                    replacement: REPLACEMENT.open(self.vault(), id.as_bytes(), sealed)?,
                }),
                None => {
                    let revoke = connection.statement(REVOKE)?;
                    // A refresh that ends meanwhile adds a token that only a statement begun later can see.
                    while connection.wait(client.execute(revoke, &[&session_id.0, &now])).await? > 0 {}
                    Ok(Rotation::Reused { session_id })
                }
            };
        }
        if read::<Uuid>(row, 2)? != new.user_id.0 || session_id != new.session_id {
            return Ok(Rotation::Unknown);
        }
        let sealed = REPLACEMENT.seal(self.vault(), id.as_bytes(), replacement)?;
        connection
            .wait(client.execute(connection.statement(REPLACE)?, &[&id, &now, &sealed]))
            .await?;
        connection
            .wait(client.execute(
                connection.statement(INSERT)?,
                &[
                    &new.id,
                    &new.session_id.0,
                    &new.user_id.0,
                    &new.token_hash.as_slice(),
                    &new.expires_at,
                    &now,
                ],
            ))
            .await?;
        Ok(Rotation::Rotated)
    }

    /// Ends the session that a refresh token belongs to; the session's id, also when it had ended before. None for an
    /// unknown token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session_by_token(&self, token_hash: [u8; 32]) -> Result<Option<SessionId>, StoreError> {
        loop {
            let row = self
                .query_one(
                    "WITH family AS (SELECT session_id FROM refresh_tokens WHERE token_hash = $1), \
                 revoked AS (UPDATE refresh_tokens t SET revoked_at = $2, replacement = NULL FROM family f \
                     WHERE t.session_id = f.session_id AND t.revoked_at IS NULL RETURNING 1) \
                 SELECT session_id, (SELECT count(*) FROM revoked) FROM family",
                    &[&token_hash.as_slice(), &self.now()],
                )
                .await?;
            let Some(row) = row else { return Ok(None) };
            // A refresh that ends meanwhile adds a token that only a statement begun later can see.
            if read::<i64>(&row, 1)? == 0 {
                return read(&row, 0).map(SessionId).map(Some);
            }
        }
    }

    /// True while the session was not ended and its newest token has not expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_is_live(&self, session_id: SessionId) -> Result<bool, StoreError> {
        self.inner.sessions_asked.ask(session_id).await
    }

    /// The same for several sessions, in their order.
    pub(super) async fn sessions_are_live(self, sessions: Vec<SessionId>) -> Result<Vec<bool>, StoreError> {
        let ids: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let rows = self
            .query(
                "SELECT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = q.id AND t.revoked_at IS NULL \
                 AND t.replaced_at IS NULL AND t.expires_at > $2) \
                 FROM unnest($1::uuid[]) WITH ORDINALITY AS q(id, question) ORDER BY q.question",
                &[&ids, &self.now()],
            )
            .await?;
        rows.iter().map(|row| read(row, 0)).collect()
    }
}
