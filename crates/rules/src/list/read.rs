//! What one line of a list says.

use crate::network::Network;
use penstock_plan::ListKind;

/// Lines that are longer are wrong.
const LONGEST_LINE: usize = 4096;
/// The longest name (RFC 1035 §2.3.4), without the dot at its end.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// It is empty, or a comment.
    Nothing,
    /// It is right, and no entry.
    Ignored,
    /// A domain, or with `exception` one that is taken out.
    Domain {
        name: &'l [u8],
        exception: bool,
    },
    /// Words of which each is a host.
    Hosts(&'l [u8]),
    Network(Network),
    Regex(&'l str),
    /// What is wrong.
    Bad(&'static str),
}

/// Read a line without its end and without spaces around it.
pub(super) fn read(kind: ListKind, line: &[u8]) -> Line<'_> {
    if line.is_empty() {
        return Line::Nothing;
    }
    if line.len() > LONGEST_LINE {
        return Line::Bad("longer than 4096 bytes");
    }
    match kind {
        ListKind::Adblock => rule(line),
        ListKind::Regex => regex(line),
        ListKind::Domains => plain(line, b"#!;").map_or(Line::Nothing, domains),
        ListKind::Hosts => plain(line, b"#").map_or(Line::Nothing, hosts),
        ListKind::Networks => plain(line, b"#;").map_or(Line::Nothing, network),
    }
}

/// A host of a hosts file; `None`: one that every machine has for itself, which such files bring along.
pub(super) fn host(word: &[u8]) -> Option<Result<&[u8], &'static str>> {
    const OWN: [&[u8]; 6] =
        [b"localhost", b"localhost.localdomain", b"local", b"broadcasthost", b"0.0.0.0", b"ip6-localhost"];
    let is_own = OWN.iter().any(|own| word.eq_ignore_ascii_case(own)) || word.starts_with(b"ip6-");
    (!is_own).then(|| name(word))
}

/// What stands before a comment; `None` if nothing does. A mark begins one at the start of the line, and `#` behind a space.
fn plain<'l>(line: &'l [u8], marks: &[u8]) -> Option<&'l [u8]> {
    if line.first().is_some_and(|first| marks.contains(first)) {
        return None;
    }
    let comment = memchr::memchr_iter(b'#', line)
        .find(|at| at.checked_sub(1).and_then(|before| line.get(before)).is_some_and(u8::is_ascii_whitespace));
    Some(comment.and_then(|at| line.get(..at)).unwrap_or(line).trim_ascii_end())
}

fn domains(text: &[u8]) -> Line<'_> {
    if text.iter().any(u8::is_ascii_whitespace) {
        return Line::Bad("more than one word; lines of an address and hosts are kind \"hosts\"");
    }
    match domain(text) {
        Ok(name) => Line::Domain { name, exception: false },
        Err(reason) => Line::Bad(reason),
    }
}

fn hosts(text: &[u8]) -> Line<'_> {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let Some((address, names)) = text.split_at_checked(end) else { return Line::Nothing };
    // Of an address with a zone (fe80::1%lo0) only the address is of interest.
    let address = address.split(|byte| *byte == b'%').next().and_then(|address| str::from_utf8(address).ok());
    if address.is_none_or(|address| address.parse::<std::net::IpAddr>().is_err()) {
        return Line::Bad("does not begin with an address; lines of one domain are kind \"domains\"");
    }
    match names.trim_ascii() {
        [] => Line::Bad("an address without hosts"),
        names => Line::Hosts(names),
    }
}

fn network(text: &[u8]) -> Line<'_> {
    let network = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    network.map_or(Line::Bad("neither an address nor a network such as 10.0.0.0/8"), Line::Network)
}

fn regex(line: &[u8]) -> Line<'_> {
    if line.starts_with(b"#") {
        return Line::Nothing;
    }
    str::from_utf8(line).map_or(Line::Bad("not UTF-8"), Line::Regex)
}

/// A rule of AdBlock's: of all there are, `||example.com^` and `@@||example.com^` are about whole domains.
fn rule(line: &[u8]) -> Line<'_> {
    if matches!(line.first(), Some(b'!' | b'[')) {
        return Line::Nothing;
    }
    let (rule, exception) = match line.strip_prefix(b"@@") {
        Some(rule) => (rule, true),
        None => (line, false),
    };
    let Some(rule) = rule.strip_prefix(b"||") else { return Line::Ignored };
    let end = memchr::memchr(b'^', rule).unwrap_or(rule.len());
    let (Some(name), options) = (rule.get(..end), rule.get(end + 1..).unwrap_or_default()) else {
        return Line::Ignored;
    };
    // Any further option makes a rule one of some requests of the domain.
    const OF_ALL: [&[u8]; 5] = [b"", b"$important", b"$all", b"$document", b"$doc"];
    if end == rule.len() || !OF_ALL.contains(&options) {
        return Line::Ignored;
    }
    match domain(name) {
        Ok(name) => Line::Domain { name, exception },
        Err(_) => Line::Ignored,
    }
}

/// A domain, as `example.com`, `.example.com` or `*.example.com`.
fn domain(text: &[u8]) -> Result<&[u8], &'static str> {
    let text = text.strip_prefix(b"*").filter(|rest| rest.starts_with(b".")).unwrap_or(text);
    name(text.strip_prefix(b".").unwrap_or(text))
}

/// A name, with or without a dot at its end.
fn name(text: &[u8]) -> Result<&[u8], &'static str> {
    let name = text.strip_suffix(b".").unwrap_or(text);
    if !name.is_ascii() {
        return Err("letters that are not ASCII; write the name as \"xn--…\" (Punycode)");
    }
    if name.len() > LONGEST_NAME {
        return Err("longer than the 253 bytes of a domain");
    }
    let is_label = |label: &[u8]| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.split(|byte| *byte == b'.').all(is_label) { Ok(name) } else { Err("not a domain") }
}
