//! Sessions of layer 4: how they end, in stable words, and what an end says of the endpoint.

mod table;

pub use table::{SessionId, SessionTable};

use crate::error::{Kind, Side};
use std::time::Duration;

/// An endpoint that closes so soon without having said anything has turned the client away.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides closed, the client first.
    ClientClosed,
    /// Both sides closed, the endpoint first.
    EndpointClosed,
    /// The client's connection broke.
    ClientReset,
    /// The endpoint's connection broke.
    EndpointReset,
    /// No byte came either way for too long.
    Idle,
    /// The process ends, and its time to drain was over; of datagrams also: its listener was taken away.
    Shutdown,
    /// The endpoint has answered as often as it is expected to; of datagrams alone.
    Answered,
    /// It made room for another; of datagrams alone.
    Evicted,
    /// It never began, for this.
    Failed(Kind),
}

impl End {
    /// The words for all of them, in the order of [`End::index`]: what is told apart in counters.
    pub const WORDS: [&str; 9] = [
        "client_closed",
        "endpoint_closed",
        "client_reset",
        "endpoint_reset",
        "idle",
        "shutdown",
        "answered",
        "evicted",
        "failed",
    ];
    /// Places in [`End::WORDS`] of those that sessions of connections have.
    pub const OF_CONNECTIONS: &[usize] = &[0, 1, 2, 3, 4, 5, 8];
    /// Places in [`End::WORDS`] of those that sessions of datagrams have: nobody closes those.
    pub const OF_DATAGRAMS: &[usize] = &[3, 4, 5, 6, 7, 8];
    /// Places in [`End::WORDS`] of those that associations of a forward proxy have: datagrams, with a connection that they end with.
    pub const OF_ASSOCIATIONS: &[usize] = &[0, 2, 4, 5, 8];

    /// Place in [`End::WORDS`].
    pub fn index(self) -> usize {
        match self {
            End::ClientClosed => 0,
            End::EndpointClosed => 1,
            End::ClientReset => 2,
            End::EndpointReset => 3,
            End::Idle => 4,
            End::Shutdown => 5,
            End::Answered => 6,
            End::Evicted => 7,
            End::Failed(_) => 8,
        }
    }

    /// The word for logs: one that never began says why.
    pub fn word(self) -> &'static str {
        match self {
            End::Failed(kind) => kind.word(),
            other => Self::WORDS[other.index()],
        }
    }

    /// Who is to be blamed; `None` for an end that is one.
    pub fn side(self) -> Option<Side> {
        match self {
            End::ClientClosed | End::EndpointClosed | End::Answered => None,
            End::ClientReset => Some(Side::Downstream),
            End::EndpointReset => Some(Side::Upstream),
            End::Idle | End::Shutdown | End::Evicted => Some(Side::Proxy),
            End::Failed(kind) => Some(kind.side()),
        }
    }

    /// Who ended it and when, as HAProxy writes it for connections: C or c the client or its silence, S or s the endpoint, P we
    /// ourselves, R that there was no room; C while connecting, D while bytes went, - in order.
    pub fn flags(self) -> [u8; 2] {
        match self {
            End::ClientClosed | End::EndpointClosed | End::Answered => *b"--",
            End::ClientReset => *b"CD",
            End::EndpointReset => *b"SD",
            End::Idle => *b"cD",
            End::Shutdown => *b"KD",
            End::Evicted => *b"RD",
            End::Failed(Kind::ConnectTimeout | Kind::UpstreamTlsTimeout) => *b"sC",
            End::Failed(kind) => match kind.side() {
                Side::Downstream => *b"CC",
                Side::Upstream => *b"SC",
                Side::Proxy => *b"PC",
            },
        }
    }

    /// Whether the endpoint has taken the connection only to close it: it said nothing, and ended it soon.
    pub fn turned_away(self, said: u64, lasted: Duration) -> bool {
        matches!(self, End::EndpointClosed | End::EndpointReset) && said == 0 && lasted < AT_ONCE
    }
}

/// Bytes at once that are more than a message.
const MUCH: usize = 16 * 1024;

/// How the bytes of one direction are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By read and write, with a small buffer.
    Small,
    /// With a large one.
    Bulk,
    /// From socket to socket (splice(2)), where both are plain ones.
    Splice,
}

/// What comes in one direction: messages or bulk. Bulk is believed when it goes on, and for a while when it pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow(u8);

impl Flow {
    /// From here on it is spliced.
    const BULK: u8 = 4;

    /// So many bytes came at once.
    pub fn came(&mut self, count: usize) {
        self.0 = if count >= MUCH { (self.0 + 1).min(2 * Self::BULK) } else { self.0 / 2 };
    }

    /// How the next are best moved.
    pub fn way(self) -> Way {
        match self.0 {
            0 => Way::Small,
            level if level < Self::BULK => Way::Bulk,
            _ => Way::Splice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_in_bulk_is_spliced_until_it_comes_in_small_pieces() {
        let mut flow = Flow::default();
        let mut ways = |counts: &[usize]| -> Vec<Way> {
            let mut way = |count: &usize| {
                flow.came(*count);
                flow.way()
            };
            counts.iter().map(&mut way).collect()
        };
        use Way::{Bulk, Small, Splice};
        assert_eq!(ways(&[1, MUCH - 1, 100]), [Small; 3]);
        assert_eq!(ways(&[MUCH, MUCH, 1, 1, 1]), [Bulk, Bulk, Bulk, Small, Small]);
        assert_eq!(ways(&[MUCH; 9])[..5], [Bulk, Bulk, Bulk, Splice, Splice]);
        assert_eq!(ways(&[500, MUCH, 500, 500, 500]), [Splice, Splice, Bulk, Bulk, Small]);
    }

    const ALL: [End; 9] = [
        End::ClientClosed,
        End::EndpointClosed,
        End::ClientReset,
        End::EndpointReset,
        End::Idle,
        End::Shutdown,
        End::Answered,
        End::Evicted,
        End::Failed(Kind::ConnectRefused),
    ];

    #[test]
    fn each_end_has_a_word_of_its_own() {
        let words: Vec<_> = ALL.iter().map(|end| End::WORDS[end.index()]).collect();
        assert_eq!(words, End::WORDS);
        assert_eq!(ALL.map(End::word)[..8], End::WORDS[..8]);
        assert_eq!(End::Failed(Kind::ConnectRefused).word(), "connect_refused");
    }

    #[test]
    fn only_who_said_nothing_and_closed_soon_has_turned_a_client_away() {
        let soon = Duration::from_millis(3);
        assert!(End::EndpointClosed.turned_away(0, soon) && End::EndpointReset.turned_away(0, soon));
        assert!(!End::EndpointClosed.turned_away(1, soon));
        assert!(!End::EndpointClosed.turned_away(0, AT_ONCE));
        assert!(!End::ClientClosed.turned_away(0, soon) && !End::Idle.turned_away(0, soon));
    }

    #[test]
    fn blame_goes_to_who_broke_it() {
        assert_eq!(ALL.map(End::side).iter().filter(|side| side.is_none()).count(), 3);
        assert_eq!(End::Failed(Kind::ConnectRefused).side(), Some(Side::Upstream));
        let flags = [*b"--", *b"--", *b"CD", *b"SD", *b"cD", *b"KD", *b"--", *b"RD", *b"SC"];
        assert_eq!(ALL.map(End::flags), flags);
    }
}
