//! A datagram, and one that comes back.

use crate::health::Outcome;
use penstock_plan::UdpProbe;

/// What is said in a datagram, and what must come back.
#[derive(Debug)]
pub struct UdpQuestion {
    send: Box<[u8]>,
    expect: Box<[u8]>,
}

impl UdpQuestion {
    pub(super) fn new(plan: &UdpProbe) -> UdpQuestion {
        UdpQuestion { send: plan.send.as_slice().into(), expect: plan.expect.as_slice().into() }
    }

    /// The datagram to send.
    pub fn request(&self) -> &[u8] {
        &self.send
    }

    /// What a datagram that came back says of the endpoint. Each is judged by itself: none is the beginning of another.
    pub fn judge(&self, reply: &[u8]) -> Outcome {
        match memchr::memmem::find(reply, &self.expect) {
            Some(_) => Outcome::Replied,
            None => Outcome::Reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_holds_what_is_expected_or_anything_where_nothing_is() {
        let question = |expect: &[u8]| UdpQuestion::new(&UdpProbe { send: b"ping".to_vec(), expect: expect.to_vec() });
        assert_eq!(question(b"pong").judge(b"-pong-"), Outcome::Replied);
        assert_eq!(question(b"pong").judge(b"pon"), Outcome::Reply);
        assert_eq!((question(b"").judge(b""), question(b"").judge(b"x")), (Outcome::Replied, Outcome::Replied));
        assert_eq!(question(b"").request(), b"ping");
    }
}
