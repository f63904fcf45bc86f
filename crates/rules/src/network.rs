//! Networks of addresses (CIDR).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network such as `10.0.0.0/8`; an address alone is the network of that one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
    v4: bool,
}

impl Network {
    /// Whether `address` belongs to it. IPv4 mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, v4) = bits(address);
        v4 == self.v4 && bits & self.mask == self.base
    }
}

impl Network {
    /// Its first and last address as numbers, and whether they are of IPv4: order and nesting are those of the numbers.
    pub(crate) fn range(&self) -> (u128, u128, bool) {
        let wide = if self.v4 { u128::from(u32::MAX) } else { u128::MAX };
        (self.base, self.base | (wide & !self.mask), self.v4)
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let (bits, v4) = bits(address);
        let widest: u32 = if v4 { 32 } else { 128 };
        // An IPv4 address written as IPv6 has its length written so, too: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
        let mapped = if v4 && address.is_ipv6() { 96 } else { 0 };
        let length = match length.map(str::parse::<u32>) {
            Some(length) => length.ok().and_then(|length| length.checked_sub(mapped)).ok_or(NotANetwork)?,
            None => widest,
        };
        if length > widest {
            return Err(NotANetwork);
        }
        // Addresses are kept in the low bits: an IPv4 mask leaves the upper 96 alone.
        let mask = if length == 0 { 0 } else { (u128::MAX >> (128 - widest)) & (u128::MAX << (widest - length)) };
        Ok(Network { base: bits & mask, mask, v4 })
    }
}

/// The text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("neither an address nor a network such as \"10.0.0.0/8\"")
    }
}

impl std::error::Error for NotANetwork {}

/// An address as a number, and whether it is one of IPv4. IPv4 mapped into IPv6 counts as IPv4.
pub(crate) fn bits(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("10.1.2.3/16", "10.1.0.0", "10.2.0.0"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("::ffff:127.0.0.0/104", "127.0.0.1", "128.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "::/129",
            "a/8",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "::ffff:0:0/95",
            "::ffff:0:0/129",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
    }
}
