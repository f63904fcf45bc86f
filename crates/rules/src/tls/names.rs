//! Which certificates are good for the name that a client asks for: an exact name before a wildcard (RFC 6125 §6.4.3: for one whole
//! label, the left-most), and a wildcard before the default.

use std::collections::HashMap;

/// Places of certificates in a list, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    exact: HashMap<String, Vec<usize>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

/// Two certificates of one kind of key that are good for the same name: which one a client gets would be left to their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The name of both.
    pub name: String,
    /// The one listed first.
    pub first: usize,
    /// The one listed behind it.
    pub second: usize,
}

impl Names {
    /// The table of certificates, given as their names and the kind of their key. Of one name the kinds may differ: then the client's
    /// abilities decide, in the order of `K`.
    ///
    /// # Errors
    /// Every [`Overlap`].
    pub fn build<'c, K: Copy + Ord>(
        certificates: impl Iterator<Item = (&'c [String], K)>,
    ) -> Result<Names, Vec<Overlap>> {
        let (mut names, mut overlaps, mut kinds) = (Names::default(), Vec::new(), Vec::new());
        for (at, (covered, kind)) in certificates.enumerate() {
            kinds.push(kind);
            for name in covered {
                let places = match name.strip_prefix("*.") {
                    Some(parent) => names.wildcard.entry(parent.to_owned()).or_default(),
                    None => names.exact.entry(name.clone()).or_default(),
                };
                match places.iter().find(|known| kinds.get(**known) == Some(&kind)) {
                    // A certificate may name itself twice.
                    Some(first) if *first == at => continue,
                    Some(first) => overlaps.push(Overlap { name: name.clone(), first: *first, second: at }),
                    None => {}
                }
                places.push(at);
                places.sort_by_key(|place| kinds.get(*place).copied());
            }
        }
        if overlaps.is_empty() { Ok(names) } else { Err(overlaps) }
    }

    /// Where the certificates for `name` are, the one to prefer first. Empty: none is good for it.
    pub fn find(&self, name: &str) -> &[usize] {
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let wildcard =
            || name.split_once('.').and_then(|(label, parent)| self.wildcard.get(parent).filter(|_| !label.is_empty()));
        self.exact.get(name).or_else(wildcard).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(certificates: &[(&[&str], u8)]) -> Result<Names, Vec<Overlap>> {
        let owned: Vec<(Vec<String>, u8)> = certificates
            .iter()
            .map(|(names, kind)| (names.iter().map(|name| (*name).to_owned()).collect(), *kind))
            .collect();
        Names::build(owned.iter().map(|(names, kind)| (names.as_slice(), *kind)))
    }

    #[test]
    fn exact_goes_before_wildcard_and_a_wildcard_is_one_label() {
        let names = build(&[(&["*.shop.example"], 1), (&["a.shop.example", "shop.example"], 1)]).unwrap();
        for (name, expected) in [
            ("a.shop.example", &[1][..]),
            ("A.Shop.Example", &[1]),
            ("b.shop.example", &[0]),
            ("a.b.shop.example", &[]),
            ("shop.example", &[1]),
            (".shop.example", &[]),
            ("other.example", &[]),
            ("", &[]),
        ] {
            assert_eq!(names.find(name), expected, "{name}");
        }
    }

    #[test]
    fn kinds_of_one_name_are_ordered_whatever_order_they_came_in() {
        let names = build(&[(&["a.example"], 2), (&["a.example", "a.example"], 1)]).unwrap();
        assert_eq!(names.find("a.example"), [1, 0]);
    }

    #[test]
    fn two_of_one_kind_overlap() {
        let overlaps =
            build(&[(&["a.example", "*.b.example"], 1), (&["*.b.example", "a.example"], 1), (&["a.example"], 2)]);
        let overlap = |name: &str| Overlap { name: name.into(), first: 0, second: 1 };
        assert_eq!(overlaps, Err(vec![overlap("*.b.example"), overlap("a.example")]));
    }
}
