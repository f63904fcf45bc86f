//! A list while it is read.

use super::read::{self, Line};
use super::{BadLine, Entries, List, Names, Networks, Origin, Patterns, SHOWN, Tally};
use penstock_plan::ListKind;

/// Bytes of a bad line that are shown.
const QUOTED: usize = 60;
/// Bytes that a line with a name has at least, where there are many of them.
const USUAL_LINE: usize = 16;

/// Takes the texts of a list's sources and makes a [`List`] of them.
#[derive(Debug)]
pub struct Draft {
    kind: ListKind,
    entries: Entries,
    tally: Tally,
}

impl Draft {
    /// Nothing was read yet.
    pub fn new(kind: ListKind) -> Draft {
        let entries = match kind {
            ListKind::Domains | ListKind::Adblock => Entries::Names(Names::new(true)),
            ListKind::Hosts => Entries::Names(Names::new(false)),
            ListKind::Networks => Entries::Networks(Networks::default()),
            ListKind::Regex => Entries::Patterns(Patterns::default()),
        };
        Draft { kind, entries, tally: Tally::default() }
    }

    /// Read the text of the source of this index. Any bytes will do: what is no line of the list is counted.
    pub fn add(&mut self, source: u8, text: &[u8]) {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if let Entries::Names(names) = &mut self.entries {
            // Not for every line of a text of short ones, or of none: memory is asked for what the text may really hold.
            names.reserve(memchr::memchr_iter(b'\n', text).count().min(text.len() / USUAL_LINE));
        }
        let mut line = 0;
        for bytes in text.split(|byte| *byte == b'\n') {
            line = u32::saturating_add(line, 1);
            self.line(bytes.trim_ascii(), Origin { line, source });
        }
    }

    /// The list.
    ///
    /// # Errors
    /// Why there is none: regular expressions that are too large together.
    pub fn finish(mut self) -> Result<List, String> {
        match &mut self.entries {
            Entries::Names(names) => names.finish(),
            Entries::Networks(networks) => networks.finish(),
            Entries::Patterns(patterns) => patterns.finish()?,
        }
        Ok(List { entries: self.entries, tally: self.tally })
    }

    pub(super) fn into_empty(self) -> List {
        List { entries: self.entries, tally: self.tally }
    }

    fn line(&mut self, bytes: &[u8], origin: Origin) {
        let wrong = match (read::read(self.kind, bytes), &mut self.entries) {
            (Line::Domain { name, exception }, Entries::Names(names)) => {
                if names.add(name, exception, origin) {
                    None
                } else {
                    Some("there is no room for it".to_owned())
                }
            }
            (Line::Hosts(words), Entries::Names(names)) => {
                add_hosts(words, origin, names, &mut self.tally).err().map(str::to_owned)
            }
            (Line::Network(network), Entries::Networks(networks)) => {
                networks.add(network, origin);
                None
            }
            (Line::Regex(text), Entries::Patterns(patterns)) => patterns.add(text, origin).err(),
            (Line::Bad(reason), _) => Some(reason.to_owned()),
            (Line::Nothing, _) => None,
            _ => {
                self.tally.ignored += 1;
                None
            }
        };
        if let Some(wrong) = wrong {
            self.tally.wrong(bytes, origin, &wrong);
        }
    }
}

impl Tally {
    fn wrong(&mut self, bytes: &[u8], origin: Origin, wrong: &str) {
        self.bad += 1;
        if self.first_bad.len() < SHOWN {
            let shown = String::from_utf8_lossy(bytes.get(..QUOTED).unwrap_or(bytes));
            let more = if bytes.len() > QUOTED { "…" } else { "" };
            let reason = format!("\"{}{more}\": {wrong}", shown.escape_debug());
            self.first_bad.push(BadLine { source: origin.source, line: origin.line, reason });
        }
    }
}

/// Add every host of a line; the others also where one is wrong.
fn add_hosts(words: &[u8], origin: Origin, names: &mut Names, tally: &mut Tally) -> Result<(), &'static str> {
    let mut wrong = Ok(());
    for word in words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        match read::host(word) {
            None => tally.ignored += 1,
            Some(Ok(name)) if names.add(name, false, origin) => {}
            Some(Ok(_)) => wrong = Err("there is no room for it"),
            Some(Err(reason)) => wrong = Err(reason),
        }
    }
    wrong
}
