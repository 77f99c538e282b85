//! From a decrypted message to its answer: salts and sessions, service messages, scripted faults, calls.

use std::time::Duration;

use grammers_tl_types::{self as tl, Deserializable as _, Identifiable as _, Serializable as _, enums, functions as f};

use crate::faults::Fault;
use crate::journal::{self, Received};
use crate::rpc::{self, Call, Cx};
use crate::server::{Shared, lock};
use crate::tl::{Refusal, Rpc, now};
use crate::wire::{Message, Packet, constructor};
use crate::world::{Out, World};

/// Where a message came from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub shared: Shared,
    pub dc: i32,
    pub key: u32,
    pub conn: u64,
}

/// What the connection does next.
pub(crate) enum Flow {
    Go,
    /// Close unless something arrives in time.
    Deadline(Duration),
    /// Close at once.
    Close,
    /// Close once the queue is written.
    Drain,
}

/// An answer on its way.
enum Answer {
    /// The result of a call.
    Result { body: Vec<u8>, pack: bool },
    /// A service message that answers by itself.
    Service(Vec<u8>),
}

/// Checks salt and session of a packet. `false` = the salt is wrong, nothing in it counts.
pub(crate) fn greet(origin: &Origin, packet: &Packet, session: &mut Option<i64>) -> bool {
    let mut world = lock(&origin.shared);
    let salt = world.salt(origin.key);
    let fresh = *session != Some(packet.session);
    if fresh {
        world.send(
            origin.conn,
            Out::Session {
                session: packet.session,
                salt,
            },
        );
    }
    if !world.salt_ok(origin.key, packet.salt) {
        let bad = tl::types::BadServerSalt {
            bad_msg_id: packet.outer.0,
            bad_msg_seqno: packet.outer.1,
            error_code: 48,
            new_server_salt: salt,
        };
        let body = enums::BadMsgNotification::from(bad).to_bytes();
        world.send(
            origin.conn,
            Out::Object {
                body,
                content: false,
                answer: false,
            },
        );
        return false;
    }
    if fresh {
        *session = Some(packet.session);
        let first_msg_id = packet.messages.iter().map(|message| message.id).min().unwrap_or(0);
        let unique_id = i64::try_from(origin.conn).unwrap_or(0);
        let created = tl::types::NewSessionCreated {
            first_msg_id,
            unique_id,
            server_salt: salt,
        };
        let body = enums::NewSession::from(created).to_bytes();
        world.send(
            origin.conn,
            Out::Object {
                body,
                content: true,
                answer: false,
            },
        );
    }
    let wanted: Vec<_> = packet
        .messages
        .iter()
        .filter(|m| m.seq % 2 == 1)
        .map(|message| message.id)
        .collect();
    if !wanted.is_empty() {
        let ack = enums::MsgsAck::Ack(tl::types::MsgsAck { msg_ids: wanted });
        world.send(
            origin.conn,
            Out::Object {
                body: ack.to_bytes(),
                content: false,
                answer: false,
            },
        );
    }
    true
}

/// Messages that ask for nothing.
fn is_note(id: u32) -> bool {
    [
        tl::types::MsgsAck::CONSTRUCTOR_ID,
        tl::types::MsgsStateReq::CONSTRUCTOR_ID,
        tl::types::MsgsStateInfo::CONSTRUCTOR_ID,
        tl::types::MsgsAllInfo::CONSTRUCTOR_ID,
        tl::types::MsgResendReq::CONSTRUCTOR_ID,
        tl::types::HttpWait::CONSTRUCTOR_ID,
    ]
    .contains(&id)
}

/// Takes one message: logs it, meets its fault, does it, queues the answer.
pub(crate) async fn take(origin: &Origin, message: Message) -> Flow {
    if constructor(&message.body).is_none_or(is_note) {
        return Flow::Go;
    }
    let request = message.id;
    let call = match rpc::unwrap(&message.body) {
        Ok(call) => call,
        Err(refusal) => {
            origin.send(error(request, &refusal));
            return Flow::Go;
        }
    };
    let (entry, fault) = {
        let mut world = lock(&origin.shared);
        let (dc, key, conn) = (origin.dc, origin.key, origin.conn);
        let slot = world.slot(dc, key);
        slot.active = now();
        if let Some((api_id, device, app)) = &call.client {
            slot.api_id = *api_id;
            (slot.device, slot.app) = (device.clone(), app.clone());
        }
        let account = slot.user;
        if call.without_updates
            && let Some(conn) = world.conns.get_mut(&conn)
        {
            conn.silent = true;
        }
        let about = journal::about(call.id, &call.body, account);
        let method = call.method.to_owned();
        let fault = world.faults.take(&method, key, account);
        let outcome = fault
            .as_ref()
            .map_or_else(String::new, |fault| format!("fault: {fault:?}"));
        let entry = world.journal.add(Received {
            n: 0,
            at_ms: 0,
            dc,
            key,
            conn,
            account,
            method,
            random_id: about.random_id,
            peer: about.peer,
            text: about.text,
            ids: about.ids,
            outcome,
        });
        (entry, fault)
    };
    let Some(fault) = fault else {
        work(origin, request, &call, Some(entry), true).await;
        return after(&call);
    };
    tracing::debug!(method = call.method, ?fault, "scripted fault");
    match fault {
        Fault::Error { code, name } => {
            origin.send(error(request, &Refusal::new(code, name)));
            Flow::Go
        }
        Fault::NoAnswer => Flow::Go,
        Fault::Close => Flow::Close,
        Fault::DoThenError { code, name } => {
            work(origin, request, &call, None, false).await;
            origin.send(error(request, &Refusal::new(code, name)));
            Flow::Go
        }
        Fault::DoThenNoAnswer => {
            work(origin, request, &call, None, false).await;
            Flow::Go
        }
        Fault::DoThenClose => {
            work(origin, request, &call, None, false).await;
            Flow::Close
        }
        Fault::Delay { ms } => {
            let answer = work(origin, request, &call, None, false).await;
            let origin = origin.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                origin.send(answer);
            });
            Flow::Go
        }
        Fault::DelayThenDo { ms } => {
            let origin = origin.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                work(&origin, request, &call, None, true).await;
            });
            Flow::Go
        }
        Fault::TransportError { code } => {
            origin.send(Out::TransportError(code));
            Flow::Drain
        }
        Fault::WrongSession => {
            origin.send(Out::WrongSession);
            Flow::Go
        }
    }
}

fn after(call: &Call) -> Flow {
    if call.id == f::PingDelayDisconnect::CONSTRUCTOR_ID
        && let Ok(ping) = f::PingDelayDisconnect::from_bytes(&call.body)
    {
        let delay = u64::try_from(ping.disconnect_delay).unwrap_or(0).clamp(1, 3600);
        return Flow::Deadline(Duration::from_secs(delay));
    }
    Flow::Go
}

/// Does a call. With `send` the answer is queued under the same lock, so that it keeps its place among
/// the pushes.
async fn work(origin: &Origin, request: i64, call: &Call, entry: Option<u64>, send: bool) -> Out {
    let (dc, key) = (origin.dc, origin.key);
    let slow = match call.id {
        f::account::GetPassword::CONSTRUCTOR_ID => Some(rpc::get_password(&origin.shared, dc, key).await),
        f::auth::CheckPassword::CONSTRUCTOR_ID => Some(rpc::check_password(&origin.shared, dc, key, call).await),
        _ => None,
    };
    let mut world = lock(&origin.shared);
    let result = match slow {
        Some(result) => result.map(|body| Answer::Result { body, pack: true }),
        None => answer(&mut world, origin, request, call),
    };
    if let Some(entry) = entry {
        let outcome = result
            .as_ref()
            .err()
            .map_or_else(|| "ok".to_owned(), ToString::to_string);
        world.journal.finish(entry, outcome);
    }
    let out = match result {
        Ok(Answer::Result { body, pack }) => Out::Answer { request, body, pack },
        Ok(Answer::Service(body)) => Out::Object {
            body,
            content: false,
            answer: true,
        },
        Err(refusal) => error(request, &refusal),
    };
    if send {
        world.send(origin.conn, out);
        return Out::Close;
    }
    out
}

fn answer(world: &mut World, origin: &Origin, request: i64, call: &Call) -> Rpc<Answer> {
    let malformed = |_| Refusal::new(400, "INPUT_FETCH_ERROR");
    let pong = |ping_id| {
        let pong = tl::types::Pong {
            msg_id: request,
            ping_id,
        };
        Answer::Service(enums::Pong::from(pong).to_bytes())
    };
    match call.id {
        f::Ping::CONSTRUCTOR_ID => Ok(pong(f::Ping::from_bytes(&call.body).map_err(malformed)?.ping_id)),
        f::PingDelayDisconnect::CONSTRUCTOR_ID => {
            let ping = f::PingDelayDisconnect::from_bytes(&call.body).map_err(malformed)?;
            Ok(pong(ping.ping_id))
        }
        f::GetFutureSalts::CONSTRUCTOR_ID => {
            let wanted = f::GetFutureSalts::from_bytes(&call.body).map_err(malformed)?;
            let salts = world
                .future_salts(origin.key, wanted.num)
                .into_iter()
                .map(|(valid_since, valid_until, salt)| tl::types::FutureSalt {
                    valid_since,
                    valid_until,
                    salt,
                })
                .collect();
            let salts = tl::RawVec(salts);
            let salts = tl::types::FutureSalts {
                req_msg_id: request,
                now: now(),
                salts,
            };
            Ok(Answer::Service(enums::FutureSalts::from(salts).to_bytes()))
        }
        f::RpcDropAnswer::CONSTRUCTOR_ID => {
            let body = enums::RpcDropAnswer::RpcAnswerUnknown.to_bytes();
            Ok(Answer::Result { body, pack: false })
        }
        f::DestroySession::CONSTRUCTOR_ID => {
            let session_id = f::DestroySession::from_bytes(&call.body).map_err(malformed)?.session_id;
            let none = tl::types::DestroySessionNone { session_id };
            Ok(Answer::Service(enums::DestroySessionRes::from(none).to_bytes()))
        }
        id => {
            let (dc, key, conn) = (origin.dc, origin.key, origin.conn);
            let me = rpc::admit(world, dc, key, call.method)?;
            let mut cx = Cx {
                world,
                dc,
                key,
                conn,
                me,
            };
            let body = rpc::dispatch(&mut cx, call)?;
            // File pieces are as good as random: gzip would only cost time.
            Ok(Answer::Result {
                body,
                pack: id != f::upload::GetFile::CONSTRUCTOR_ID,
            })
        }
    }
}

fn error(request: i64, refusal: &Refusal) -> Out {
    let error = tl::types::RpcError {
        error_code: refusal.code,
        error_message: refusal.name.clone(),
    };
    Out::Answer {
        request,
        body: enums::RpcError::from(error).to_bytes(),
        pack: false,
    }
}
