-- The whole schema. Rules that hold for every table:
--  * the application makes all identifiers (UUID version 7) and all times; no column has a time as its default;
--  * `bytea` columns marked "sealed" hold AES-256-GCM values bound to their row (src/vault), never plain text;
--  * a user's rows are only changed while that user's row in `users` is locked, so the tables that the journal writes
--    need no foreign keys: it has read and locked the parents in the same transaction. Rarely written tables have them.

-- One row: what belongs to the database as a whole.
CREATE TABLE hub (
    singleton boolean PRIMARY KEY CHECK (singleton),
    -- Names one life of the database; part of every stream position.
    epoch text NOT NULL CHECK (epoch ~ '^[a-z0-9]{8}$')
);

-- The keys that seal the rows, themselves sealed with the master key, which is not in the database.
CREATE TABLE vault_keys (
    id integer PRIMARY KEY CHECK (id > 0),
    sealed_key bytea NOT NULL,
    -- New values are sealed with the newest key whose time has come.
    current_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE users (
    id uuid PRIMARY KEY,
    -- Lower case.
    email text NOT NULL UNIQUE,
    -- bcrypt.
    password_hash text NOT NULL,
    -- The last number given out in the user's stream.
    last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- Events up to this number have been deleted by retention.
    trimmed_seq bigint NOT NULL DEFAULT 0 CHECK (trimmed_seq >= 0 AND trimmed_seq <= last_seq),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 70);

-- A session is a family of refresh tokens, each replacing the one before it.
CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL REFERENCES users,
    -- SHA-256 of the token.
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    -- Sealed: the pair of tokens that replaced this one, for two tabs that refresh at once.
    replacement bytea,
    replaced_at timestamptz,
    revoked_at timestamptz,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

CREATE TABLE connected_accounts (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    platform text NOT NULL CHECK (platform <> ''),
    -- The account's id on the platform.
    platform_user_id text NOT NULL,
    platform_username text,
    -- Sealed: a JSON object that only the platform's adapter understands. Null once disconnected.
    credentials bytea,
    is_active boolean NOT NULL,
    state text NOT NULL CHECK (state IN
        ('connecting', 'live', 'catching_up', 'backoff', 'needs_login', 'failed', 'disabled')),
    state_reason text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (user_id, platform, platform_user_id)
);

CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    -- The account's owner and platform, which never change, so that reading needs no join.
    user_id uuid NOT NULL,
    platform text NOT NULL,
    account_id uuid NOT NULL REFERENCES connected_accounts,
    -- The chat's id on the platform.
    platform_conversation_id text NOT NULL,
    participant_id text,
    participant_name text,
    participant_avatar_url text,
    last_message_at timestamptz,
    unread_count integer NOT NULL CHECK (unread_count >= 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (account_id, platform_conversation_id)
) WITH (fillfactor = 80);
CREATE INDEX conversations_newest ON conversations (user_id, last_message_at DESC NULLS LAST, id DESC);
CREATE INDEX conversations_unread ON conversations (user_id, last_message_at DESC NULLS LAST, id DESC)
    WHERE unread_count > 0;
CREATE INDEX conversations_unread_of_account ON conversations (account_id) WHERE unread_count > 0;

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    -- The message's id on the platform; null until the platform has taken an outgoing one.
    platform_message_id text,
    sender_id text NOT NULL,
    sender_name text,
    -- Sealed.
    content bytea NOT NULL,
    message_type text NOT NULL CHECK (message_type IN ('text', 'image', 'video', 'file', 'system')),
    -- Sealed.
    media_url bytea,
    -- The platform's id of the message that this one answers.
    reply_to text,
    is_outgoing boolean NOT NULL,
    is_read boolean NOT NULL,
    status text NOT NULL CHECK (status IN
        ('received', 'queued', 'sending', 'unknown', 'failed', 'sent', 'delivered', 'read')),
    status_reason text,
    sent_at timestamptz NOT NULL,
    delivered_at timestamptz,
    read_at timestamptz,
    edited_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX messages_on_platform ON messages (conversation_id, platform_message_id)
    WHERE platform_message_id IS NOT NULL;
CREATE INDEX messages_newest ON messages (conversation_id, sent_at DESC, id DESC);
CREATE INDEX messages_unread ON messages (conversation_id, sent_at DESC, id DESC)
    WHERE NOT is_read AND NOT is_outgoing;

-- The newest word about each (person, emoji); removed ones stay, so that an older "added" that comes late changes nothing.
CREATE TABLE message_reactions (
    message_id uuid NOT NULL,
    actor_id text NOT NULL,
    emoji text NOT NULL,
    is_active boolean NOT NULL,
    reacted_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, actor_id, emoji)
);

CREATE TABLE message_edits (
    message_id uuid NOT NULL,
    edited_at timestamptz NOT NULL,
    -- Sealed: the text that the message got.
    content bytea NOT NULL,
    PRIMARY KEY (message_id, edited_at)
);

-- Edits, deletions, reactions and receipts that came before their message.
CREATE TABLE parked_events (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    platform_message_id text NOT NULL,
    -- Sealed: the event as JSON.
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX parked_events_message ON parked_events (conversation_id, platform_message_id);
CREATE INDEX parked_events_age ON parked_events (created_at);

-- The users' streams.
CREATE TABLE events (
    user_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    kind text NOT NULL CHECK (kind IN
        ('message_received', 'message_queued', 'message_edited', 'message_deleted', 'reaction_added',
         'reaction_removed', 'status_changed', 'conversation_changed', 'account_changed')),
    conversation_id uuid,
    -- Sealed: the event as JSON.
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, seq)
);

-- What must still go out. The id is the key that the platform dedups by.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    account_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    -- Null for a read mark.
    message_id uuid UNIQUE,
    -- Sealed: the action as JSON.
    payload bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'sending', 'stopped')),
    attempts integer NOT NULL CHECK (attempts >= 0),
    due_at timestamptz NOT NULL,
    -- The stream number under which it was accepted: the order in which a conversation's entries leave.
    stream_seq bigint NOT NULL,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX outbox_pending ON outbox (id) WHERE state IN ('queued', 'sending');

-- Genuine deliveries that could not be mapped.
CREATE TABLE quarantine (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    account_id uuid NOT NULL REFERENCES connected_accounts,
    reason text NOT NULL,
    -- Sealed: the raw body.
    body bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX quarantine_account ON quarantine (account_id, created_at);
CREATE INDEX quarantine_age ON quarantine (created_at);

CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL,
    key text NOT NULL,
    -- SHA-256 of the request.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    message_id uuid NOT NULL,
    -- Sealed: the answer that the first request got, once it is settled.
    answer bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE api_usage_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid,
    account_id uuid,
    platform text,
    endpoint text NOT NULL,
    method text NOT NULL,
    status smallint NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX api_usage_logs_platform ON api_usage_logs (platform, created_at);
CREATE INDEX api_usage_logs_age ON api_usage_logs (created_at);

-- Links that a person has begun on a platform's own page and not yet come back from. Used once.
CREATE TABLE oauth_states (
    -- SHA-256 of the state parameter.
    state_hash bytea PRIMARY KEY CHECK (octet_length(state_hash) = 32),
    user_id uuid NOT NULL REFERENCES users,
    platform text NOT NULL,
    -- Sealed: what the way back needs, for example the PKCE verifier, as JSON.
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX oauth_states_expiry ON oauth_states (expires_at);

-- Sealed values do not compress: trying would only cost time.
ALTER TABLE connected_accounts ALTER COLUMN credentials SET STORAGE EXTERNAL;
ALTER TABLE messages ALTER COLUMN content SET STORAGE EXTERNAL, ALTER COLUMN media_url SET STORAGE EXTERNAL;
ALTER TABLE message_edits ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE parked_events ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE quarantine ALTER COLUMN body SET STORAGE EXTERNAL;
