//! What must hold in every snapshot of the tables, also in the one that a killed hub leaves behind: what is committed
//! together is there together.

use crate::support::{Database, Kind};

/// Each row of the answer names something that is not whole. Events are given out in order, none is trimmed in a test.
const BROKEN: &str = "
    SELECT 'message ' || m.id || ' is ' || m.status || ' and has ' || count(o.id) || ' outbox entries'
    FROM messages m LEFT JOIN outbox o ON o.message_id = m.id
    GROUP BY m.id
    HAVING count(o.id) <> CASE WHEN m.status IN ('queued', 'sending', 'unknown', 'failed') THEN 1 ELSE 0 END
    UNION ALL
    SELECT 'conversation ' || id || ' has ' || messages || ' messages and ' || events || ' events of new ones'
    FROM (SELECT c.id,
                 (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) AS messages,
                 (SELECT count(*) FROM events e
                  WHERE e.conversation_id = c.id AND e.kind IN ('message_received', 'message_queued')) AS events
          FROM conversations c) counts
    WHERE messages <> events
    UNION ALL
    SELECT 'user ' || u.id || ' is at ' || u.last_seq || ' and has ' || count(e.seq) || ' events, to ' || max(e.seq)
    FROM users u JOIN events e ON e.user_id = u.id
    GROUP BY u.id
    HAVING count(*) <> u.last_seq OR max(e.seq) <> u.last_seq
    UNION ALL
    SELECT 'key ' || k.key || ' has no message'
    FROM idempotency_keys k LEFT JOIN messages m ON m.id = k.message_id
    WHERE m.id IS NULL
    UNION ALL
    SELECT 'outbox entry ' || o.id || ' has no message'
    FROM outbox o LEFT JOIN messages m ON m.id = o.message_id
    WHERE o.message_id IS NOT NULL AND m.id IS NULL";

/// Asks a real database; the embedded one can only be asked by its own hub.
pub async fn assert_whole(context: &str, database: &Database) {
    if database.kind == Kind::Postgres {
        let broken = database.query(BROKEN).await;
        assert!(broken.is_empty(), "{context}: {broken:#?}");
    }
}
