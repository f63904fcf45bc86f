//! Error pages: which one a failure gets, and what it says.
//!
//! The route's pages go before the listener's, and those before the ones of all; within each the page of a status before that of
//! its class. Who asks for JSON is never sent another type.

use crate::error::Kind;
use crate::fault::Fault;
use crate::http::{Fields, Known, reason_phrase};
use crate::template::{self, Place};
use penstock_plan::{ErrorPages, PageBody};
use std::fmt::Display;

/// Bytes of one page as it is written.
pub const LONGEST: usize = 1 << 20;
/// Replaced in one page; what else looks like a value stays as it is.
const MOST_VALUES: usize = 64;

/// The pages that were given in one place.
#[derive(Debug, Default)]
pub struct Pages(Box<[Entry]>);

#[derive(Debug)]
struct Entry {
    /// Lowest and highest status.
    statuses: (u16, u16),
    pages: Box<[Page]>,
}

/// One page, ready to be filled in.
#[derive(Debug)]
pub struct Page {
    /// Its `Content-Type`.
    pub content_type: Box<str>,
    /// Whether it also stands in for an endpoint's answer.
    endpoint: bool,
    place: Place,
    parts: Box<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Status,
    Reason,
    RequestId,
}

type MakePart = fn() -> Part;

const VALUES: [(&str, MakePart); 3] =
    [("{status}", || Part::Status), ("{reason}", || Part::Reason), ("{request_id}", || Part::RequestId)];

impl Pages {
    /// Build what stands at `path` in the plan; `read` reads a file.
    ///
    /// # Errors
    /// All faults: files that cannot be read, what is no status, pages that are too long.
    pub fn build(
        plan: &[ErrorPages],
        path: impl Display,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Pages, Vec<Fault>> {
        let (mut entries, mut faults) = (Vec::with_capacity(plan.len()), Vec::new());
        for pages in plan {
            let built: Result<Box<[_]>, String> = pages.pages.iter().map(|page| Page::build(page, &read)).collect();
            match (statuses(&pages.status), built) {
                (Some(statuses), Ok(pages)) => entries.push(Entry { statuses, pages }),
                (None, _) => faults.push(Fault::new(format!("{path}.{}", pages.status), "is no status of a failure")),
                (_, Err(message)) => faults.push(Fault::new(format!("{path}.{}", pages.status), message)),
            }
        }
        entries.sort_by_key(|entry| entry.statuses.1 - entry.statuses.0);
        if faults.is_empty() { Ok(Pages(entries.into())) } else { Err(faults) }
    }

    /// The page for `status`, if there is one for a client that asks for JSON or not.
    fn find(&self, status: u16, json: bool, endpoint: bool) -> Option<Found<'_>> {
        let within = |entry: &&Entry| (entry.statuses.0..=entry.statuses.1).contains(&status);
        let pages = || {
            let entry = self.0.iter().find(within)?;
            Some(entry.pages.iter().filter(move |page| page.endpoint || !endpoint))
        };
        let fitting = pages()?.find(|page| (page.place == Place::Json) == json);
        match fitting.or_else(|| pages()?.find(|_| !json)) {
            Some(page) => Some(Found::Page(page)),
            None => pages()?.next().map(|_| Found::Own),
        }
    }
}

enum Found<'p> {
    Page(&'p Page),
    /// There are pages, and none for who asks for JSON: the proxy's own words.
    Own,
}

/// The page for a failure with `status`, of pages in the order in which they count. `endpoint`: the endpoint answered it.
pub fn choose<'p>(
    levels: impl IntoIterator<Item = &'p Pages>,
    status: u16,
    json: bool,
    endpoint: bool,
) -> Option<&'p Page> {
    match levels.into_iter().find_map(|pages| pages.find(status, json, endpoint))? {
        Found::Page(page) => Some(page),
        Found::Own => None,
    }
}

/// Whether a client asks for JSON before it asks for a page.
pub fn wants_json(fields: &Fields) -> bool {
    let Some(accept) = fields.known(Known::Accept) else { return false };
    let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
    let json = accept.find("application/json").or_else(|| accept.find("+json"));
    match (json, accept.find("text/html")) {
        (Some(json), Some(html)) => json < html,
        (json, None) => json.is_some(),
        (None, _) => false,
    }
}

/// Drop the fields that describe the content of an answer (RFC 9110 §8): another takes its place.
pub fn strip_content(fields: &mut Fields) {
    fields.retain(|field| {
        let name = field.name.to_ascii_lowercase();
        match &name[..] {
            b"content-security-policy" => true,
            b"etag" | b"last-modified" | b"accept-ranges" | b"digest" | b"repr-digest" => false,
            name => !name.starts_with(b"content-"),
        }
    });
}

impl Page {
    fn build(page: &penstock_plan::Page, read: &impl Fn(&str) -> Result<String, String>) -> Result<Page, String> {
        crate::filter::headers::check_value(&page.content_type)?;
        let text = match &page.body {
            PageBody::Text(text) => text.clone(),
            PageBody::File(path) => read(path)?,
        };
        if text.len() > LONGEST {
            return Err("a page has at most 1 MB".to_owned());
        }
        let place = Place::of_type(&page.content_type);
        // Where nobody knows how a value is escaped, none is put.
        let parts = if place == Place::Unknown { vec![Part::Text(text.into())] } else { parts(&text) };
        Ok(Page {
            content_type: page.content_type.as_str().into(),
            endpoint: page.endpoint,
            place,
            parts: parts.into(),
        })
    }

    /// What the page says of a failure with `status` in the exchange of this `id`.
    pub fn render(&self, status: u16, id: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => body.extend_from_slice(text.as_bytes()),
                Part::Status => body.extend_from_slice(itoa::Buffer::new().format(status).as_bytes()),
                Part::Reason => body.extend_from_slice(reason_phrase(status).as_bytes()),
                Part::RequestId => template::escape_in_body(self.place, id, &mut body),
            }
        }
        body
    }
}

fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut rest) = (Vec::new(), text);
    for _ in 0..MOST_VALUES {
        let first =
            VALUES.iter().filter_map(|(name, part)| Some((rest.find(name)?, name, part))).min_by_key(|found| found.0);
        let Some((at, name, part)) = first else { break };
        let (before, behind) = rest.split_at(at);
        parts.push(Part::Text(before.into()));
        parts.push(part());
        rest = behind.strip_prefix(name).unwrap_or_default();
    }
    parts.push(Part::Text(rest.into()));
    parts
}

/// `503`, or `5xx`.
fn statuses(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let low = class.parse::<u16>().ok()?.checked_mul(100)?;
        return matches!(low, 400 | 500).then_some((low, low + 99));
    }
    let status = text.parse().ok()?;
    (400..600).contains(&status).then_some((status, status))
}

/// Failures that a page can stand for: those that somebody is left to read.
pub fn has_reader(kind: Kind) -> bool {
    !matches!(kind, Kind::ClientClosed | Kind::ClientWriteTimeout | Kind::ClientTooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str, content_type: &str, endpoint: bool) -> penstock_plan::Page {
        penstock_plan::Page { body: PageBody::Text(text.into()), content_type: content_type.into(), endpoint }
    }

    fn pages(plan: Vec<(&str, Vec<penstock_plan::Page>)>) -> Pages {
        let plan: Vec<_> =
            plan.into_iter().map(|(status, pages)| ErrorPages { status: status.into(), pages }).collect();
        Pages::build(&plan, "error_pages", |_| Err("no files here".into())).unwrap()
    }

    fn chosen(levels: &[Pages], status: u16, json: bool, endpoint: bool) -> Option<String> {
        let page = choose(levels, status, json, endpoint)?;
        Some(String::from_utf8(page.render(status, b"<7>")).unwrap())
    }

    #[test]
    fn the_nearest_page_that_fits_is_taken() {
        let levels = [
            pages(vec![("5xx", vec![page("route", "text/html", false)])]),
            pages(vec![
                ("4xx", vec![page("class", "text/html", false)]),
                ("404", vec![page("json", "application/json", true), page("html", "text/html", true)]),
                ("503", vec![page("never", "text/html", false)]),
            ]),
        ];
        for (status, json, endpoint, expected) in [
            (503, false, false, Some("route")),
            (404, false, false, Some("html")),
            (404, true, false, Some("json")),
            (400, false, false, Some("class")),
            // Of JSON, the proxy has words of its own.
            (400, true, false, None),
            (503, true, false, None),
            (404, false, true, Some("html")),
            (400, false, true, None),
            (503, false, true, None),
        ] {
            assert_eq!(chosen(&levels, status, json, endpoint).as_deref(), expected, "{status} {json} {endpoint}");
        }
    }

    #[test]
    fn a_page_has_three_values_and_other_braces_are_braces() {
        let text = "<style>p { x: {y} }</style>{status} {reason} {request_id}{path}";
        let html = pages(vec![("503", vec![page(text, "text/html", false)])]);
        let said = "<style>p { x: {y} }</style>503 Service Unavailable &lt;7&gt;{path}";
        assert_eq!(chosen(&[html], 503, false, false).unwrap(), said);
        let other = pages(vec![("503", vec![page("{status}", "text/css", false)])]);
        assert_eq!(chosen(&[other], 503, false, false).unwrap(), "{status}");
    }

    #[test]
    fn faults_name_the_status() {
        let wrong = |status: &str, page| {
            let plan = [ErrorPages { status: status.into(), pages: vec![page] }];
            Pages::build(&plan, "routes[0].error_pages", |path| Err(format!("{path} is not there"))).unwrap_err()
        };
        let file = penstock_plan::Page { body: PageBody::File("/x".into()), ..page("", "text/html", false) };
        assert_eq!(wrong("503", file), [Fault::new("routes[0].error_pages.503", "/x is not there")]);
        for status in ["200", "3xx", "600", "5x", "xx", "65xx", ""] {
            assert_eq!(wrong(status, page("", "text/html", false)).len(), 1, "{status}");
        }
        assert_eq!(wrong("503", page(&"x".repeat(LONGEST + 1), "text/html", false)).len(), 1);
        assert_eq!(wrong("503", page("", "text/html\r\nx: y", false)).len(), 1);
    }
}
