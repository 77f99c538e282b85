//! One try to hand one entry to its platform, and what is stored about it.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::connection;
use crate::domain::{
    Append, Appended, Certainty, Change, EventKind, FailureClass, Message, OutboxEntry, OutboxState, Receipt, Refusal,
    SendError, SendFailure, SendReport,
};
use crate::journal;
use crate::mailbox::answer;
use crate::ports::{AppendError, Outbound, SendKey};
use crate::supervise::Backoff;
use crate::tree::Hub;

/// Longer than any adapter's own limit: reached only when the connection itself is stuck.
const SEND_PATIENCE: Duration = Duration::from_secs(150);
/// How long an account without a link is left alone, unless its link opens before.
const NOT_CONNECTED_PAUSE: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
const STORE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// What came of a try.
pub(super) struct Outcome {
    pub(super) entry: OutboxEntry,
    /// None when the entry is done.
    pub(super) again_at: Option<OffsetDateTime>,
    /// The platform asked the whole account to wait.
    pub(super) park_account_until: Option<OffsetDateTime>,
    /// The message, once its fate is known for now.
    pub(super) message: Option<Box<Message>>,
    /// Whether the platform has taken it, else why not; none while it is tried again.
    pub(super) fate: Option<Result<(), String>>,
}

/// Makes one try. When the tree stops, a try without an answer ends as one whose answer was lost. Comes back only when its outcome is stored: until then the lane waits.
pub(super) async fn attempt(hub: &Hub, mut entry: OutboxEntry) -> Outcome {
    fail::fail_point!("outbox.started");
    let key = send_key(hub, &entry).await;
    if entry.state == OutboxState::Sending && key == SendKey::None {
        // A crash between the first byte and the stored answer: nobody knows, so nothing is sent again.
        let reason = SendFailure::AnswerLost.sentence().to_owned();
        return finish(hub, entry, SendReport::Unknown { reason }, None).await;
    }
    if key == SendKey::None {
        let change = Change::SendStarted {
            entry: Box::new(entry.clone()),
        };
        if let Err(Refusal::Settled) = store(hub, &entry, change).await {
            return Outcome {
                entry,
                again_at: None,
                park_account_until: None,
                message: None,
                fate: Some(Ok(())),
            };
        }
        fail::fail_point!("outbox.marked");
    }
    fail::fail_point!("outbox.before_send");
    let result = send(hub, &entry).await;
    fail::fail_point!("outbox.after_send");
    let (report, park) = judge(hub, &entry, key, result);
    entry.attempts += i32::from(matches!(report, SendReport::Again { .. }));
    finish(hub, entry, report, park).await
}

async fn send_key(hub: &Hub, entry: &OutboxEntry) -> SendKey {
    match hub.platform_of(entry).await {
        Some(platform) => hub
            .adapters
            .get(&platform)
            .map_or(SendKey::None, |adapter| adapter.capabilities().send_key),
        None => SendKey::None,
    }
}

async fn send(hub: &Hub, entry: &OutboxEntry) -> Result<Receipt, SendError> {
    let unreachable = |_| SendError::new(SendFailure::Unreachable);
    let connection = hub.connections.get(&entry.account_id).await.map_err(unreachable)?;
    let (reply, receiver) = oneshot::channel();
    let outbound = Outbound {
        key: entry.id,
        conversation: entry.conversation_external_id.clone(),
        action: entry.action.clone(),
    };
    connection
        .tell(connection::Command::Send { outbound, reply })
        .map_err(unreachable)?;
    let lost = || SendError::new(SendFailure::AnswerLost);
    let mut lets_go = hub.lets_go.subscribe();
    tokio::select! {
        answered = answer(receiver, SEND_PATIENCE) => answered.map_err(|_| lost())?,
        _ = lets_go.wait_for(|lets_go| *lets_go) => Err(lost()),
    }
}

/// What follows from the platform's answer, and until when its account is parked.
fn judge(
    hub: &Hub,
    entry: &OutboxEntry,
    key: SendKey,
    result: Result<Receipt, SendError>,
) -> (SendReport, Option<OffsetDateTime>) {
    let error = match result {
        Ok(receipt) => return (SendReport::Sent(receipt), None),
        Err(error) => error,
    };
    let now = hub.clock.now();
    let reason = error.to_string();
    let attempt = u32::try_from(entry.attempts).unwrap_or(0);
    let is_unsafe = error.failure.certainty() == Certainty::Unknown && key == SendKey::None;
    let is_too_old = now - entry.created_at > hub.settings.outbox_give_up_after;
    match error.failure.class() {
        FailureClass::Permanent | FailureClass::Authentication => (SendReport::Failed { reason }, None),
        _ if is_unsafe => (SendReport::Unknown { reason }, None),
        _ if is_too_old => {
            let reason = format!("given up after many tries: {reason}");
            (SendReport::Failed { reason }, None)
        }
        FailureClass::RateLimited { after } => {
            // Not before the platform says, later and later when it says so again, and never all at the same moment.
            let until = now + after + BACKOFF.delay(attempt);
            (SendReport::Again { due_at: until, reason }, Some(until))
        }
        FailureClass::Transient if error.failure == SendFailure::NotConnected => {
            // Woken when the link is open again, so nothing is lost by waiting long.
            (
                SendReport::Again { due_at: now, reason },
                Some(now + NOT_CONNECTED_PAUSE),
            )
        }
        FailureClass::Transient => (
            SendReport::Again {
                due_at: now + BACKOFF.delay(attempt),
                reason,
            },
            None,
        ),
    }
}

async fn finish(hub: &Hub, mut entry: OutboxEntry, report: SendReport, park: Option<OffsetDateTime>) -> Outcome {
    let fate = match &report {
        SendReport::Sent(_) => Some(Ok(())),
        SendReport::Again { .. } => None,
        SendReport::Failed { reason } | SendReport::Unknown { reason } => Some(Err(reason.clone())),
    };
    let again_at = match &report {
        SendReport::Again { due_at, reason } => {
            tracing::info!(account_id = %entry.account_id, outbox_id = %entry.id, attempts = entry.attempts, %reason, "a send is tried again later");
            Some(*due_at)
        }
        SendReport::Failed { reason } | SendReport::Unknown { reason } => {
            tracing::warn!(account_id = %entry.account_id, outbox_id = %entry.id, %reason, "a send did not succeed");
            None
        }
        SendReport::Sent(_) => None,
    };
    // The entry as it was before this try: the rules count the try themselves.
    let mut before = entry.clone();
    before.attempts -= i32::from(again_at.is_some());
    let appended = store(
        hub,
        &entry,
        Change::SendEnded {
            entry: Box::new(before),
            report,
        },
    )
    .await;
    let again_at = again_at.filter(|_| !matches!(appended, Err(Refusal::Settled)));
    fail::fail_point!("outbox.stored");
    entry.state = OutboxState::Queued;
    let message = appended.ok().filter(|_| again_at.is_none()).and_then(last_message);
    Outcome {
        entry,
        again_at,
        park_account_until: park,
        message,
        fate,
    }
}

fn last_message(appended: Appended) -> Option<Box<Message>> {
    appended.events.into_iter().rev().find_map(|event| match event.kind {
        EventKind::StatusChanged { message } => Some(message),
        _ => None,
    })
}

/// Commits what happened, however long the database is away: what a platform has answered must not be forgotten.
async fn store(hub: &Hub, entry: &OutboxEntry, change: Change) -> Result<Appended, Refusal> {
    let append = Append {
        user_id: entry.user_id,
        change,
    };
    let mut tries = 0;
    loop {
        match journal::append(hub, append.clone()).await {
            Ok(appended) => return Ok(appended),
            Err(AppendError::Refused(refusal)) => return Err(refusal),
            Err(AppendError::Poison(error)) => {
                tracing::error!(outbox_id = %entry.id, %error, "the outcome of a send cannot be stored");
                return Ok(Appended::default());
            }
            Err(error @ (AppendError::Store(_) | AppendError::Busy)) => {
                tracing::warn!(outbox_id = %entry.id, %error, "the outcome of a send is not stored yet; trying again");
                tokio::time::sleep(STORE_BACKOFF.delay(tries)).await;
                tries += 1;
            }
        }
    }
}
