use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn read(kind: ListKind, texts: &[&str]) -> List {
    let mut draft = Draft::new(kind);
    for (source, text) in (0..).zip(texts) {
        draft.add(source, text.as_bytes());
    }
    draft.finish().unwrap()
}

fn shared(kind: ListKind, texts: &[&str]) -> Shared {
    let names = (0..texts.len()).map(|at| format!("list-{at}"));
    Shared::new("x", kind, names, read(kind, texts))
}

fn where_from(hit: Option<Hit>) -> Option<(String, String, u32)> {
    hit.map(|hit| (hit.entry, hit.source, hit.line))
}

#[test]
fn a_domain_is_its_name_and_all_below_it() {
    let list = shared(
        ListKind::Domains,
        &["# social\nExample.com\r\n\n.one.test # a comment\n*.two.test.\nonly", "example.com\nthree.test"],
    );
    for inside in ["example.com", "a.b.example.com", "EXAMPLE.COM.", "one.test", "x.one.test", "two.test", "y.two.test"]
    {
        assert!(list.has_text(inside.as_bytes()), "{inside}");
    }
    for outside in ["", ".", "com", "ample.com", "xexample.com", "example.com.x", "test", "onl", "a..", "example.co"] {
        assert!(!list.has_text(outside.as_bytes()), "{outside}");
    }
    assert!(!list.has_address("10.0.0.1".parse().unwrap()));
    assert_eq!(list.now().len(), 5, "a name that is written twice is one entry");
    let from = |text: &str| where_from(list.hit_text(text.as_bytes()));
    assert_eq!(from("www.Example.com"), Some(("example.com".into(), "list-0".into(), 2)));
    assert_eq!(from("three.test"), Some(("three.test".into(), "list-1".into(), 2)));
    assert_eq!(from("four.test"), None);
    assert!(!list.has_text("a.".repeat(200).as_bytes()) && !list.has_text(&[b'a'; 5000]));
}

#[test]
fn a_bad_line_is_counted_and_shown_and_the_others_count() {
    let list = read(
        ListKind::Domains,
        &["a.test\nhttp://b.test/\n127.0.0.1 c.test\n\u{fc}ber.test\nd..test\n-\u{0}\n0\n! x\n; y\nlast.test"],
    );
    let bad: Vec<_> = list.tally.first_bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
    assert_eq!(
        bad,
        [
            (2, "\"http://b.test/\": not a domain"),
            (3, "\"127.0.0.1 c.test\": more than one word; lines of an address and hosts are kind \"hosts\""),
            (4, "\"\u{fc}ber.test\": letters that are not ASCII; write the name as \"xn--…\" (Punycode)"),
            (5, "\"d..test\": not a domain"),
            (6, "\"-\\0\": not a domain"),
        ]
    );
    assert_eq!((list.len(), list.tally.bad, list.tally.ignored), (3, 5, 0));
    assert!(list.has_text(b"a.test") && list.has_text(b"last.test") && !list.has_text(b"c.test"));
    let long = format!("{}.test\n{}\n", "a".repeat(64), "b.".repeat(3000));
    assert_eq!(read(ListKind::Domains, &[&long]).tally.bad, 2);
}

#[test]
fn a_hosts_file_lists_exactly_its_names() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n0.0.0.0 a.test b.test # both\n\
                fe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\nc.test\n0.0.0.0\n";
    let list = shared(ListKind::Hosts, &[text]);
    assert!(list.has_text(b"a.test") && list.has_text(b"B.test") && !list.has_text(b"www.a.test"));
    assert!(!list.has_text(b"localhost") && !list.has_text(b"c.test"));
    assert_eq!(where_from(list.hit_text(b"b.test")), Some(("b.test".into(), "list-0".into(), 3)));
    let tally = list.now().tally.clone();
    assert_eq!((tally.ignored, tally.bad), (5, 2));
    assert!(tally.first_bad[0].reason.contains("does not begin with an address"), "{:?}", tally.first_bad);
}

#[test]
fn of_adblock_the_rules_of_whole_domains_count_and_exceptions_go_before() {
    let text = "[Adblock Plus 2.0]\n! Title: x\n||ads.test^\n||track.test^$important\n@@||good.ads.test^\n\
                ||third.test^$third-party\n||path.test/ads/*\nplain.test##.banner\n/banner/img\n||wild*.test^\n@@||both.test^\n||both.test^\n";
    let list = shared(ListKind::Adblock, &[text]);
    for inside in ["ads.test", "x.ads.test", "a.track.test"] {
        assert!(list.has_text(inside.as_bytes()), "{inside}");
    }
    for outside in ["good.ads.test", "x.good.ads.test", "third.test", "path.test", "plain.test", "both.test"] {
        assert!(!list.has_text(outside.as_bytes()), "{outside}");
        assert_eq!(list.hit_text(outside.as_bytes()), None);
    }
    assert_eq!((list.now().len(), list.now().tally.ignored, list.now().tally.bad), (4, 5, 0));
}

#[test]
fn networks_hold_addresses_of_their_family() {
    let text = "10.0.0.0/8\n10.1.0.0/16 # inside\n192.0.2.7\n2001:db8::/32\n::ffff:198.51.100.0/120\n300.0.0.1\n";
    let list = shared(ListKind::Networks, &[text]);
    let from = |text: &str| where_from(list.hit_address(text.parse().unwrap()));
    assert_eq!(from("10.1.2.3"), Some(("10.0.0.0/8".into(), "list-0".into(), 1)));
    assert_eq!(from("::ffff:10.0.0.1"), Some(("10.0.0.0/8".into(), "list-0".into(), 1)));
    assert_eq!(from("192.0.2.7"), Some(("192.0.2.7/32".into(), "list-0".into(), 3)));
    assert_eq!(from("2001:db8::1"), Some(("2001:db8::/32".into(), "list-0".into(), 4)));
    assert_eq!(from("198.51.100.9"), Some(("198.51.100.0/24".into(), "list-0".into(), 5)));
    for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.8", "2001:db9::", "::", "0.0.0.0"] {
        assert_eq!(from(outside), None, "{outside}");
    }
    assert_eq!((list.now().len(), list.now().tally.bad), (4, 1));
    let all = shared(ListKind::Networks, &["::/0\n0.0.0.0/0\n"]);
    assert!(all.has_address("255.255.255.255".parse().unwrap()) && all.has_address("::1".parse().unwrap()));
    assert_eq!(where_from(all.hit_address("::1".parse().unwrap())).unwrap().0, "::/0");
    assert!(!all.has_text(b"10.0.0.1"));
}

#[test]
fn regular_expressions_are_found_anywhere_and_bad_ones_told() {
    let list = shared(ListKind::Regex, &["# ads\n^ads?[0-9]*\\.\n(\n(a{1000}){1000}\nbanner\n"]);
    assert!(list.has_text(b"ad1.test") && list.has_text(b"x.banner.test") && !list.has_text(b"x.test"));
    assert_eq!(where_from(list.hit_text(b"x.banner")), Some(("banner".into(), "list-0".into(), 5)));
    let bad: Vec<_> = list.now().tally.first_bad.iter().map(|bad| (bad.line, bad.reason.clone())).collect();
    assert_eq!(
        bad,
        [
            (3, "\"(\": unclosed group".to_owned()),
            (4, "\"(a{1000}){1000}\": larger than 65536 bytes when compiled".to_owned())
        ]
    );
    let many = (0..5000).map(|n| format!("x{n}\n")).collect::<String>();
    assert_eq!(read(ListKind::Regex, &[&many]).tally.bad, 5000 - patterns::MOST as u64);
}

#[test]
fn an_empty_list_says_no_and_a_new_one_takes_its_place() {
    let kinds = [ListKind::Domains, ListKind::Hosts, ListKind::Adblock, ListKind::Networks, ListKind::Regex];
    for kind in kinds {
        for list in [List::empty(kind), read(kind, &[]), read(kind, &["", "\n\r\n"])] {
            assert!(list.is_empty() && list.tally == Tally::default());
            assert!(!list.has_text(b"a.test") && !list.has_address("::1".parse().unwrap()), "{kind:?}");
        }
    }
    let list = shared(ListKind::Domains, &["a.test"]);
    list.put(read(ListKind::Domains, &["b.test"]));
    assert!(!list.has_text(b"a.test") && list.has_text(b"b.test"));
}

/// 100 000 names, which is enough to see what an entry costs and whether each is found.
#[test]
fn many_domains_are_small_and_all_found() {
    let names: Vec<String> = (0..100_000).map(|n| format!("host-{n}.sub{}.example{}.test", n % 7, n / 7)).collect();
    let text = names.join("\n");
    let list = read(ListKind::Domains, &[&text]);
    assert_eq!(list.len(), names.len());
    assert!(list.bytes() < 100 * list.len(), "{} bytes an entry", list.bytes() / list.len());
    for name in &names {
        assert!(list.has_text(name.as_bytes()) && list.has_text(format!("www.{name}").as_bytes()), "{name}");
        assert!(!list.has_text(name.split_once('.').unwrap().1.as_bytes()));
    }
    let twice = read(ListKind::Domains, &[&text, &text, &text]);
    assert_eq!(twice.len(), names.len());
    assert!(twice.bytes() < 100 * twice.len());
    assert!(names.iter().all(|name| twice.has_text(name.as_bytes())));
}

/// Of what a text may hold, memory is asked for no more than the text itself takes, whatever its lines are.
#[test]
fn a_text_of_line_ends_takes_no_memory_ahead() {
    for line in ["\n", "a\n", "#\n"] {
        let text = line.repeat(500_000);
        let mut draft = Draft::new(ListKind::Domains);
        draft.add(0, text.as_bytes());
        let taken = draft.into_empty().bytes();
        assert!(taken <= text.len(), "{taken} bytes for {}", text.len());
    }
}

proptest! {
    /// The same answer as a set of names that is asked for each suffix.
    #[test]
    fn domains_are_what_a_set_of_suffixes_says(
        names in proptest::collection::vec("[a-c]{1,2}(\\.[a-c]{1,2}){0,3}", 0..40),
        asked in proptest::collection::vec("[a-d]{1,2}(\\.[a-c]{1,2}){0,5}", 1..40),
    ) {
        let list = read(ListKind::Domains, &[&names.join("\n")]);
        let set: HashSet<&str> = names.iter().map(String::as_str).collect();
        prop_assert_eq!(list.len(), set.len());
        for name in &asked {
            let mut rest = Some(name.as_str());
            let mut expected = false;
            while let Some(suffix) = rest {
                expected |= set.contains(suffix);
                rest = suffix.split_once('.').map(|(_, parent)| parent);
            }
            prop_assert_eq!(list.has_text(name.as_bytes()), expected, "{}", name);
        }
    }

    /// Any bytes are a list, or lines that are counted.
    #[test]
    fn any_text_is_read(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        for kind in [ListKind::Domains, ListKind::Hosts, ListKind::Adblock, ListKind::Networks, ListKind::Regex] {
            let mut draft = Draft::new(kind);
            draft.add(0, &text);
            let list = draft.finish().unwrap();
            prop_assert!(list.tally.first_bad.len() as u64 <= list.tally.bad);
            list.has_text(&text);
        }
    }
}
