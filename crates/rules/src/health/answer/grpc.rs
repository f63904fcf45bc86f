//! The gRPC health-checking protocol (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): one message each way,
//! small enough to be written and read by hand.

use crate::health::Outcome;
use penstock_plan::GrpcProbe;

/// The path of the call.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// A message begins with a byte that says whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A call of `Check`.
#[derive(Debug)]
pub struct GrpcQuestion {
    plan: GrpcProbe,
}

impl GrpcQuestion {
    pub(super) fn new(plan: &GrpcProbe) -> GrpcQuestion {
        GrpcQuestion { plan: plan.clone() }
    }

    /// The host that is asked for at `authority`.
    pub fn host<'q>(&'q self, authority: &'q str) -> &'q str {
        self.plan.host.as_deref().unwrap_or(authority)
    }

    /// `HealthCheckRequest { string service = 1; }`, framed.
    pub fn request(&self) -> Vec<u8> {
        let service = self.plan.service.as_bytes();
        let mut message = Vec::new();
        if !service.is_empty() {
            message.push(0x0a);
            push_varint(&mut message, service.len() as u64);
            message.extend_from_slice(service);
        }
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        [&[0], &length.to_be_bytes()[..], &message].concat()
    }

    /// Judge an answer: the status of its head, its whole body, and `grpc-status` of its trailers or, without a body, its head.
    pub fn judge(&self, status: u16, body: &[u8], grpc_status: Option<&[u8]>) -> Outcome {
        if status != 200 {
            return Outcome::Status(status);
        }
        let code = grpc_status.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| code.parse().ok());
        match code {
            Some(0) => match serving_status(body) {
                Some(SERVING) => Outcome::Serving,
                Some(status) => Outcome::NotServing(u8::try_from(status).unwrap_or(u8::MAX)),
                None => Outcome::BadResponse,
            },
            Some(code) => Outcome::Grpc(code),
            None => Outcome::BadResponse,
        }
    }
}

/// `HealthCheckResponse { ServingStatus status = 1; }` out of its frame; a field that is missing is 0.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = body.split_at_checked(PREFIX)?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *compressed != 0 || rest.len() != usize::try_from(length).ok()? {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => {
                take_varint(&mut rest)?;
            }
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = take_varint(&mut rest)?;
                rest = rest.get(usize::try_from(length).ok()?..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn push_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(service: &str) -> GrpcQuestion {
        GrpcQuestion::new(&GrpcProbe { service: service.into(), host: None })
    }

    #[test]
    fn the_question_is_a_framed_message() {
        assert_eq!(question("").request(), [0, 0, 0, 0, 0]);
        assert_eq!(question("shop").request(), b"\0\0\0\0\x06\x0a\x04shop");
        let long = "x".repeat(200);
        assert_eq!(question(&long).request()[..8], *b"\0\0\0\0\xcb\x0a\xc8\x01");
        assert_eq!(question("").host("h:1"), "h:1");
    }

    #[test]
    fn answers_are_judged() {
        use Outcome::{BadResponse, Grpc, NotServing, Serving, Status};
        let ok = Some(&b"0"[..]);
        let cases: &[(u16, &[u8], _, Outcome)] = &[
            (200, b"\0\0\0\0\x02\x08\x01", ok, Serving),
            (200, b"\0\0\0\0\x02\x08\x02", ok, NotServing(2)),
            (200, b"\0\0\0\0\x00", ok, NotServing(0)),
            // Fields of later versions are passed over.
            (200, b"\0\0\0\0\x08\x12\x02hi\x18\x05\x08\x01", ok, Serving),
            (200, b"\0\0\0\0\x0c\x21\0\0\0\0\0\0\0\0\x08\x01", ok, BadResponse),
            (200, b"\0\0\0\0\x0b\x21\0\0\0\0\0\0\0\0\x08\x01", ok, Serving),
            (200, b"\x01\0\0\0\x02\x08\x01", ok, BadResponse),
            (200, b"\0\xff\xff\xff\xff\x08\x01", ok, BadResponse),
            (200, b"\0\0\0\0\x02\x08\xff", ok, BadResponse),
            (200, b"", ok, BadResponse),
            (200, b"", Some(b"5"), Grpc(5)),
            (200, b"\0\0\0\0\x02\x08\x01", Some(b"x"), BadResponse),
            (200, b"\0\0\0\0\x02\x08\x01", None, BadResponse),
            (503, b"", None, Status(503)),
        ];
        for (status, body, code, expected) in cases {
            assert_eq!(question("").judge(*status, body, *code), *expected, "{status} {body:?} {code:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_reaches_a_panic(message in proptest::collection::vec(any::<u8>(), 0..40)) {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            serving_status(&[&[0], &length[..], &message].concat());
            serving_status(&message);
        }
    }
}
