//! Events of the API server's audit log: one JSON object on a line
//! (kubernetes `staging/src/k8s.io/apiserver/pkg/apis/audit/v1/types.go`).
//!
//! Only what a reader wants in a sentence is taken out; the event itself goes into the record as it stands.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// The most of one part of an event that its sentence has, bytes.
const MAX_PART: usize = 256;

/// What is said of an event in its record, beside the event itself.
#[derive(Debug, Default, Deserialize)]
pub struct Event<'a> {
    #[serde(borrow, default, rename = "stageTimestamp")]
    stage_time: Option<Text<'a>>,
    #[serde(borrow, default, rename = "requestReceivedTimestamp")]
    received_time: Option<Text<'a>>,
    #[serde(borrow, default)]
    verb: Option<Text<'a>>,
    #[serde(borrow, default, rename = "requestURI")]
    uri: Option<Text<'a>>,
    #[serde(borrow, default)]
    user: Option<User<'a>>,
    #[serde(borrow, default, rename = "objectRef")]
    object: Option<Object<'a>>,
    #[serde(borrow, default)]
    stage: Option<Text<'a>>,
    #[serde(default, rename = "responseStatus")]
    status: Option<Status>,
}

#[derive(Debug, Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    username: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    subresource: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    code: Option<i64>,
}

/// A string, borrowed unless it has escapes.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'a> Event<'a> {
    /// Takes a line apart; `None`: it is no JSON object, or its parts are not what an event's are.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        // A list would do for a struct as well.
        if !line.trim_start().starts_with('{') {
            return None;
        }
        serde_json::from_str(line).ok()
    }

    /// When it reached its stage, else when the request came: RFC 3339.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.stage_time.as_ref().or(self.received_time.as_ref()).map(|text| &*text.0)
    }

    /// Appends `<verb> <resource> by <user>: <code>`, as in
    /// `get pods/log default/my-app by system:admin: 200`.
    pub fn write_sentence(&self, out: &mut String) {
        let part = |text: &Option<Text<'a>>| text.as_ref().map(|text| shortened(&text.0).to_owned());
        out.push_str(shortened(self.verb.as_ref().map_or("?", |verb| &verb.0)));
        out.push(' ');
        match &self.object {
            Some(Object { resource: Some(resource), namespace, name, subresource }) => {
                out.push_str(shortened(&resource.0));
                if let Some(subresource) = part(subresource) {
                    out.push('/');
                    out.push_str(&subresource);
                }
                match (part(namespace), part(name)) {
                    (Some(namespace), Some(name)) => {
                        let _ = write!(out, " {namespace}/{name}");
                    }
                    (Some(one), None) | (None, Some(one)) => {
                        let _ = write!(out, " {one}");
                    }
                    (None, None) => {}
                }
            }
            _ => out.push_str(shortened(self.uri.as_ref().map_or("?", |uri| &uri.0))),
        }
        let user = self.user.as_ref().and_then(|user| user.username.as_ref());
        out.push_str(" by ");
        out.push_str(shortened(user.map_or("?", |user| &user.0)));
        match (self.status.as_ref().and_then(|status| status.code), &self.stage) {
            (Some(code), _) => {
                let _ = write!(out, ": {code}");
            }
            // A request that is not answered yet.
            (None, Some(stage)) => {
                out.push_str(": ");
                out.push_str(shortened(&stage.0));
            }
            (None, None) => {}
        }
    }
}

/// At most [`MAX_PART`] bytes of a text, whole characters.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_PART)]
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sentence(line: &str) -> Option<String> {
        let mut out = String::new();
        Event::parse(line)?.write_sentence(&mut out);
        Some(out)
    }

    #[test]
    fn events_as_the_api_server_writes_them() {
        for (line, expected) in [
            (
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/pods/my-app/log","verb":"get","user":{"username":"system:admin","groups":["g"]},"objectRef":{"resource":"pods","namespace":"default","name":"my-app","apiVersion":"v1","subresource":"log"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2025-10-26T10:15:30.000001Z","stageTimestamp":"2025-10-26T10:15:30.123456Z"}"#,
                "get pods/log default/my-app by system:admin: 200",
            ),
            (
                r#"{"verb":"list","objectRef":{"resource":"nodes"},"user":{"username":"kubelet"},"stage":"RequestReceived"}"#,
                "list nodes by kubelet: RequestReceived",
            ),
            (
                r#"{"verb":"create","objectRef":{"resource":"pods","namespace":"a"},"user":{"username":"a\"b\nc"},"responseStatus":{"code":403}}"#,
                "create pods a by a\"b\nc: 403",
            ),
            (r#"{"verb":"get","requestURI":"/healthz","user":{},"responseStatus":{}}"#, "get /healthz by ?"),
            ("{}", "? ? by ?"),
        ] {
            assert_eq!(sentence(line).as_deref(), Some(expected), "{line}");
        }
        let long = format!(r#"{{"verb":"get","requestURI":"/{}","user":{{"username":"é"}}}}"#, "é".repeat(1000));
        assert!(sentence(&long).unwrap().len() < 300);
    }

    #[test]
    fn the_time_is_the_stages_or_the_requests() {
        let time = |line: &'static str| Event::parse(line).unwrap().time().map(str::to_owned);
        assert_eq!(time(r#"{"stageTimestamp":"b","requestReceivedTimestamp":"a"}"#).as_deref(), Some("b"));
        assert_eq!(time(r#"{"requestReceivedTimestamp":"a"}"#).as_deref(), Some("a"));
        assert_eq!(time("{}"), None);
    }

    #[test]
    fn what_is_no_event_is_none() {
        for line in
            ["", "text", "[]", "null", r#"{"verb":"get""#, r#"{"verb":1}"#, r#"{"a":1}{"#, r#"{"verb":"a","verb":"b"}"#]
        {
            assert_eq!(sentence(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_without_a_panic(text in ".{0,80}", name in "[a-zA-Z]{0,12}") {
            let _ = sentence(&text);
            let event = serde_json::json!({"verb": text, "user": {"username": "u"}, name: [1]}).to_string();
            let _ = sentence(&event);
        }
    }
}
