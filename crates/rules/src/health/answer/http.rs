//! An HTTP probe.

use super::MOST;
use crate::fault;
use crate::health::Outcome;
use crate::http::{HeadLimits, HeadScan, Length, ResponseHead, Scanned, chunked};
use penstock_plan::{BodyTest, HttpProbe};

/// Bytes of a response head.
const HEAD: usize = 16 * 1024;
/// Interim responses before the final one.
const INTERIM: u8 = 8;

/// A request, and what its answer must be.
#[derive(Debug)]
pub struct HttpQuestion {
    plan: HttpProbe,
    body: Option<Test>,
}

#[derive(Debug)]
enum Test {
    Text(Box<[u8]>),
    Regex(regex::bytes::Regex),
}

/// An answer as it comes in.
#[derive(Debug)]
pub struct HttpAnswer<'a> {
    question: &'a HttpQuestion,
    /// What was not made use of yet.
    input: Vec<u8>,
    scan: HeadScan,
    interim: u8,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    status: u16,
    framing: Framing,
    content: Vec<u8>,
}

#[derive(Debug)]
enum Framing {
    Left(u64),
    Chunked(chunked::Decoder),
    UntilClose,
}

impl HttpQuestion {
    pub(super) fn build(plan: &HttpProbe) -> Result<HttpQuestion, (&'static str, String)> {
        let body = match &plan.body {
            None => None,
            Some(BodyTest::Text(text)) => Some(Test::Text(text.as_bytes().into())),
            Some(BodyTest::Regex(pattern)) => {
                let compiled = fault::regex(pattern).map_err(|reason| ("body.regex", reason))?;
                Some(Test::Regex(compiled))
            }
        };
        Ok(HttpQuestion { plan: plan.clone(), body })
    }

    /// The bytes to send to `authority`.
    pub fn request(&self, authority: &str) -> Vec<u8> {
        let HttpProbe { method, path, .. } = &self.plan;
        let host = self.host(authority);
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in self.fields() {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// The request's method and path.
    pub fn line(&self) -> (&str, &str) {
        (&self.plan.method, &self.plan.path)
    }

    /// The host that is asked for at `authority`.
    pub fn host<'q>(&'q self, authority: &'q str) -> &'q str {
        self.plan.host.as_deref().unwrap_or(authority)
    }

    /// The request's fields, less its host and what is for one hop.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = !self.plan.headers.iter().any(|(name, _)| name == "user-agent");
        let given = self.plan.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.then_some(("user-agent", "penstock-probe")).into_iter().chain(given)
    }

    /// The outcome of an answer with this status, unless its content has a say.
    pub fn judge_status(&self, status: u16) -> Option<Outcome> {
        if !self.plan.statuses.iter().any(|(least, most)| (*least..=*most).contains(&status)) {
            return Some(Outcome::Status(status));
        }
        self.body.is_none().then_some(Outcome::Answered(status))
    }

    /// The outcome of an answer whose status is right.
    pub fn judge_content(&self, status: u16, content: &[u8]) -> Outcome {
        let found = match &self.body {
            Some(Test::Text(text)) => memchr::memmem::find(content, text).is_some(),
            Some(Test::Regex(regex)) => regex.is_match(content),
            None => true,
        };
        if found { Outcome::Answered(status) } else { Outcome::Body }
    }

    /// Where to put what comes back.
    pub fn answer(&self) -> HttpAnswer<'_> {
        HttpAnswer { question: self, input: Vec::new(), scan: HeadScan::default(), interim: 0, body: None }
    }
}

impl HttpAnswer<'_> {
    /// Take in more bytes; the outcome, once there is one.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Outcome> {
        self.input.extend_from_slice(bytes);
        if self.body.is_none() {
            loop {
                match self.scan.advance(&self.input) {
                    Err(_) => return Some(Outcome::BadResponse),
                    Ok(Scanned::Partial) if self.input.len() > HEAD => return Some(Outcome::TooLong),
                    Ok(Scanned::Partial) => return None,
                    Ok(Scanned::Head { start, end }) => {
                        let outcome = self.head(start, end);
                        if outcome.is_some() {
                            return outcome;
                        }
                    }
                }
                if self.body.is_some() {
                    break;
                }
            }
        }
        self.content()
    }

    /// The endpoint closed.
    pub fn end(&self) -> Outcome {
        match &self.body {
            Some(body) if matches!(body.framing, Framing::UntilClose) => self.judge(body),
            _ => Outcome::BadResponse,
        }
    }

    /// Take a whole head off the input.
    fn head(&mut self, start: usize, end: usize) -> Option<Outcome> {
        let mut head = ResponseHead::default();
        let limits = HeadLimits { bytes: HEAD, fields: 200, uri: 0, elsewhere: false };
        let to_head = self.question.plan.method == "HEAD";
        let bytes = self.input.get(start..end).unwrap_or_default();
        if bytes.len() > HEAD {
            return Some(Outcome::TooLong);
        }
        if head.parse(bytes, &limits, to_head).is_err() {
            return Some(Outcome::BadResponse);
        }
        self.input.drain(..end);
        self.scan = HeadScan::default();
        if head.is_interim() {
            self.interim += 1;
            return (self.interim > INTERIM).then_some(Outcome::BadResponse);
        }
        let status = head.status;
        if let Some(outcome) = self.question.judge_status(status) {
            return Some(outcome);
        }
        let framing = match head.length {
            Length::None => Framing::Left(0),
            Length::Bytes(bytes) => Framing::Left(bytes),
            Length::Chunked => Framing::Chunked(chunked::Decoder::default()),
            Length::UntilClose => Framing::UntilClose,
        };
        self.body = Some(Body { status, framing, content: Vec::new() });
        None
    }

    /// Move what came to the body; the outcome when it is whole, or as much of it as is read.
    fn content(&mut self) -> Option<Outcome> {
        let body = self.body.as_mut()?;
        let input = std::mem::take(&mut self.input);
        let whole = match body.take(&input) {
            Ok(whole) => whole,
            Err(()) => return Some(Outcome::BadResponse),
        };
        let body = self.body.as_ref()?;
        (whole || body.content.len() >= MOST).then(|| self.judge(body))
    }

    fn judge(&self, body: &Body) -> Outcome {
        self.question.judge_content(body.status, &body.content)
    }
}

impl Body {
    /// Keep the content of `input`, up to [`MOST`]; whether the body ended.
    fn take(&mut self, input: &[u8]) -> Result<bool, ()> {
        match &mut self.framing {
            Framing::UntilClose => {
                keep(&mut self.content, input);
                Ok(false)
            }
            Framing::Left(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                keep(&mut self.content, input.get(..taken).unwrap_or_default());
                *left -= taken as u64;
                Ok(*left == 0)
            }
            Framing::Chunked(decoder) => {
                let mut rest = input;
                loop {
                    let step = decoder.step(rest).map_err(|_| ())?;
                    let end = step.skip + step.data;
                    keep(&mut self.content, rest.get(step.skip..end).unwrap_or_default());
                    rest = rest.get(end..).unwrap_or_default();
                    if step.done || rest.is_empty() || self.content.len() >= MOST {
                        return Ok(step.done);
                    }
                }
            }
        }
    }
}

fn keep(content: &mut Vec<u8>, more: &[u8]) {
    let room = MOST - content.len().min(MOST);
    content.extend_from_slice(more.get(..room).unwrap_or(more));
}

#[cfg(test)]
mod tests;
