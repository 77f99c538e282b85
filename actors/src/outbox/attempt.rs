//! One try to hand one entry to its platform, and what is stored about it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock;
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
/// The longest pause of the hub's own choice: a longer one was asked for by the platform.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE);
const STORE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// What came of a try.
pub(super) struct Outcome {
    pub(super) entry: OutboxEntry,
    /// None when the entry is done.
    pub(super) again_at: Option<Instant>,
    /// Holds up the whole account.
    pub(super) park: Option<Park>,
    /// The message, once its fate is known for now.
    pub(super) message: Option<Box<Message>>,
    /// Whether the platform has taken it, else why not; none while it is tried again.
    pub(super) fate: Option<Result<(), String>>,
}

/// Until when nothing leaves for an account, and why.
#[derive(Clone, Copy)]
pub(super) enum Park {
    /// The platform asked it to wait.
    Asked(Instant),
    /// It has no link; over as soon as there is one.
    Unlinked(Instant),
}

/// Makes one try, the last one from `too_old` on. When the tree stops, a try without an answer ends as one whose answer
/// was lost. Comes back only when its outcome is stored: until then the lane waits.
pub(super) async fn attempt(hub: &Hub, mut entry: OutboxEntry, too_old: Instant) -> Outcome {
    fail::fail_point!("outbox.started");
    let key = send_key(hub, &entry).await;
    if entry.state == OutboxState::Sending && key == SendKey::None {
        // A crash between the first byte and the stored answer: nobody knows, so nothing is sent again.
        let reason = SendFailure::AnswerLost.sentence().to_owned();
        return finish(hub, entry, Verdict::last(SendReport::Unknown { reason })).await;
    }
    if key == SendKey::None {
        let change = Change::SendStarted {
            entry: Box::new(entry.clone()),
        };
        if let Err(Refusal::Settled) = store(hub, &entry, change).await {
            return Outcome {
                entry,
                again_at: None,
                park: None,
                message: None,
                fate: Some(Ok(())),
            };
        }
        fail::fail_point!("outbox.marked");
    }
    fail::fail_point!("outbox.before_send");
    let result = send(hub, &entry).await;
    fail::fail_point!("outbox.after_send");
    let verdict = judge(hub, &entry, key, too_old, result);
    entry.attempts += i32::from(verdict.again_at.is_some());
    finish(hub, entry, verdict).await
}

async fn send_key(hub: &Hub, entry: &OutboxEntry) -> SendKey {
    let mut tries = 0;
    let platform = loop {
        match hub.platform_of(entry).await {
            Ok(platform) => break platform,
            Err(error) => {
                tracing::warn!(outbox_id = %entry.id, %error, "it cannot be told yet how a message goes out; trying again");
                tokio::time::sleep(STORE_BACKOFF.delay(tries)).await;
                tries += 1;
            }
        }
    };
    let adapter = platform.and_then(|platform| hub.adapters.get(&platform));
    adapter.map_or(SendKey::None, |adapter| adapter.capabilities().send_key)
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

/// What follows from the platform's answer. The moments are counted by a clock that does not jump; storage is given
/// the wall clock's, for the case that the hub ends before.
struct Verdict {
    report: SendReport,
    again_at: Option<Instant>,
    park: Option<Park>,
}

impl Verdict {
    /// No other try follows by itself.
    fn last(report: SendReport) -> Self {
        Self {
            report,
            again_at: None,
            park: None,
        }
    }

    fn again(hub: &Hub, reason: String, pause: Duration) -> Self {
        let due_at = hub.clock.now() + pause;
        Self {
            report: SendReport::Again { due_at, reason },
            again_at: Some(clock::instant() + pause),
            park: None,
        }
    }
}

fn judge(
    hub: &Hub,
    entry: &OutboxEntry,
    key: SendKey,
    too_old: Instant,
    result: Result<Receipt, SendError>,
) -> Verdict {
    let error = match result {
        Ok(receipt) => return Verdict::last(SendReport::Sent(receipt)),
        Err(error) => error,
    };
    let reason = error.to_string();
    let attempt = u32::try_from(entry.attempts).unwrap_or(0);
    let is_unsafe = error.failure.certainty() == Certainty::Unknown && key == SendKey::None;
    let class = error.failure.class();
    match class {
        FailureClass::Permanent | FailureClass::Authentication => Verdict::last(SendReport::Failed { reason }),
        _ if is_unsafe => Verdict::last(SendReport::Unknown { reason }),
        _ if clock::instant() > too_old => {
            let reason = format!("given up after many tries: {reason}");
            Verdict::last(SendReport::Failed { reason })
        }
        FailureClass::RateLimited { .. } => {
            let verdict = Verdict::again(hub, reason, pause(class, attempt));
            Verdict {
                park: verdict.again_at.map(Park::Asked),
                ..verdict
            }
        }
        FailureClass::Transient if error.failure == SendFailure::NotConnected => Verdict {
            // Woken when the link is open again, so nothing is lost by waiting long.
            park: Some(Park::Unlinked(clock::instant() + NOT_CONNECTED_PAUSE)),
            ..Verdict::again(hub, reason, Duration::ZERO)
        },
        FailureClass::Transient => Verdict::again(hub, reason, pause(class, attempt)),
    }
}

/// The wait before the next try, after so many that failed: not before the platform says, later and later when it says
/// so again, and never all at the same moment.
fn pause(class: FailureClass, attempts: u32) -> Duration {
    let asked = match class {
        FailureClass::RateLimited { after } => after,
        FailureClass::Transient | FailureClass::Authentication | FailureClass::Permanent => Duration::ZERO,
    };
    asked + BACKOFF.delay(attempts)
}

async fn finish(hub: &Hub, mut entry: OutboxEntry, verdict: Verdict) -> Outcome {
    let Verdict { report, again_at, park } = verdict;
    let fate = match &report {
        SendReport::Sent(_) => Some(Ok(())),
        SendReport::Again { .. } => None,
        SendReport::Failed { reason } | SendReport::Unknown { reason } => Some(Err(reason.clone())),
    };
    match &report {
        SendReport::Again { reason, .. } => {
            tracing::info!(account_id = %entry.account_id, outbox_id = %entry.id, attempts = entry.attempts, %reason, "a send is tried again later");
        }
        SendReport::Failed { reason } | SendReport::Unknown { reason } => {
            tracing::warn!(account_id = %entry.account_id, outbox_id = %entry.id, %reason, "a send did not succeed");
        }
        SendReport::Sent(_) => {}
    }
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
        park,
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

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 2_000;

    #[test]
    fn pauses_grow_to_five_minutes_and_fall_anywhere_below() {
        for attempts in (0..12).chain([31, 32, 1_000, u32::MAX]) {
            let ceiling = Duration::from_secs(2_u64.saturating_pow(attempts).min(300));
            let pauses: Vec<Duration> = (0..DRAWS).map(|_| pause(FailureClass::Transient, attempts)).collect();
            assert!(pauses.iter().all(|pause| *pause <= ceiling), "{attempts}");
            for tenth in 0..10 {
                let part = ceiling / 10 * tenth..ceiling / 10 * (tenth + 1);
                let count = pauses.iter().filter(|pause| part.contains(*pause)).count();
                // A tenth of 2,000 is 200, give or take 13: eight times as much is no accident.
                assert!(
                    (95..=305).contains(&count),
                    "{attempts}: {count} of {DRAWS} in tenth {tenth}"
                );
            }
        }
    }

    #[test]
    fn a_platform_that_asks_to_wait_is_never_asked_earlier() {
        for seconds in [1, 5, 3_600] {
            let after = Duration::from_secs(seconds);
            for attempts in [0, 3, u32::MAX] {
                let pauses = (0..DRAWS).map(|_| pause(FailureClass::RateLimited { after }, attempts));
                let (least, most) = pauses.fold((Duration::MAX, Duration::ZERO), |(least, most), pause| {
                    (least.min(pause), most.max(pause))
                });
                assert!(
                    least >= after && most <= after + Duration::from_secs(300),
                    "{least:?} {most:?}"
                );
                assert!(most > least, "never all at the same moment");
            }
        }
    }
}
