//! The open link of one account: it begins where the last one stopped, and ends when any of its tasks does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use grammers_mtsender::InvocationError;
use grammers_session::updates::MessageBoxes;
use grammers_tl_types::{enums, functions, types};
use hub_actors::clock;
use hub_actors::domain::{Receipt, SendError, SendFailure};
use hub_actors::ports::{
    FeedError, HistoryRequest, Link, LinkBatch, LinkEnd, LinkStart, LinkState, MediaRequest, MediaStream, OpenLink,
    Outbound, TypingNotice,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::backfill::{self, Backfill, Progress};
use super::client::Connected;
use super::cursors::{Common, Cursors};
use super::errors::CallError;
use super::history::{self, HistoryError, PAGE, Window};
use super::line::Line;
use super::map::{Mapper, Origin};
use super::session::{HubSession, SessionError};
use super::updates::{Order, Reader, Status};
use super::upload::{Fetch, MAX_OF_ACCOUNT};
use super::{Parts, media, peers, send, taker};

/// Orders that may wait for the reader.
const ORDERS: usize = 64;
/// How often what was learnt about people and chats is stored when no message does it.
const KEEP: Duration = Duration::from_secs(10);
/// The name under which a link counts how often in a row Telegram did not know its key, and how often that may be:
/// once can be trouble of Telegram's own.
const UNKNOWN_KEY: &str = "unknown-key";
const UNKNOWN_KEY_TRIES: u8 = 5;
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// Opens the link.
pub(super) async fn open(parts: Arc<Parts>, start: LinkStart) -> Result<OpenLink, LinkEnd> {
    let session = HubSession::load(&start.memory, &parts.config.centers).map_err(|error| LinkEnd::NeedsLogin {
        reason: match error {
            SessionError::Missing => "This account is not logged in on Telegram: link it.".to_owned(),
            error => format!("{error}: link the account again."),
        },
    })?;
    if session.self_id().is_none()
        && let Ok(own) = start.account.external_id.as_str().parse()
    {
        session.logged_in(own);
    }
    let session = Arc::new(session);
    session.keep_in(Arc::clone(&start.feed));
    let opened = Connected::open(&parts.config, Arc::clone(&session));
    let (end, mut ends) = mpsc::channel(1);
    let line = Arc::new(Line {
        connected: opened.connected,
        feed: Arc::clone(&start.feed),
        clock: parts.clock.clone(),
        end,
    });
    start.feed.state(LinkState::CatchingUp { progress: None });
    let enums::updates::State::State(state) = match line.ask(&functions::updates::GetState {}).await {
        Ok(state) => state,
        Err(error) if is_unknown_key(&error) => return Err(unknown_key(&start).await),
        Err(error) => return Err(error.link_end()),
    };
    let (cursors, boxes, progress) = begin(&start, &state).await.map_err(LinkEnd::Feed)?;

    let mapper = Arc::new(Mapper::new(session, parts.clock.clone()));
    let status = Arc::new(Status {
        feed: Arc::clone(&start.feed),
        is_caught_up: AtomicBool::new(false),
        is_listed: AtomicBool::new(false),
        is_told: AtomicBool::new(false),
    });
    let (orders, received_orders) = mpsc::channel(ORDERS);
    let (batches, received_batches) = mpsc::channel(taker::WAITING);
    let reader = Reader {
        line: Arc::clone(&line),
        mapper: Arc::clone(&mapper),
        boxes,
        cursors,
        pushed: opened.updates,
        orders: received_orders,
        batches,
        status: Arc::clone(&status),
        doubts: HashMap::new(),
        channels_due: clock::instant(),
        strangers: Vec::new(),
    };
    let backfill = Backfill {
        line: Arc::clone(&line),
        mapper: Arc::clone(&mapper),
        orders: orders.clone(),
        status,
        progress,
        done: backfill::done(&start.memory),
        calls: 0,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(reader.run());
    tasks.spawn(taker::run(Arc::clone(&mapper), Arc::clone(&start.feed), received_batches).map(LinkEnd::Feed));
    tasks.spawn(async move {
        match backfill.run().await {
            Err(error) => LinkEnd::Feed(error),
            Ok(()) => std::future::pending().await,
        }
    });
    tasks.spawn(keep(Arc::clone(&line)).map(LinkEnd::Feed));
    let runner = opened.runner;
    tasks.spawn(async move {
        drop(runner.await);
        crashed()
    });
    tasks.spawn(async move {
        match ends.recv().await {
            Some(end) => end,
            None => std::future::pending().await,
        }
    });
    let ended = async move {
        match tasks.join_next().await {
            Some(Ok(end)) => end,
            Some(Err(_)) | None => crashed(),
        }
    };
    let link = TelegramLink {
        line,
        mapper,
        orders,
        uploads: Semaphore::new(MAX_OF_ACCOUNT),
        parts,
    };
    Ok(OpenLink {
        link: Arc::new(link),
        ended: ended.boxed(),
    })
}

/// Where to go on: at what is remembered, or here and now when nothing is, which then is remembered first.
async fn begin(
    start: &LinkStart,
    state: &types::updates::State,
) -> Result<(Cursors, MessageBoxes, Progress), FeedError> {
    let mut cursors = Cursors::load(&start.memory);
    let progress = Progress::load(&start.memory);
    let is_counted = start.memory.contains_key(UNKNOWN_KEY);
    if is_counted {
        start.feed.remember(vec![(UNKNOWN_KEY.to_owned(), None)]).await?;
    }
    if let (Some(mut known), Some(progress)) = (cursors.state(), progress) {
        // Channels are compared many at once before they are asked about one by one.
        let channels = std::mem::take(&mut known.channels);
        let mut boxes = MessageBoxes::load(known);
        for channel in channels {
            boxes.try_set_channel_state(channel.id, channel.pts);
        }
        return Ok((cursors, boxes, progress));
    }
    let progress = Progress {
        since: state.date,
        is_done: false,
    };
    let mut boxes = MessageBoxes::new();
    boxes.set_state(state.clone());
    cursors.channels.clear();
    cursors.common = Common::default();
    let mut remember = cursors.advance(&boxes.session_state(), Common::default(), &[]);
    remember.extend(progress.remembered());
    start.feed.remember(remember).await?;
    Ok((cursors, boxes, progress))
}

/// Stores what was learnt about people and chats.
async fn keep(line: Arc<Line>) -> FeedError {
    loop {
        tokio::time::sleep(KEEP).await;
        let news = line.session().take_news();
        if !news.is_empty()
            && let Err(error) = line.feed.remember(news).await
        {
            return error;
        }
    }
}

/// grammers saw a 404, or made a new key which the session refused.
fn is_unknown_key(error: &CallError) -> bool {
    match error {
        CallError::Failed(InvocationError::Session(error)) => {
            matches!(error.downcast_ref(), Some(SessionError::KeyRefused(_)))
        }
        CallError::Failed(InvocationError::Transport(error)) => error.to_string().contains("404"),
        _ => false,
    }
}

async fn unknown_key(start: &LinkStart) -> LinkEnd {
    let count = start.memory.get(UNKNOWN_KEY).and_then(|count| count.first().copied());
    let count = count.unwrap_or(0).saturating_add(1);
    if count >= UNKNOWN_KEY_TRIES {
        let reason = "Telegram does not know this session's key any more: link the account again.".to_owned();
        return LinkEnd::NeedsLogin { reason };
    }
    let counted = start
        .feed
        .remember(vec![(UNKNOWN_KEY.to_owned(), Some(vec![count]))])
        .await;
    match counted {
        Ok(()) => LinkEnd::Lost {
            reason: "Telegram does not know this session's key at the moment.".to_owned(),
            not_before: Some(UNKNOWN_KEY_PAUSE),
        },
        Err(error) => LinkEnd::Feed(error),
    }
}

fn crashed() -> LinkEnd {
    LinkEnd::Lost {
        reason: "The connection to Telegram crashed.".to_owned(),
        not_before: None,
    }
}

struct TelegramLink {
    line: Arc<Line>,
    mapper: Arc<Mapper>,
    orders: mpsc::Sender<Order>,
    /// The account's turns to upload a file.
    uploads: Semaphore,
    parts: Arc<Parts>,
}

#[async_trait]
impl Link for TelegramLink {
    async fn send(&self, outbound: &Outbound) -> Result<Receipt, SendError> {
        let fetch = Fetch {
            http: &self.parts.http,
            guard: self.parts.guard,
            turns: [&self.uploads, &self.parts.uploads],
        };
        send::send(&self.line, &fetch, outbound).await
    }

    async fn typing(&self, notice: &TypingNotice) {
        send::typing(&self.line, &notice.conversation).await;
    }

    async fn probe(&self) -> Result<(), String> {
        let mut tries = 0;
        loop {
            match self.line.call(&functions::updates::GetState {}).await {
                Ok(enums::updates::State::State(state)) => {
                    // Full or gone: the reader has enough to do.
                    drop(self.orders.try_send(Order::Compare {
                        pts: state.pts,
                        qts: state.qts,
                    }));
                    return Ok(());
                }
                // The link ends with the true reason; another one given here would start it once more.
                Err(error) if error.terminal().is_some() => std::future::pending().await,
                // It was answered.
                Err(error) if error.flood_wait().is_some() => return Ok(()),
                // A connection that broke is made again by the next call.
                Err(CallError::Failed(_)) if tries == 0 => tries += 1,
                Err(error) => return Err(error.reason()),
            }
        }
    }

    async fn history(&self, request: &HistoryRequest) -> Result<usize, SendError> {
        let refused = |words| SendError::with_detail(SendFailure::Refused, words);
        let dialog = peers::parse(&request.conversation).ok_or_else(|| refused("this is no chat of Telegram's"))?;
        let mut window = match &request.before {
            Some(id) => Window::Before(
                id.as_str()
                    .parse()
                    .map_err(|_| refused("this is no message of Telegram's"))?,
            ),
            None => Window::Newest,
        };
        let failed = |error| match error {
            HistoryError::UnknownChat => refused("this chat is not known to the account"),
            HistoryError::Call(error) => CallError::send_error(&error),
        };
        let heads = history::heads_of(&self.line, &[dialog]).await;
        let heads = heads.map_err(|error| failed(error.into()))?;
        let origin = Origin::History {
            read_up_to: heads.first().map_or(i32::MAX, |head| head.read_up_to),
        };
        let mut found = 0;
        while found < request.limit {
            let wanted = i32::try_from(request.limit - found).unwrap_or(PAGE).min(PAGE);
            let messages = history::page(&self.line, dialog, window, wanted)
                .await
                .map_err(failed)?;
            found += messages.len();
            let batch = LinkBatch {
                events: messages
                    .iter()
                    .flat_map(|message| self.mapper.message(message, origin))
                    .collect(),
                remember: self.line.session().take_news(),
            };
            let taken = self.line.feed.take(batch).await;
            taken.map_err(|_| SendError::new(SendFailure::NotConnected))?;
            let oldest = messages.iter().find_map(super::heard::address);
            match oldest {
                Some((_, id)) if messages.len() == usize::try_from(wanted).unwrap_or(0) => window = Window::Before(id),
                _ => break,
            }
        }
        Ok(found)
    }

    async fn media(&self, request: &MediaRequest) -> Result<MediaStream, SendError> {
        media::open(Arc::clone(&self.line), request).await
    }

    async fn refresh(&self) {
        drop(self.orders.try_send(Order::Refresh));
    }

    async fn sign_out(&self) {
        // What it does to the session is what was asked for, not an end that the person has to hear of.
        let outcome = self.line.connected.call(&functions::auth::LogOut {}).await;
        if let Err(error) = outcome {
            tracing::info!(%error, "Telegram could not be told that a session has ended");
        }
    }
}
