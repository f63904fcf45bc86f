//! What an authority says of a certificate's revocation (OCSP, RFC 6960), as far as whoever staples it must know: for which certificate
//! it is, and until when. It comes from a file of ours; its signature is for clients to verify, who know whom to believe.

use super::UnixSeconds;
use super::certificate::{Der, GENERALIZED_TIME, INTEGER, Malformed, OBJECT, OCTETS, SEQUENCE, time};

const ENUMERATED: u8 = 0x0a;
/// [0], [1] and [2] around something else, and [0] and [2] in place of it.
const EXPLICIT_0: u8 = 0xa0;
const GOOD: u8 = 0x80;
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// A statement that a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staple {
    /// From when on.
    pub this_update: UnixSeconds,
    /// Until when: behind that, clients take it for none, and some for a refusal.
    pub next_update: UnixSeconds,
}

/// Why a response is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is no OCSP response in DER.
    Malformed,
    /// The authority could not answer.
    Failed,
    /// It says nothing of this certificate.
    OtherCertificate,
    /// It says that the certificate is revoked, or unknown.
    NotGood,
    /// It does not say until when it counts.
    Endless,
}

impl From<Malformed> for Unusable {
    fn from(_: Malformed) -> Unusable {
        Unusable::Malformed
    }
}

impl Staple {
    /// Read a response for the certificate of this serial number (DER, without its head).
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn parse(der: &[u8], serial: &[u8]) -> Result<Staple, Unusable> {
        let mut whole = Der(Der(der).expect(SEQUENCE)?);
        if whole.expect(ENUMERATED)? != [0] {
            return Err(Unusable::Failed);
        }
        let mut bytes = Der(Der(whole.expect(EXPLICIT_0)?).expect(SEQUENCE)?);
        if bytes.expect(OBJECT)? != BASIC {
            return Err(Unusable::Malformed);
        }
        let mut signed = Der(Der(bytes.expect(OCTETS)?).expect(SEQUENCE)?);
        let mut said = Der(signed.expect(SEQUENCE)?);
        said.skip_if(EXPLICIT_0)?; // version
        said.next()?; // responder
        said.expect(GENERALIZED_TIME)?; // produced at
        let mut answers = Der(said.expect(SEQUENCE)?);
        while !answers.0.is_empty() {
            let mut answer = Der(answers.expect(SEQUENCE)?);
            let mut of = Der(answer.expect(SEQUENCE)?);
            of.expect(SEQUENCE)?; // hash algorithm
            of.expect(OCTETS)?; // issuer's name
            of.expect(OCTETS)?; // issuer's key
            if of.expect(INTEGER)? == serial {
                return Staple::of(answer);
            }
        }
        Err(Unusable::OtherCertificate)
    }

    fn of(mut answer: Der<'_>) -> Result<Staple, Unusable> {
        let (status, _) = answer.next()?;
        if status != GOOD {
            return Err(Unusable::NotGood);
        }
        let this_update = time(answer.next()?)?;
        if answer.0.first() != Some(&EXPLICIT_0) {
            return Err(Unusable::Endless);
        }
        let next_update = time(Der(answer.expect(EXPLICIT_0)?).next()?)?;
        Ok(Staple { this_update, next_update })
    }

    /// Whether it counts at `now`.
    pub fn is_fresh(&self, now: UnixSeconds) -> bool {
        (self.this_update..self.next_update).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], &content].concat()
    }

    fn answer(serial: &[u8], status: &[u8], until: Option<&[u8]>) -> Vec<u8> {
        let hash = element(OCTETS, &[&[7; 20]]);
        let of = element(SEQUENCE, &[&element(SEQUENCE, &[b"x"]), &hash, &hash, &element(INTEGER, &[serial])]);
        let until = until.map(|until| element(EXPLICIT_0, &[&element(GENERALIZED_TIME, &[until])])).unwrap_or_default();
        element(SEQUENCE, &[&of, status, &element(GENERALIZED_TIME, &[b"20260101000000Z"]), &until])
    }

    fn response(state: u8, answers: &[&[u8]]) -> Vec<u8> {
        let responder = element(0xa2, &[b"key"]);
        let produced = element(GENERALIZED_TIME, &[b"20260101000000Z"]);
        let said = element(SEQUENCE, &[&responder, &produced, &element(SEQUENCE, answers)]);
        let basic = element(SEQUENCE, &[&said, &element(SEQUENCE, &[b""]), &element(0x03, &[b"signature"])]);
        let bytes = element(SEQUENCE, &[&element(OBJECT, &[BASIC]), &element(OCTETS, &[&basic])]);
        element(SEQUENCE, &[&element(ENUMERATED, &[&[state]]), &element(EXPLICIT_0, &[&bytes])])
    }

    const UNTIL: Option<&[u8]> = Some(b"20260108000000Z");
    const IS_GOOD: &[u8] = &[GOOD, 0];

    #[test]
    fn a_response_counts_for_its_certificate_and_time() {
        let both = response(0, &[&answer(&[1], IS_GOOD, UNTIL), &answer(&[0, 0xff], IS_GOOD, UNTIL)]);
        let staple = Staple::parse(&both, &[0, 0xff]).unwrap();
        assert_eq!((staple.this_update, staple.next_update), (1_767_225_600, 1_767_830_400));
        assert!(staple.is_fresh(1_767_225_600) && staple.is_fresh(1_767_830_399));
        assert!(!staple.is_fresh(1_767_225_599) && !staple.is_fresh(1_767_830_400));
        assert_eq!(Staple::parse(&both, &[2]), Err(Unusable::OtherCertificate));
    }

    #[test]
    fn what_does_not_say_good_is_of_no_use() {
        let revoked = element(0xa1, &[&element(GENERALIZED_TIME, &[b"20260101000000Z"])]);
        for (bytes, expected) in [
            (response(0, &[&answer(&[1], &revoked, UNTIL)]), Unusable::NotGood),
            (response(0, &[&answer(&[1], &[0x82, 0], UNTIL)]), Unusable::NotGood),
            (response(0, &[&answer(&[1], IS_GOOD, None)]), Unusable::Endless),
            (response(0, &[]), Unusable::OtherCertificate),
            (element(SEQUENCE, &[&element(ENUMERATED, &[&[3]])]), Unusable::Failed),
            (b"-----BEGIN".to_vec(), Unusable::Malformed),
            (Vec::new(), Unusable::Malformed),
        ] {
            assert_eq!(Staple::parse(&bytes, &[1]), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..200, value: u8) {
            let _ = Staple::parse(&bytes, &[1]);
            let mut whole = response(0, &[&answer(&[1], IS_GOOD, UNTIL)]);
            if let Some(byte) = whole.get_mut(at) {
                *byte = value;
            }
            let _ = Staple::parse(&whole, &[1]);
        }
    }
}
