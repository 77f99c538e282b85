-- Keys are kept a while after they were replaced; a copied database is told from its original; indexes.

-- Since when no row was found that is sealed with the key, by the database's clock. Null: it seals, or may have sealed.
ALTER TABLE vault_keys ADD COLUMN replaced_at timestamptz;

-- The database in which the epoch was made (src/store/migrations.rs). In any other one it is a copy, which is another life.
ALTER TABLE hub ADD COLUMN home text;

CREATE INDEX outbox_conversation ON outbox (conversation_id);
-- They served no query.
DROP INDEX refresh_tokens_user;
DROP INDEX api_usage_logs_platform;
