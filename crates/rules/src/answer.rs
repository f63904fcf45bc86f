//! What a route answers by itself: a fixed answer or a redirect.
//!
//! One without values of the request is composed once, with the plan, and only copied for a request.

use crate::error::Kind;
use crate::fault::Fault;
use crate::http::{Length, ResponseHead};
use crate::route::View;
use crate::template::{Place, Template};
use penstock_plan::{Action, Redirect, Respond};
use std::borrow::Cow;

/// A route's own answer.
#[derive(Debug)]
pub struct Answer(Form);

#[derive(Debug)]
enum Form {
    Ready { head: Box<ResponseHead>, body: Box<[u8]> },
    Rendered { status: u16, fields: Box<[(Box<str>, Template)]>, body: Template },
}

impl Answer {
    /// The answer of the route of this index, if its action is one.
    ///
    /// # Errors
    /// All faults, at `routes[i].action`.
    pub fn build(action: &Action, route: usize) -> Result<Option<Answer>, Vec<Fault>> {
        let built = match action {
            Action::Respond(respond) => Form::of_respond(respond),
            Action::Redirect(redirect) => Form::of_redirect(redirect),
            Action::Upstream(_) | Action::Split(_) => return Ok(None),
        };
        let form = built.map_err(|message| vec![Fault::new(format!("routes[{route}].action"), message)])?;
        Ok(Some(Answer(form.ready())))
    }

    /// Put the head into `response`; the body.
    ///
    /// # Errors
    /// Those of [`Template::render`].
    pub fn write(&self, view: &View<'_>, id: &[u8], response: &mut ResponseHead) -> Result<Cow<'_, [u8]>, Kind> {
        match &self.0 {
            Form::Ready { head, body } => {
                response.clone_from(head);
                Ok(Cow::Borrowed(body))
            }
            Form::Rendered { status, fields, body } => {
                response.compose(*status);
                let mut value = Vec::new();
                for (name, template) in fields {
                    value.clear();
                    template.render(view, id, &mut value)?;
                    response.fields.push(name.as_bytes(), &value);
                }
                let mut rendered = Vec::new();
                body.render(view, id, &mut rendered)?;
                sized(response, rendered.len());
                Ok(Cow::Owned(rendered))
            }
        }
    }
}

impl Form {
    fn of_respond(respond: &Respond) -> Result<Form, String> {
        let mut fields = Vec::with_capacity(respond.headers.len());
        let mut place = Place::Unknown;
        for (name, value) in &respond.headers {
            let value = Template::build(value, Place::Field)?;
            if name.eq_ignore_ascii_case("content-type") {
                let fixed =
                    value.literal().ok_or("the content type says how values are escaped, and cannot hold any")?;
                place = Place::of_type(&fixed);
            }
            fields.push((name.as_str().into(), value));
        }
        let body = Template::build(&respond.body, place)?;
        Ok(Form::Rendered { status: respond.status, fields: fields.into(), body })
    }

    fn of_redirect(redirect: &Redirect) -> Result<Form, String> {
        let to = Template::build(&redirect.to, Place::Location)?;
        let body = Template::build(&penstock_plan::Template::default(), Place::Unknown)?;
        Ok(Form::Rendered { status: redirect.status, fields: [("location".into(), to)].into(), body })
    }

    /// Composed once, if no request makes a difference.
    fn ready(self) -> Form {
        let Form::Rendered { status, fields, body } = &self else { return self };
        let values: Option<Vec<_>> = fields.iter().map(|(name, value)| Some((name, value.literal()?))).collect();
        let (Some(values), Some(body)) = (values, body.literal()) else { return self };
        let mut head = Box::new(ResponseHead::default());
        head.compose(*status);
        for (name, value) in values {
            head.fields.push(name.as_bytes(), value);
        }
        sized(&mut head, body.len());
        Form::Ready { head, body: body.into_bytes().into() }
    }
}

fn sized(head: &mut ResponseHead, body: usize) {
    head.length = Length::Bytes(body as u64);
    head.declared = Some(body as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;
    use penstock_plan::{Operand, Piece};

    fn template(pieces: &[Piece]) -> penstock_plan::Template {
        penstock_plan::Template(pieces.to_vec())
    }

    fn text(text: &str) -> penstock_plan::Template {
        template(&[Piece::Text(text.into())])
    }

    fn ask(answer: &Answer) -> (ResponseHead, Vec<u8>) {
        let head = RequestHead::compose("GET", "/&a'", "shop.example", &[]).unwrap();
        let mut response = ResponseHead::default();
        let body = answer.write(&View::of(&head), b"77", &mut response).unwrap().into_owned();
        (response, body)
    }

    #[test]
    fn an_answer_without_values_is_ready() {
        let respond = Respond { status: 200, headers: vec![("x-a".into(), text("1"))], body: text("hello") };
        let answer = Answer::build(&Action::Respond(respond), 0).unwrap().unwrap();
        assert!(matches!(answer.0, Form::Ready { .. }));
        let (head, body) = ask(&answer);
        assert_eq!(
            (head.status, head.length, head.fields.get("x-a"), &body[..]),
            (200, Length::Bytes(5), Some(&b"1"[..]), &b"hello"[..])
        );
        assert!(Answer::build(&Action::Upstream(0), 0).unwrap().is_none());
    }

    #[test]
    fn a_body_is_escaped_by_its_content_type() {
        let respond = |media: &str| Respond {
            status: 404,
            headers: vec![("content-type".into(), text(media)), ("x-id".into(), template(&[Piece::RequestId]))],
            body: template(&[Piece::Text("<p>".into()), Piece::Value(Operand::Path)]),
        };
        let answer = Answer::build(&Action::Respond(respond("text/html")), 0).unwrap().unwrap();
        let (head, body) = ask(&answer);
        assert_eq!((head.status, head.fields.get("x-id"), &body[..]), (404, Some(&b"77"[..]), &b"<p>/&amp;a&#39;"[..]));
        let faults = Answer::build(&Action::Respond(respond("text/css")), 3).unwrap_err();
        assert_eq!(faults[0].path, "routes[3].action");
    }
}
