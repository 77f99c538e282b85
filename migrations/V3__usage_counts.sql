-- The log of API use is kept by kind of request: one row for many that are alike.
ALTER TABLE api_usage_logs ADD COLUMN request_count integer NOT NULL DEFAULT 1 CHECK (request_count > 0);
