-- True for what was sent through the hub; false for what a platform told of. Only the latter can be an echo.
ALTER TABLE messages ADD COLUMN is_sent_here boolean NOT NULL DEFAULT false;
