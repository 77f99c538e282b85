-- Platforms that hold a live link for each account: who owns it, what it remembers, and the files that messages carry.

-- One owner for each live link. A new owner raises the epoch, and the journal refuses what carries an older one.
CREATE TABLE account_leases (
    account_id uuid PRIMARY KEY REFERENCES connected_accounts,
    -- A running hub; a new one at each start.
    owner uuid NOT NULL,
    epoch bigint NOT NULL CHECK (epoch > 0),
    -- By the database's clock.
    expires_at timestamptz NOT NULL
);

-- What a link remembers between its lives: its session, its peers, its cursors.
CREATE TABLE link_memory (
    account_id uuid NOT NULL REFERENCES connected_accounts,
    name text NOT NULL CHECK (name <> ''),
    -- Sealed.
    value bytea NOT NULL,
    PRIMARY KEY (account_id, name)
);

-- Sealed: a JSON list of what is known of the files.
ALTER TABLE messages ADD COLUMN attachments bytea;

-- Until when the state lasts, where that is known.
ALTER TABLE connected_accounts ADD COLUMN state_until timestamptz;
ALTER TABLE connected_accounts DROP CONSTRAINT connected_accounts_state_check;
ALTER TABLE connected_accounts ADD CONSTRAINT connected_accounts_state_check CHECK (state IN
    ('connecting', 'live', 'catching_up', 'backoff', 'flood_wait', 'needs_login', 'revoked', 'failed', 'disabled'));

-- What the other side has not seen yet, for platforms that say how far it has read.
CREATE INDEX messages_unseen ON messages (conversation_id, sent_at DESC, id DESC)
    WHERE is_outgoing AND status IN ('sent', 'delivered');

ALTER TABLE messages ALTER COLUMN attachments SET STORAGE EXTERNAL;
ALTER TABLE link_memory ALTER COLUMN value SET STORAGE EXTERNAL;
