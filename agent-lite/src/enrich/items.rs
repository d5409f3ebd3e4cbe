//! Takes a list of the Kubernetes API apart while its bytes come, so that no list is ever held whole: a
//! node's pods are megabytes of JSON, of which some kilobytes are kept.

use serde::Deserialize;

/// Bytes of one object. The API server takes no request over 3 MiB.
const MAX_ITEM: usize = 4 * 1024 * 1024;
/// Bytes of what stands around the objects.
const MAX_FRAME: usize = 64 * 1024;
/// Bytes of a key that is compared with `items`.
const MAX_KEY: usize = 8;

/// The list that is being taken apart.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The list without its objects.
    frame: Vec<u8>,
    /// The object that has begun.
    item: Vec<u8>,
    item_is_too_large: bool,
    /// The last string directly within the list, cut.
    key: Vec<u8>,
    depth: usize,
    in_items: bool,
    in_string: bool,
    escaped: bool,
}

/// What a list says of itself.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Frame {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
}

/// Where a watch goes on from, and whether there is more.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    #[serde(deserialize_with = "super::pod::or_default")]
    pub(super) resource_version: String,
    #[serde(rename = "continue", deserialize_with = "super::pod::or_default")]
    pub(super) more: String,
}

/// What is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAList {
    /// It is larger around its objects than any list.
    #[error("a list with more than {MAX_FRAME} bytes around its objects")]
    Frame,
    /// Cut short, or no JSON.
    #[error("not a list, or not a whole one: {0}")]
    Json(#[from] serde_json::Error),
}

impl Items {
    /// Takes the next bytes; gives each object that they complete to `whole`, `None` for one over
    /// [`MAX_ITEM`].
    pub(super) fn feed(&mut self, bytes: &[u8], mut whole: impl FnMut(Option<&[u8]>)) -> Result<(), NotAList> {
        for byte in bytes {
            if self.step(*byte) {
                whole((!self.item_is_too_large).then_some(self.item.as_slice()));
                self.item.clear();
                // One large pod must not be paid for until the next restart.
                self.item.shrink_to(64 * 1024);
                self.item_is_too_large = false;
            }
            if self.frame.len() > MAX_FRAME {
                return Err(NotAList::Frame);
            }
        }
        Ok(())
    }

    /// The list's own words, once all of it was fed.
    pub(super) fn finish(self) -> Result<Frame, NotAList> {
        Ok(serde_json::from_slice(&self.frame)?)
    }

    /// Whether `byte` completes an object.
    fn step(&mut self, byte: u8) -> bool {
        let was_in_item = self.in_items && self.depth > 2;
        let mut ends = false;
        if self.in_string {
            self.step_in_string(byte);
        } else {
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.key.clear();
                }
                b'{' | b'[' => {
                    self.in_items |= byte == b'[' && self.depth == 1 && self.key == b"items";
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    ends = was_in_item && self.depth == 2;
                    self.in_items &= self.depth >= 2;
                }
                _ => {}
            }
        }
        let is_in_item = self.in_items && self.depth > 2;
        if is_in_item || was_in_item {
            self.push(byte);
        } else if !self.in_items || byte == b'[' {
            self.frame.push(byte);
        }
        ends
    }

    fn step_in_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ if self.depth == 1 && self.key.len() < MAX_KEY => self.key.push(byte),
            _ => {}
        }
    }

    fn push(&mut self, byte: u8) {
        if self.item.len() < MAX_ITEM {
            self.item.push(byte);
        } else {
            self.item_is_too_large = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn split(bytes: &[u8], chunk: usize) -> Result<(Vec<Value>, Frame), NotAList> {
        let mut items = Items::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(chunk) {
            items.feed(chunk, |item| found.push(serde_json::from_slice(item.unwrap()).unwrap()))?;
        }
        Ok((found, items.finish()?))
    }

    #[test]
    fn a_list_is_its_objects_and_its_version() {
        let list = json!({"kind": "PodList", "items": [{"a": "]}\\\""}, {}, {"items": [{}]}],
            "metadata": {"resourceVersion": "17", "continue": "next", "items": [{"not": "one"}]}});
        let (found, frame) = split(list.to_string().as_bytes(), 1).unwrap();
        assert_eq!(Value::from(found), list["items"]);
        assert_eq!((&*frame.metadata.resource_version, &*frame.metadata.more), ("17", "next"));
    }

    #[test]
    fn an_empty_list_comes_as_null_or_as_nothing() {
        for text in [r#"{"items":null,"metadata":{"resourceVersion":"1"}}"#, r#"{"items":[]}"#, "{}"] {
            assert!(split(text.as_bytes(), 7).unwrap().0.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_list_that_is_cut_short_is_no_list() {
        let text = r#"{"items":[{"a":1},{"b":2}],"metadata":{}}"#;
        for end in 0..text.len() {
            assert!(split(&text.as_bytes()[..end], 5).is_err(), "{}", &text[..end]);
        }
    }

    #[test]
    fn an_object_that_is_too_large_is_left_out_alone() {
        let mut items = Items::default();
        let mut sizes = Vec::new();
        let text = format!(r#"{{"items":[{{"a":1}},{{"b":"{}"}},{{"c":3}}]}}"#, "x".repeat(MAX_ITEM));
        items.feed(text.as_bytes(), |item| sizes.push(item.map(<[u8]>::len))).unwrap();
        assert_eq!(sizes, [Some(7), None, Some(7)]);
        items.finish().unwrap();
    }

    #[test]
    fn what_stands_around_the_objects_is_bounded() {
        let text = format!(r#"{{"kind":"{}"}}"#, "x".repeat(2 * MAX_FRAME));
        assert!(matches!(split(text.as_bytes(), 4096), Err(NotAList::Frame)));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof!["[ -~é\\\\\"\\[\\]{}]{0,8}".prop_map(Value::from), any::<u32>().prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z\\[\"]{0,5}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_objects_come_out_as_they_went_in(
            objects in prop::collection::vec(value().prop_map(|value| json!({"items": value})), 0..5),
            around in value(),
            chunk in 1..40_usize,
        ) {
            let list = json!({"a": around, "items": objects, "zz": "x"});
            let (found, _) = split(list.to_string().as_bytes(), chunk).unwrap();
            prop_assert_eq!(found, objects);
        }
    }
}
