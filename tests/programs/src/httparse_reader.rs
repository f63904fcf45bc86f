//! How `httparse` reads connections: one reader of the differential test (`tests/differential`). It shares nothing with the
//! product but the crate, which the product uses for heads alone.
//!
//! Standard input holds connections, each behind its length (4 bytes, little endian); for each, one line of JSON goes out:
//! how it ends (`whole`, `partial`, `refused`), its requests as method, target, body in hexadecimal, and first byte, and how
//! many bytes they are together.

use serde_json::{Value, json};
use std::io::{self, BufWriter, Read, Write};

const MOST_FIELDS: usize = 128;

fn main() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let mut rest = &input[..];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((connection, behind)) = behind.split_at_checked(length) else { break };
        rest = behind;
        writeln!(output, "{}", read(connection))?;
    }
    output.flush()
}

fn read(bytes: &[u8]) -> Value {
    let (mut at, mut requests) = (0, Vec::new());
    let end = loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break "whole";
        }
        match request(rest) {
            Ok(Some((length, method, target, body))) => {
                requests.push(json!([method, target, body, at]));
                at += length;
            }
            Ok(None) => break "partial",
            Err(_) => break "refused",
        }
    };
    json!({ "end": end, "requests": requests, "read": at })
}

/// Length on the wire, method, target and body; `None` while it is not whole.
fn request(bytes: &[u8]) -> Result<Option<(usize, String, String, String)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(at) = head.parse(bytes)? else { return Ok(None) };
    let value = |name: &str| {
        let mut values = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        values.next().map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let (length, body) = if value("transfer-encoding").is_some() {
        let Some(found) = chunks(rest)? else { return Ok(None) };
        found
    } else {
        let length = value("content-length").map_or(Ok(0), |text| text.parse::<usize>());
        let length = length.map_err(|_| httparse::Error::HeaderValue)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        (length, body.to_vec())
    };
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let body = body.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some((at + length, text(head.method), text(head.path), body)))
}

/// Length on the wire and data of a chunked body.
fn chunks(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, httparse::Error> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Ok(size) = httparse::parse_chunk_size(rest) else { return Err(httparse::Error::Token) };
        let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
        let size = usize::try_from(size).map_err(|_| httparse::Error::Token)?;
        let rest = rest.get(line..).unwrap_or_default();
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
            let httparse::Status::Complete((trailers, _)) = httparse::parse_headers(rest, &mut fields)? else {
                return Ok(None);
            };
            return Ok(Some((at + line + trailers, data)));
        }
        let (Some(chunk), Some(end)) = (rest.get(..size), rest.get(size..size + 2)) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(httparse::Error::NewLine);
        }
        data.extend_from_slice(chunk);
        at += line + size + 2;
    }
}
