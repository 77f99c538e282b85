//! The numbers with which the hub ends a socket. The range says what the client should do.
//!
//! RFC 6455, section 7.4.2 leaves 3000-4999 to applications. 4000-4499: come back, with `since`. 4500-4999: do not come
//! back by yourself.

use hub_actors::session::CloseReason;

/// Why a socket was ended, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The hub is shutting down.
    Shutdown,
    /// The part of the hub that feeds the socket restarts.
    Restart,
    /// The client does not read as fast as its stream grows.
    Slow,
    /// What the client missed has been deleted: come back without `since`.
    PositionGone,
    /// Nothing was heard from the client, not even an answer to a ping.
    Silent,
    /// Signed out, or the session has expired.
    SessionEnded,
    /// The user has too many sockets; this one was unused for longest.
    TooMany,
    /// The client broke the protocol, or sent a frame that is too long or not text.
    Protocol,
    /// The client sends more than it waits for answers to.
    Flood,
}

impl CloseCode {
    /// The number and the words.
    pub fn parts(self) -> (u16, &'static str) {
        match self {
            Self::Shutdown => (4000, "the hub is restarting, come back"),
            Self::Restart => (4001, "come back and resume"),
            Self::Slow => (4002, "too slow, come back and resume"),
            Self::PositionGone => (4003, "come back without since"),
            Self::Silent => (4004, "no answer to pings"),
            Self::SessionEnded => (4500, "signed out"),
            Self::TooMany => (4501, "too many sockets"),
            Self::Protocol => (4502, "protocol error"),
            Self::Flood => (4503, "too many commands at once"),
        }
    }
}

impl From<CloseReason> for CloseCode {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Slow => Self::Slow,
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::Restart => Self::Restart,
            CloseReason::PositionGone => Self::PositionGone,
            CloseReason::TooMany => Self::TooMany,
            CloseReason::SessionEnded => Self::SessionEnded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_tells_whether_to_come_back() {
        let back = [
            CloseCode::Shutdown,
            CloseCode::Restart,
            CloseCode::Slow,
            CloseCode::PositionGone,
            CloseCode::Silent,
        ];
        assert!(back.iter().all(|code| (4000..4500).contains(&code.parts().0)));
        let stay = [
            CloseCode::SessionEnded,
            CloseCode::TooMany,
            CloseCode::Protocol,
            CloseCode::Flood,
        ];
        assert!(stay.iter().all(|code| (4500..5000).contains(&code.parts().0)));
    }
}
