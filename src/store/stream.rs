//! The users' streams: read here, written by the journal.

use hub_actors::domain::{Event, StreamPosition};
use hub_actors::ports::{StoreError, StreamPage, StreamRead, StreamState};
use hub_actors::{Seq, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::errors::{read, unavailable};
use super::sealing::EVENT;
use crate::vault::Place;

/// One statement, so bounds and events are of one moment, however many users are asked about.
const READ: &str = "SELECT q.question, coalesce(u.last_seq, 0), coalesce(u.trimmed_seq, 0), e.seq, e.payload, e.created_at \
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS q(user_id, after, page, question) \
    LEFT JOIN LATERAL (SELECT n.last_seq, n.trimmed_seq FROM users n WHERE n.id = q.user_id LIMIT 1) u ON true \
    LEFT JOIN LATERAL (SELECT n.seq, n.payload, n.created_at FROM events n \
        WHERE n.user_id = q.user_id AND n.seq > q.after ORDER BY n.seq LIMIT q.page) e ON true \
    ORDER BY q.question, e.seq";

impl Store {
    /// Parts of several users' streams; the answers are in the order of the questions. A page ends before an event that
    /// cannot be read; an answer that would begin with it is its error.
    pub(super) async fn read_stream_pages(
        &self,
        reads: &[StreamRead],
    ) -> Result<Vec<Result<StreamPage, StoreError>>, StoreError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<Uuid> = reads.iter().map(|read| read.user_id.0).collect();
        let after: Vec<i64> = reads.iter().map(|read| read.after.0).collect();
        let limits: Vec<i64> = reads
            .iter()
            .map(|read| i64::try_from(read.limit).unwrap_or(i64::MAX))
            .collect();
        let rows = self.query(READ, &[&users, &after, &limits]).await?;
        let mut pages: Vec<Result<StreamPage, StoreError>> = reads.iter().map(|_| Ok(StreamPage::default())).collect();
        for row in &rows {
            let question = usize::try_from(read::<i64>(row, 0)?).unwrap_or(0).wrapping_sub(1);
            let (Some(asked), Some(answer)) = (reads.get(question), pages.get_mut(question)) else {
                continue;
            };
            let Ok(page) = answer else { continue };
            page.state = StreamState {
                last: Seq(read(row, 1)?),
                trimmed: Seq(read(row, 2)?),
            };
            let Some(seq) = read::<Option<i64>>(row, 3)?.map(Seq) else {
                continue;
            };
            // What retention has removed shows as a gap at the beginning: then there is no page, only the bounds.
            let expected = page.events.last().map_or(asked.after.next(), |event| event.seq.next());
            if seq != expected {
                continue;
            }
            match EVENT.open_json(self.vault(), &Place::event_row(asked.user_id, seq), read(row, 4)?) {
                Ok(kind) => page.events.push(Event {
                    user_id: asked.user_id,
                    seq,
                    kind,
                    at: read::<OffsetDateTime>(row, 5)?,
                }),
                Err(error) if page.events.is_empty() => *answer = Err(error),
                Err(_) => {}
            }
        }
        Ok(pages)
    }

    /// The user's events after a number, and the stream's bounds. A page ends before an event that cannot be read.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Failed`] when the first event cannot be read, now or ever.
    pub async fn stream_page(&self, user_id: UserId, after: Seq, limit: usize) -> Result<StreamPage, StoreError> {
        let question = StreamRead { user_id, after, limit };
        let pages = self.read_stream_pages(std::slice::from_ref(&question)).await?;
        pages
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(unavailable("no answer")))
    }

    /// Where the user's stream ends now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stream_position(&self, user_id: UserId) -> Result<StreamPosition, StoreError> {
        let row = self
            .query_one("SELECT last_seq FROM users WHERE id = $1", &[&user_id.0])
            .await?;
        Ok(StreamPosition {
            epoch: self.inner.epoch.clone(),
            seq: Seq(row.map_or(Ok(0), |row| read(&row, 0))?),
        })
    }
}
