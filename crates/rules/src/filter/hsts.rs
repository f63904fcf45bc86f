//! `Strict-Transport-Security` (RFC 6797).

use super::{Asked, OnResponse};
use crate::http::Fields;

/// What browsers are told.
#[derive(Debug)]
pub(super) struct Hsts {
    value: Box<str>,
    replace: bool,
}

const NAME: &str = "strict-transport-security";

impl Hsts {
    pub(super) fn build(plan: &penstock_plan::Hsts) -> Hsts {
        let mut value = format!("max-age={}", plan.max_age);
        if plan.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if plan.preload {
            value.push_str("; preload");
        }
        Hsts { value: value.into(), replace: plan.replace }
    }
}

impl OnResponse for Hsts {
    fn apply(&self, asked: &Asked<'_>, fields: &mut Fields) {
        // Over plain HTTP nobody may say it (§7.2), the endpoint included, which cannot know how the client came.
        if asked.scheme != "https" {
            fields.remove(NAME);
        } else if self.replace || fields.get(NAME).is_none() {
            fields.set(NAME, self.value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;

    #[test]
    fn it_is_said_over_tls_alone() {
        let plan = penstock_plan::Hsts { max_age: 60, include_subdomains: true, preload: true, replace: false };
        let say = |replace, scheme, own: Option<&str>| {
            let head = RequestHead::default();
            let mut fields = Fields::default();
            own.iter().for_each(|own| fields.push("Strict-Transport-Security", own));
            let hsts = Hsts::build(&penstock_plan::Hsts { replace, ..plan.clone() });
            hsts.apply(&Asked { head: &head, scheme, host: None }, &mut fields);
            let found: Vec<_> = fields.all(NAME).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect();
            found.join(" | ")
        };
        let ours = "max-age=60; includeSubDomains; preload";
        assert_eq!(say(false, "https", None), ours);
        assert_eq!(say(false, "https", Some("max-age=1")), "max-age=1");
        assert_eq!(say(true, "https", Some("max-age=1")), ours);
        assert_eq!(say(true, "http", Some("max-age=1")), "");
        assert_eq!(say(false, "http", None), "");
    }
}
