//! A delivered record as one flat list of members, whichever destination it comes from: VictoriaLogs stores
//! `{"http":{"status":200}}` as `http.status` = `200`, and a file is read as if it did so, too.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

#[derive(Debug, Default)]
pub(crate) struct Record {
    members: Vec<(String, String)>,
}

impl Record {
    /// None when the line is not a JSON object.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let mut record = Self::default();
        record.add("", serde_json::from_slice(line).ok()?)?;
        Some(record)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value.as_str())
    }

    /// The first name that two members share. A store keeps both, so that a query finds either.
    pub(crate) fn repeated(&self) -> Option<&str> {
        let names = || self.members.iter().map(|(name, _)| name);
        names().enumerate().find(|(at, name)| names().skip(at + 1).any(|other| other == *name)).map(|(_, name)| &**name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    fn add(&mut self, prefix: &str, object: Object<'_>) -> Option<()> {
        for (name, value) in object.0 {
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let json = value.get();
            match json.as_bytes()[0] {
                b'{' => self.add(&name, serde_json::from_str(json).ok()?)?,
                b'"' => self.members.push((name, serde_json::from_str(json).ok()?)),
                _ => self.members.push((name, json.to_owned())),
            }
        }
        Some(())
    }
}

/// All members in order, also repeated ones, which a map would hide.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Members).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_members_are_flat_and_repeated_ones_are_seen() {
        let record = Record::parse(br#"{"a":{"b":{"c":1},"d":"x\ty"},"tags":["a",1],"ok":true}"#).expect("an object");
        assert_eq!(record.get("a.b.c"), Some("1"));
        assert_eq!(record.get("a.d"), Some("x\ty"));
        assert_eq!(record.get("tags"), Some(r#"["a",1]"#));
        assert_eq!(record.repeated(), None);
        let twice = Record::parse(br#"{"a":{"b":1},"a.b":2}"#).expect("an object");
        assert_eq!(twice.repeated(), Some("a.b"));
        assert!(Record::parse(b"[1]").is_none());
        assert!(Record::parse(br#"{"a":1"#).is_none());
    }
}
