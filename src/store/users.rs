//! The people who use the hub.

use std::collections::HashMap;

use hub_actors::UserId;
use hub_actors::ports::StoreError;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::errors::read;

/// A person who uses the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its identifier.
    pub id: UserId,
    /// Lower case.
    pub email: String,
    /// When the person registered.
    pub created_at: OffsetDateTime,
    /// When the e-mail address or password last changed.
    pub updated_at: OffsetDateTime,
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: UserId(read(row, 0)?),
        email: read(row, 1)?,
        created_at: read(row, 2)?,
        updated_at: read(row, 3)?,
    })
}

impl Store {
    /// Registers a person; none when the e-mail address is taken. The address is compared and stored in lower case.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_user(&self, email: &str, password_hash: &str) -> Result<Option<User>, StoreError> {
        let now = self.now();
        let row = self
            .query_one(
                "INSERT INTO users (id, email, password_hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
                 ON CONFLICT (email) DO NOTHING RETURNING id, email, created_at, updated_at",
                &[&UserId::generate(now).0, &email.to_lowercase(), &password_hash, &now],
            )
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// The person with that e-mail address, in any case, and the hash of their password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, StoreError> {
        let row = self
            .query_one(
                "SELECT id, email, created_at, updated_at, password_hash FROM users WHERE email = $1",
                &[&email.to_lowercase()],
            )
            .await?;
        row.map(|row| Ok((user(&row)?, read(&row, 4)?))).transpose()
    }

    /// The person of that id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.inner.users_asked.ask(id).await
    }

    /// The same for several ids, in their order.
    pub(super) async fn users(self, ids: Vec<UserId>) -> Result<Vec<Option<User>>, StoreError> {
        let keys: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = self
            .query(
                "SELECT id, email, created_at, updated_at FROM users WHERE id = ANY($1::uuid[])",
                &[&keys],
            )
            .await?;
        let found: HashMap<UserId, User> = rows
            .iter()
            .map(|row| user(row).map(|user| (user.id, user)))
            .collect::<Result<_, _>>()?;
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }
}
