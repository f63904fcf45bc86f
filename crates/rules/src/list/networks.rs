//! Networks, sorted: those inside another are left out, so what remains never overlaps and one search tells.

use super::Origin;
use crate::network::{self, Network};
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of both families.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: u128,
    last: u128,
    origin: Origin,
}

impl Networks {
    pub(super) fn add(&mut self, network: Network, origin: Origin) {
        let (first, last, v4) = network.range();
        let family = if v4 { &mut self.v4 } else { &mut self.v6 };
        family.push(Range { first, last, origin });
    }

    /// Make them ready to be asked.
    pub(super) fn finish(&mut self) {
        for family in [&mut self.v4, &mut self.v6] {
            // The wider comes before those inside it.
            family.sort_by_key(|range| (range.first, Reverse(range.last)));
            family.dedup_by(|range, before| range.last <= before.last);
            family.shrink_to_fit();
        }
    }

    #[inline]
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.lookup(address).is_some()
    }

    /// The network that it belongs to.
    pub(super) fn find(&self, address: IpAddr) -> Option<(String, Origin)> {
        let (range, v4) = self.lookup(address)?;
        let width = (range.last - range.first).count_ones();
        let text = match u32::try_from(range.first) {
            Ok(first) if v4 => format!("{}/{}", Ipv4Addr::from_bits(first), 32 - width.min(32)),
            _ => format!("{}/{}", Ipv6Addr::from_bits(range.first), 128 - width),
        };
        Some((text, range.origin))
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn bytes(&self) -> usize {
        (self.v4.capacity() + self.v6.capacity()) * size_of::<Range>()
    }

    #[inline]
    fn lookup(&self, address: IpAddr) -> Option<(&Range, bool)> {
        let (bits, v4) = network::bits(address);
        let family = if v4 { &self.v4 } else { &self.v6 };
        let at = family.partition_point(|range| range.first <= bits).checked_sub(1)?;
        family.get(at).filter(|range| bits <= range.last).map(|range| (range, v4))
    }
}
