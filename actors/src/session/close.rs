//! Why a socket is ended by the hub.

/// The reason; the socket turns it into a close code that tells the client whether to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It does not read as fast as its stream grows. Come back and resume.
    Slow,
    /// The hub is shutting down. Come back and resume.
    Shutdown,
    /// The part of the hub that feeds it restarts. Come back and resume.
    Restart,
    /// What it missed has been deleted by retention, or cannot be read. Come back without a position.
    PositionGone,
    /// The user opened more sockets than are allowed; the one unused for longest had to go. Do not come back by itself.
    TooMany,
    /// Signed out, or the session has expired. Do not come back without signing in.
    SessionEnded,
}
