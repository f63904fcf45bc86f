//! The least of HTTP/1.1 that the bench needs: where a head ends, and what its framing says. The programs talk only to
//! peers that the bench started, so nothing here is strict.

/// How a message's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes; 0 where the head says nothing.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The framing of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head with its empty line.
    pub length: usize,
    /// What follows it.
    pub body: Body,
    /// The connection ends after this message.
    pub close: bool,
}

/// Reads the head at the start of `bytes`, or nothing while it is not whole.
pub fn read_head(bytes: &[u8]) -> Option<Head> {
    let mut head = Head { length: 0, body: Body::Length(0), close: false };
    let mut start = 0;
    loop {
        let length = bytes[start..].iter().position(|byte| *byte == b'\n')?;
        let line = bytes[start..start + length].trim_ascii_end();
        if start == 0 {
            head.close = line.ends_with(b"HTTP/1.0");
        }
        start += length + 1;
        if line.is_empty() {
            head.length = start;
            return Some(head);
        }
        // Only three names matter: the first letter spares most fields the comparison.
        if matches!(line[0] | 0x20, b'c' | b't') {
            read_field(line, &mut head);
        }
    }
}

/// The status of a response head.
pub fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn read_field(line: &[u8], head: &mut Head) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        head.body = Body::Length(length.unwrap_or(0));
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        head.body = Body::Chunked;
    } else if name.eq_ignore_ascii_case(b"connection") {
        head.close |= value.eq_ignore_ascii_case(b"close");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_only_with_its_empty_line() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(read_head(&whole[..cut]), None);
        }
        assert_eq!(read_head(whole), Some(Head { length: whole.len(), body: Body::Length(0), close: false }));
    }

    #[test]
    fn framing_is_read_whatever_the_case() {
        let head = read_head(b"POST / HTTP/1.1\r\ncontent-LENGTH: 12\r\nConnection: Close\r\n\r\nbody");
        assert_eq!(head.map(|head| (head.body, head.close)), Some((Body::Length(12), true)));
        let head = read_head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(head.map(|head| head.body), Some(Body::Chunked));
    }

    #[test]
    fn the_status_is_the_second_word() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), 204);
        assert_eq!(status(b"nonsense"), 0);
    }
}
