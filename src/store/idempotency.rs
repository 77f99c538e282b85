//! Answers kept under the keys with which clients repeat requests. The keys themselves are stored by the journal.
//!
//! Requests that are under way at the same time share the statements: one reads, one writes.

use std::collections::{BTreeMap, HashMap};

use hub_actors::UserId;
use hub_actors::ports::StoreError;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::errors::read;
use super::sealing::{ANSWER, idempotency_row};

/// Whose request, and the key that the client gave it.
pub(super) type RequestKey = (UserId, String);

const ANSWERS: &str = "SELECT k.user_id, k.key, k.answer FROM unnest($1::uuid[], $2::text[]) AS q(user_id, key) \
    CROSS JOIN LATERAL (SELECT * FROM idempotency_keys n WHERE n.user_id = q.user_id AND n.key = q.key LIMIT 1) k \
    WHERE k.answer IS NOT NULL";
const SAVE: &str = "UPDATE idempotency_keys k SET answer = coalesce(k.answer, v.answer) \
    FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS v(user_id, key, answer) \
    WHERE k.user_id = v.user_id AND k.key = v.key RETURNING k.user_id, k.key, k.answer";

impl Store {
    /// What tells a repetition from another request, without telling of either: a keyed hash (HMAC-SHA-256) of all that
    /// was asked. It stays the same while the first master key is still among the settings.
    pub fn fingerprint(&self, request: &[u8]) -> [u8; 32] {
        self.inner.master.keyed_hash(b"idempotency_keys.fingerprint", request)
    }

    /// Keeps the settled answer of the request with that key, sealed. The first answer wins: what is returned is what
    /// every later repetition gets. When the key is not known (any more), nothing is stored and `answer` is returned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_answer(&self, user_id: UserId, key: &str, answer: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let request = (user_id, key.to_owned());
        self.inner.answers_saved.ask((request, answer)).await
    }

    /// The settled answer of the request with that key; none while it is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answer(&self, user_id: UserId, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.answers_asked.ask((user_id, key.to_owned())).await
    }

    /// [`Store::save_answer`] of several requests.
    pub(super) async fn save_answers(self, saves: Vec<(RequestKey, Vec<u8>)>) -> Result<Vec<Vec<u8>>, StoreError> {
        // In the order of the keys, so that two hubs that save the same ones never wait for each other; the first wins.
        let mut firsts: BTreeMap<(Uuid, &str), Vec<u8>> = BTreeMap::new();
        for ((user_id, key), answer) in &saves {
            if !firsts.contains_key(&(user_id.0, key.as_str())) {
                let sealed = ANSWER.seal(self.vault(), &idempotency_row(user_id.0, key), answer)?;
                firsts.insert((user_id.0, key), sealed);
            }
        }
        let (users, keys): (Vec<Uuid>, Vec<&str>) = firsts.keys().copied().unzip();
        let answers: Vec<&[u8]> = firsts.values().map(Vec::as_slice).collect();
        let rows = self.query(SAVE, &[&users, &keys, &answers]).await?;
        let known = self.open_answers(&rows)?;
        let saved = saves
            .into_iter()
            .map(|(request, answer)| known.get(&request).cloned().unwrap_or(answer));
        Ok(saved.collect())
    }

    /// [`Store::answer`] of several requests.
    pub(super) async fn answers(self, requests: Vec<RequestKey>) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let (users, keys): (Vec<Uuid>, Vec<&str>) =
            requests.iter().map(|(user_id, key)| (user_id.0, key.as_str())).unzip();
        let rows = self.query(ANSWERS, &[&users, &keys]).await?;
        let known = self.open_answers(&rows)?;
        Ok(requests.iter().map(|request| known.get(request).cloned()).collect())
    }

    fn open_answers(&self, rows: &[Row]) -> Result<HashMap<RequestKey, Vec<u8>>, StoreError> {
        let open = |row| {
            let (user_id, key): (Uuid, String) = (read(row, 0)?, read(row, 1)?);
            let answer = ANSWER.open(self.vault(), &idempotency_row(user_id, &key), read(row, 2)?)?;
            Ok(((UserId(user_id), key), answer))
        };
        rows.iter().map(open).collect()
    }
}
