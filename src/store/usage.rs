//! The log of API use, written in batches.

use hub_actors::ports::StoreError;
use hub_actors::{AccountId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;

/// What makes requests alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsageKind {
    /// Who asked; none without a sign-in.
    pub user_id: Option<UserId>,
    /// The account that it was about.
    pub account_id: Option<AccountId>,
    /// The platform that it was about.
    pub platform: Option<String>,
    /// The route's pattern, never the path with its ids.
    pub endpoint: String,
    /// The HTTP method.
    pub method: String,
    /// The HTTP status.
    pub status: i16,
}

/// Answered requests that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    /// What they have in common.
    pub kind: UsageKind,
    /// How many there were.
    pub requests: i32,
    /// When the first of them was answered.
    pub at: OffsetDateTime,
}

impl Store {
    /// Stores records, all in one statement.
    ///
    /// # Errors
    /// [`StoreError`]; none of them is stored then.
    pub async fn record_usage(&self, records: Vec<UsageRecord>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let users: Vec<Option<Uuid>> = records
            .iter()
            .map(|record| record.kind.user_id.map(|id| id.0))
            .collect();
        let accounts: Vec<Option<Uuid>> = records
            .iter()
            .map(|record| record.kind.account_id.map(|id| id.0))
            .collect();
        let platforms: Vec<Option<&str>> = records.iter().map(|record| record.kind.platform.as_deref()).collect();
        let endpoints: Vec<&str> = records.iter().map(|record| record.kind.endpoint.as_str()).collect();
        let methods: Vec<&str> = records.iter().map(|record| record.kind.method.as_str()).collect();
        let statuses: Vec<i16> = records.iter().map(|record| record.kind.status).collect();
        let requests: Vec<i32> = records.iter().map(|record| record.requests).collect();
        let times: Vec<OffsetDateTime> = records.iter().map(|record| record.at).collect();
        self.execute(
            "INSERT INTO api_usage_logs (user_id, account_id, platform, endpoint, method, status, request_count, created_at) \
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::smallint[], \
             $7::integer[], $8::timestamptz[])",
            &[
                &users, &accounts, &platforms, &endpoints, &methods, &statuses, &requests, &times,
            ],
        )
        .await?;
        Ok(())
    }
}
