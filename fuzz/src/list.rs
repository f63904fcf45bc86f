//! A list's text: any bytes are read, what is wrong is counted, and a list has exactly what its plain lines say.

use penstock_plan::ListKind;
use penstock_rules::list::{Draft, List, SHOWN, Shared};
use std::collections::HashSet;

const KINDS: [ListKind; 5] =
    [ListKind::Domains, ListKind::Hosts, ListKind::Adblock, ListKind::Networks, ListKind::Regex];

/// Check one input: a byte for the kind, and a text.
pub fn check(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let kind = *KINDS.get(usize::from(*first) % KINDS.len()).expect("a kind");
    let list = read(kind, &[text]);
    let (shown, lines) = (list.tally.first_bad.len(), text.split(|byte| *byte == b'\n').count());
    assert_eq!(shown as u64, list.tally.bad.min(SHOWN as u64));
    assert!(list.tally.first_bad.iter().all(|bad| (1..=lines).contains(&(bad.line as usize)) && bad.source == 0));
    assert_eq!(list.is_empty(), list.len() == 0);
    let again = read(kind, &[text, text]);
    assert!(again.len() >= list.len());
    assert!(kind == ListKind::Regex || again.len() == list.len(), "what is read twice is kept twice");
    let shared = Shared::new("x", kind, ["x".to_owned()], list);
    let mut asked: Vec<&[u8]> = text.split(|byte| b"\n |^@#/".contains(byte)).take(64).collect();
    asked.push(text);
    for word in asked {
        let hit = shared.hit_text(word);
        assert_eq!(hit.is_some(), shared.has_text(word), "{word:?}");
        assert!(hit.is_none_or(|hit| (1..=lines).contains(&(hit.line as usize))));
        if let Some(address) = str::from_utf8(word).ok().and_then(|word| word.parse().ok()) {
            assert_eq!(shared.hit_address(address).is_some(), shared.has_address(address));
        }
    }
    if kind == ListKind::Domains {
        check_domains(&shared, text);
    }
}

/// Plain lines have a second reader here, which knows nothing of tables.
fn check_domains(list: &Shared, text: &[u8]) {
    let plain = |line: &&str| {
        let label =
            |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_lowercase());
        line.len() <= 253 && line.split('.').all(label)
    };
    let lines: HashSet<&str> =
        text.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()).filter(plain).collect();
    for line in lines {
        assert!(list.has_text(line.as_bytes()), "{line}");
        let below = format!("x.{line}");
        assert!(below.len() > 253 || list.has_text(below.as_bytes()), "{below}");
    }
}

fn read(kind: ListKind, texts: &[&[u8]]) -> List {
    let mut draft = Draft::new(kind);
    (0..).zip(texts).for_each(|(source, text)| draft.add(source, text));
    draft.finish().expect("small regular expressions fit together")
}
