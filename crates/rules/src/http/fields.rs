//! Fields of a head: one buffer and an index of ranges.
//!
//! Names keep the case they came in; comparison ignores it. Fields that the proxy itself reads are recognised once, when they
//! are added, so that later steps compare a byte and not a name.

/// Fields the proxy itself reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Known {
    Other,
    Accept,
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    WwwAuthenticate,
    XClientCertFingerprint,
    XClientCertSan,
    XClientCertSubject,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    XForwardedProto,
    XRealIp,
    XRequestId,
}

impl Known {
    /// Which known field `name` is, ignoring case.
    pub fn of(name: &[u8]) -> Known {
        // Sorted by length first: most names fail on that alone.
        const NAMES: &[(&str, Known)] = &[
            ("te", Known::Te),
            ("via", Known::Via),
            ("date", Known::Date),
            ("host", Known::Host),
            ("range", Known::Range),
            ("accept", Known::Accept),
            ("cookie", Known::Cookie),
            ("expect", Known::Expect),
            ("origin", Known::Origin),
            ("referer", Known::Referer),
            ("trailer", Known::Trailer),
            ("upgrade", Known::Upgrade),
            ("forwarded", Known::Forwarded),
            ("x-real-ip", Known::XRealIp),
            ("connection", Known::Connection),
            ("keep-alive", Known::KeepAlive),
            ("user-agent", Known::UserAgent),
            ("content-type", Known::ContentType),
            ("x-request-id", Known::XRequestId),
            ("authorization", Known::Authorization),
            ("content-length", Known::ContentLength),
            ("http2-settings", Known::Http2Settings),
            ("x-forwarded-for", Known::XForwardedFor),
            ("proxy-connection", Known::ProxyConnection),
            ("x-forwarded-host", Known::XForwardedHost),
            ("x-forwarded-port", Known::XForwardedPort),
            ("www-authenticate", Known::WwwAuthenticate),
            ("transfer-encoding", Known::TransferEncoding),
            ("x-forwarded-proto", Known::XForwardedProto),
            ("x-client-cert-san", Known::XClientCertSan),
            ("proxy-authenticate", Known::ProxyAuthenticate),
            ("x-forwarded-prefix", Known::XForwardedPrefix),
            ("proxy-authorization", Known::ProxyAuthorization),
            ("x-client-cert-subject", Known::XClientCertSubject),
            ("x-client-cert-fingerprint", Known::XClientCertFingerprint),
        ];
        /// First index in `NAMES` of names at least as long as the position.
        const STARTS: [u8; 27] = {
            let mut starts = [NAMES.len() as u8; 27];
            let mut length = 27;
            while length > 0 {
                length -= 1;
                let mut at = NAMES.len();
                while at > 0 && NAMES[at - 1].0.len() >= length {
                    at -= 1;
                }
                starts[length] = at as u8;
            }
            starts
        };
        if name.len() >= STARTS.len() - 1 {
            return Known::Other;
        }
        let (from, to) = (usize::from(STARTS[name.len()]), usize::from(STARTS[name.len() + 1]));
        let last = name.last().map(|last| last | CASE);
        let alike = |text: &[u8]| text.last().copied() == last && same(name, text);
        let found = NAMES.get(from..to).unwrap_or_default().iter().find(|(text, _)| alike(text.as_bytes()));
        found.map_or(Known::Other, |(_, known)| *known)
    }

    /// Its place in a set of them.
    const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether the field says who the client is, or how it came here: believed only from trusted proxies (safety.md 134).
    pub fn is_identity(self) -> bool {
        self.bit() & IDENTITY != 0
    }
}

/// The bit by which letters of one case are told from the other's.
const CASE: u8 = 0x20;

/// Whether `name` is this known name of its length, whatever the case: no token character but a letter becomes another of these names'
/// characters by this bit. Eight bytes at a time, the last eight once more.
#[inline(always)]
fn same(name: &[u8], known: &[u8]) -> bool {
    let eight = |part: &[u8; 8]| u64::from_ne_bytes(*part) | u64::from_ne_bytes([CASE; 8]);
    match (name.as_chunks(), known.as_chunks(), name.last_chunk(), known.last_chunk()) {
        ((have, _), (want, _), Some(end), Some(wanted)) => {
            have.iter().zip(want).all(|(have, want)| eight(have) == u64::from_ne_bytes(*want))
                && eight(end) == u64::from_ne_bytes(*wanted)
        }
        _ => name.iter().zip(known).all(|(have, want)| have | CASE == *want),
    }
}

/// Those that are believed only from trusted proxies.
const IDENTITY: u64 = set(&[
    Known::Forwarded,
    Known::XClientCertFingerprint,
    Known::XClientCertSan,
    Known::XClientCertSubject,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedPrefix,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::XRequestId,
]);

/// These as a set.
#[inline(always)]
const fn set(of: &[Known]) -> u64 {
    let (mut set, mut at) = (0, 0);
    while at < of.len() {
        set |= of[at].bit();
        at += 1;
    }
    set
}

/// One field as seen in [`Fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which field the proxy knows this as.
    pub known: Known,
    /// In the case it came in.
    pub name: &'a [u8],
    /// Without surrounding white space.
    pub value: &'a [u8],
    /// Both as a line of HTTP/1; empty where they do not stand so in the buffer.
    pub(super) line: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    name: Range,
    value: Range,
}

/// A range of the buffer. Heads are bounded far below 4 GiB (64 KB unless configured otherwise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    at: u32,
    length: u32,
}

impl Range {
    pub(crate) fn new(at: usize, length: usize) -> Range {
        Range { at: at as u32, length: length as u32 }
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        // Ranges are made only from lengths of the same, never shrinking buffer; a wrong one reads as empty, not as a panic.
        bytes.get(self.at as usize..self.at as usize + self.length as usize).unwrap_or_default()
    }
}

/// An ordered list of fields in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(crate) bytes: Vec<u8>,
    index: Vec<Entry>,
    /// The known ones that were ever added: what is not among them need not be looked for.
    seen: u64,
}

impl Fields {
    /// Forget all fields, keep the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
        self.seen = 0;
    }

    /// Give back memory that one large head left behind.
    pub fn shrink(&mut self, bytes: usize) {
        if self.bytes.capacity() > bytes {
            self.bytes = Vec::new();
        }
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Append a field. The caller vouches for the name being a token and the value free of control characters.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        let entry = Entry { known: Known::of(name), name: self.store(name), value: self.store(value) };
        self.seen |= entry.known.bit();
        self.index.push(entry);
    }

    /// Append a field that goes on to the next hop, though its name says that it is for one hop alone.
    pub(super) fn push_for_next(&mut self, name: &str, value: &str) {
        let (name, value) = (self.store(name.as_bytes()), self.store(value.as_bytes()));
        self.index.push(Entry { known: Known::Other, name, value });
    }

    /// Whether any of these may be there: one that was taken out is still told of.
    #[inline(always)]
    pub(super) fn may_have(&self, any: &[Known]) -> bool {
        self.seen & set(any) != 0
    }

    /// Whether any may be there that says who the client is.
    #[inline(always)]
    pub(super) fn may_identify(&self) -> bool {
        self.seen & IDENTITY != 0
    }

    /// The known fields and their values, in order.
    pub(super) fn all_of_known(&self) -> impl Iterator<Item = (Known, &[u8])> {
        let known = self.index.iter().filter(|entry| entry.known != Known::Other);
        known.map(|entry| (entry.known, entry.value.of(&self.bytes)))
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.index.iter().map(|entry| self.field(entry))
    }

    /// First value of `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes());
        self.index.iter().find(|entry| self.is(entry, known, name)).map(|entry| entry.value.of(&self.bytes))
    }

    /// All values of `name` (lower case), in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name.as_bytes());
        self.index.iter().filter(move |entry| self.is(entry, known, name)).map(|entry| entry.value.of(&self.bytes))
    }

    /// First value of a known field.
    #[inline]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        if self.may_have(&[known]) { self.all_known(known).next() } else { None }
    }

    /// All values of a known field, in order.
    pub fn all_known(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.index.iter().filter(move |entry| entry.known == known).map(|entry| entry.value.of(&self.bytes))
    }

    /// Replace every field of `name` (lower case) by one.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Drop every field of `name` (lower case); how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let known = Known::of(name.as_bytes());
        let (before, bytes) = (self.index.len(), &self.bytes);
        self.index.retain(|entry| {
            entry.known != known
                || (known == Known::Other && !entry.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
        });
        before - self.index.len()
    }

    /// Put another value into each field of `name` (lower case) for which `change` gives one. The caller vouches for its being free of
    /// control characters.
    pub fn edit(&mut self, name: &str, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        let known = Known::of(name.as_bytes());
        for at in 0..self.index.len() {
            let Some(entry) = self.index.get(at).filter(|entry| self.is(entry, known, name)) else { continue };
            let Some(value) = change(entry.value.of(&self.bytes)) else { continue };
            let value = self.store(&value);
            if let Some(entry) = self.index.get_mut(at) {
                entry.value = value;
            }
        }
    }

    /// Keep only the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let bytes = &self.bytes;
        self.index.retain(|entry| {
            keep(Field { known: entry.known, name: entry.name.of(bytes), value: entry.value.of(bytes), line: b"" })
        });
    }

    /// Put bytes into the buffer that no field names (a rewritten path).
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Range {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Range::new(at, bytes.len())
    }

    /// Index a field whose bytes are in the buffer already.
    pub(crate) fn index(&mut self, name: Range, value: Range) -> Known {
        let known = Known::of(name.of(&self.bytes));
        self.seen |= known.bit();
        self.index.push(Entry { known, name, value });
        known
    }

    #[inline(always)]
    fn field(&self, entry: &Entry) -> Field<'_> {
        let (name, value) = (entry.name.of(&self.bytes), entry.value.of(&self.bytes));
        Field { known: entry.known, name, value, line: self.line(entry) }
    }

    /// A field that came in HTTP/1 most often stands there as it goes out.
    #[inline(always)]
    fn line(&self, entry: &Entry) -> &[u8] {
        let (start, colon) = (entry.name.at as usize, (entry.name.at + entry.name.length) as usize);
        let end = (entry.value.at + entry.value.length) as usize;
        let between = |at, what: &[u8; 2]| self.bytes.get(at..).and_then(|rest| rest.first_chunk()) == Some(what);
        if entry.value.at as usize == colon + 2 && between(colon, b": ") && between(end, b"\r\n") {
            self.bytes.get(start..end + 2).unwrap_or_default()
        } else {
            b""
        }
    }

    fn is(&self, entry: &Entry, known: Known, name: &str) -> bool {
        entry.known == known
            && (known != Known::Other || entry.name.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_found_in_any_case() {
        for name in ["te", "Host", "X-FORWARDED-PREFIX", "proxy-authorization", "Content-Length"] {
            assert_ne!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
        for name in ["", "t", "content-lengths", "content_length", &"x".repeat(300)] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn a_field_that_is_edited_keeps_its_place() {
        let mut fields = Fields::default();
        for (name, value) in [("X-A", "1"), ("b", "2"), ("x-a", "3")] {
            fields.push(name, value);
        }
        fields.edit("x-a", |value| (value == b"1").then(|| b"one".to_vec()));
        let values: Vec<_> = fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(values, [(&b"X-A"[..], &b"one"[..]), (b"b", b"2"), (b"x-a", b"3")]);
    }

    #[test]
    fn a_field_has_a_line_where_the_buffer_holds_it() {
        let mut fields =
            Fields { bytes: b"A: 1\r\nB:2\r\nC:\t3\r\nD: 4 \r\nE: \r\nF: 6\r\n".to_vec(), ..Fields::default() };
        for (name, value) in [(0, 3..4), (6, 8..9), (11, 14..15), (17, 20..21), (24, 27..27), (29, 32..33)] {
            fields.index(Range::new(name, 1), Range::new(value.start, value.len()));
        }
        fields.push("G", "7");
        let lines: Vec<&[u8]> = fields.iter().map(|field| field.line).collect();
        assert_eq!(lines, [&b"A: 1\r\n"[..], b"", b"", b"", b"E: \r\n", b"F: 6\r\n", b""]);
    }

    #[test]
    fn set_replaces_and_remove_counts() {
        let mut fields = Fields::default();
        fields.push("X-A", "1");
        fields.push("x-a", "2");
        fields.push("Host", "a");
        fields.set("x-a", "3");
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"3"]);
        assert_eq!(fields.remove("host"), 1);
        assert_eq!(fields.get("host"), None);
        assert_eq!(fields.remove("absent"), 0);
        assert_eq!(fields.len(), 1);
    }
}
