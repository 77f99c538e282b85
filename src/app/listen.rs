//! The hub's address: taken before anything is done, listened to when all else is ready.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
#[cfg(target_os = "linux")]
use actix_web::rt::net::TcpStream;
use actix_web::{HttpServer, web};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use socket2::{Domain, Socket, Type};

use super::cores;
use crate::http::{self, AppState, capacity};
use crate::settings::ServerSettings;

/// A client that takes longer to send a request's head is cut off.
const REQUEST_HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A peer that takes nothing of what waits for it for so long is cut off by the system, also in the middle of a write.
const UNREAD_PATIENCE: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Connections that wait to be taken; the system's own limit (`net.core.somaxconn`) counts too.
const BACKLOG: i32 = 4_096;

/// An address that is taken and not listened to yet: clients are turned away until [`Address::listen`].
pub(super) struct Address(Socket);

impl Address {
    /// # Errors
    /// When somebody else listens there, or this machine does not have the address.
    pub(super) fn take(wanted: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
        // Else the address would be taken for a minute after a hub has ended (TIME-WAIT, RFC 9293).
        socket.set_reuse_address(true)?;
        socket.bind(&wanted.into())?;
        Ok(Self(socket))
    }

    /// Lets clients in: they wait until somebody takes them.
    ///
    /// # Errors
    /// When somebody else, who has taken the address too, was first to listen.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        Ok(self.0.into())
    }
}

/// The HTTP server on the listener.
///
/// # Errors
/// When the system refuses it.
pub(super) fn serve(
    settings: &ServerSettings,
    listener: TcpListener,
    state: &web::Data<AppState>,
) -> io::Result<Server> {
    let shared = state.clone();
    let workers = if settings.workers == 0 {
        cores()
    } else {
        settings.workers
    };
    let server = HttpServer::new(move || http::application(shared.clone()))
        .max_connections(capacity::connections_per_worker(workers))
        .client_request_timeout(REQUEST_HEAD_PATIENCE)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(settings.shutdown_seconds)
        .on_connect(|connection, _| limit_unread(connection))
        .workers(workers)
        .disable_signals();
    Ok(server.listen(listener)?.run())
}

/// TCP_USER_TIMEOUT (RFC 5482): without it a closed WebSocket whose peer reads nothing keeps its last bytes, and its place,
/// for as long as the peer likes.
fn limit_unread(connection: &dyn Any) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_PATIENCE))
    {
        tracing::debug!(%error, "a connection has no limit on what it leaves unread");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (connection, UNREAD_PATIENCE);
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&address, Duration::from_millis(500))
    }

    #[test]
    fn nobody_is_let_in_before_it_listens() {
        let taken = Address::take(ANY).unwrap();
        let address = taken.0.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _listener = taken.listen().unwrap();
        connect(address).unwrap();
        assert_eq!(Address::take(address).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn of_two_that_start_at_once_one_listens() {
        let first = Address::take(ANY).unwrap();
        let address = first.0.local_addr().unwrap().as_socket().unwrap();
        let second = Address::take(address).unwrap();
        let _listener = first.listen().unwrap();
        assert_eq!(second.listen().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    /// A listener that asked for less would leave later ones without an answer until it takes them.
    #[test]
    fn a_crowd_can_wait_to_be_taken() {
        let system = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let system = system.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(128);
        let listener = Address::take(ANY).unwrap().listen().unwrap();
        let address = listener.local_addr().unwrap();
        let crowd = usize::min(300, system);
        let waiting: Vec<_> = (0..crowd).map(|_| connect(address)).collect();
        assert_eq!(waiting.iter().filter(|one| one.is_ok()).count(), crowd);
    }
}
