//! What a list of domains costs: `lists COUNT` makes one of generated domains, reads it, and asks it for hosts of which half are in
//! it. It prints one line of JSON: bytes an entry, nanoseconds a lookup, milliseconds to read it.

use penstock_bench::argument;
use penstock_plan::ListKind;
use penstock_rules::list::Draft;
use std::hint::black_box;
use std::io::{Error, Result, Write, stdout};
use std::time::Instant;

const LOOKUPS: usize = 2_000_000;

fn main() -> Result<()> {
    let count: usize = argument(1, "how many domains")?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let names: Vec<String> = (0..count).map(|number| dice.domain(number)).collect();
    let text = names.join("\n").into_bytes();
    let began = Instant::now();
    let mut draft = Draft::new(ListKind::Domains);
    draft.add(0, &text);
    let list = draft.finish().map_err(Error::other)?;
    let read = began.elapsed();
    // In no order, as hosts come: a host below a domain of the list, then one that is not there.
    let asked: Vec<String> = (0..LOOKUPS / 2)
        .flat_map(|_| {
            let at = dice.below(count);
            let name = names.get(at).map_or("", String::as_str);
            [format!("www.{name}"), format!("www.cdn.{name}x")]
        })
        .collect();
    let began = Instant::now();
    let found = asked.iter().filter(|host| list.has_text(black_box(host.as_bytes()))).count();
    let lookups = began.elapsed();
    if found != LOOKUPS / 2 {
        return Err(Error::other(format!("{found} of {LOOKUPS} hosts were found, not half")));
    }
    let line = format!(
        r#"{{"entries": {}, "bytes": {:.1}, "text": {:.1}, "nanoseconds": {:.1}, "milliseconds": {:.1}}}"#,
        list.len(),
        list.bytes() as f64 / list.len() as f64,
        text.len() as f64 / count as f64,
        lookups.as_secs_f64() * 1e9 / LOOKUPS as f64,
        read.as_secs_f64() * 1e3
    );
    writeln!(stdout(), "{line}")
}

/// Numbers without order that are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    /// A domain of the length that blocklists have, about 20 bytes; `number` makes it another than all others.
    fn domain(&mut self, number: usize) -> String {
        const WORDS: [&str; 12] =
            ["ads", "track", "metrics", "cdn", "static", "pixel", "social", "media", "shop", "click", "stat", "beacon"];
        const ENDS: [&str; 6] = ["com", "net", "org", "io", "co.uk", "example"];
        let word = |dice: &mut Dice| WORDS.get(dice.below(WORDS.len())).copied().unwrap_or("a");
        let (first, second) = (word(self), word(self));
        let end = ENDS.get(self.below(ENDS.len())).copied().unwrap_or("com");
        if self.below(3) == 0 {
            format!("{first}.{second}{number}.{end}")
        } else {
            format!("{first}-{second}{number}.{end}")
        }
    }
}
