use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("7070".to_owned()),
        "YES" => Some("true".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "EMPTY" => Some(String::new()),
        "YAML" => Some("a\nadmin: true\n- b: {c: d}".to_owned()),
        "LONG" => Some("x".repeat(MAX_BYTES / 2)),
        _ => None,
    }
}

/// The faults that reading `text` gives, one a line.
fn faults<T>(text: &str, read: impl FnOnce(&Node<'_>) -> Option<T>) -> String {
    from_str(text, &env, read).err().map(|faults| faults.to_string()).unwrap_or_default()
}

/// Faults of the text itself, whatever is written there.
fn syntax(text: &str) -> String {
    faults(text, |_| Some(()))
}

#[test]
fn all_faults_are_found_at_once_in_the_order_of_lines() {
    let text = "
destinations:
  - name: a
    url: ${NOT_SET}
  - name: [b]
    urk: http://b
    age: 30
extra: 1
";
    let found = faults(text, |root| {
        root.map(|map| {
            let directory = map.required("directory").file();
            for node in map.required("destinations").list() {
                node.map(|map| {
                    let _ = (map.required("name").text(), map.required("url").text());
                    map.optional("age").duration(Duration::from_secs(1)..=Duration::from_secs(90))
                });
            }
            directory
        })
    });
    assert_eq!(
        found,
        "\
directory (line 2): it is missing, and there is no default: add it
destinations[0].url (line 4): the environment has no variable NOT_SET: set it, or write ${NOT_SET:-default}
destinations[1].name (line 5): expected text, found a list
destinations[1].url (line 5): it is missing, and there is no default: add it
destinations[1].urk (line 6): there is no such key; did you mean `url`?
destinations[1].age (line 7): expected a duration with its unit from 1s to 1m30s, such as 1m30s, found \"30\"
extra (line 8): there is no such key; there are: directory, destinations"
    );
}

#[test]
fn every_kind_of_scalar_is_read() {
    let text = "{text: 007, bool: true, integer: -5, number: 0.5, bytes: 64MiB, duration: 1m30s, word: b, quoted: '80', file: /a/b}";
    let read = from_str(text, &env, |root| {
        root.map(|map| {
            Some(
                (
                    (
                        map.required("text").text()?,
                        map.required("bool").bool()?,
                        map.required("integer").integer(-9..=9)?,
                    ),
                    (map.required("number").number(0.0..=1.0)?, map.required("bytes").bytes(0..=1 << 40)?),
                    map.required("duration").duration(Duration::ZERO..=Duration::from_secs(90))?,
                    map.required("word").one_of(&[("a", 1), ("b", 2)])?,
                    map.required("quoted").integer(0_u16..=100)?,
                    map.required("file").file()?,
                ) == (("007", true, -5), (0.5, 64 << 20), Duration::from_secs(90), 2, 80, "/a/b".into()),
            )
        })
    });
    assert_eq!(read, Ok(true));
}

#[test]
fn what_is_out_of_range_or_of_another_kind_is_a_fault_that_says_what_is_expected() {
    let of = |text: &str, read: fn(&Node<'_>) -> bool| {
        faults(&format!("a: {text}"), |root| root.map(|map| Some(read(&map.required("a")))))
    };
    let integer = |node: &Node<'_>| node.integer(1..=9).is_some();
    assert_eq!(of("10", integer), "a (line 1): expected a whole number from 1 to 9, found \"10\"");
    assert_eq!(of("1.5", integer), "a (line 1): expected a whole number from 1 to 9, found \"1.5\"");
    assert_eq!(of("{}", integer), "a (line 1): expected a whole number from 1 to 9, found a map");
    let number = |node: &Node<'_>| node.number(0.0..=1.0).is_some();
    assert_eq!(of(".nan", number), "a (line 1): expected a number from 0 to 1, found \".nan\"");
    assert_eq!(of("NaN", number), "a (line 1): expected a number from 0 to 1, found \"NaN\"");
    assert_eq!(of("yes", |node| node.bool().is_some()), "a (line 1): expected true or false, found \"yes\"");
    assert_eq!(of("''", |node| node.text().is_some()), "a (line 1): expected text, found \"\"");
    assert_eq!(
        of("c", |node| node.one_of(&[("a", 1), ("b", 2)]).is_some()),
        "a (line 1): expected one of a, b, found \"c\""
    );
    assert_eq!(
        of("2GiB", |node| node.bytes(1..=1 << 30).is_some()),
        "a (line 1): expected a size from 1B to 1GiB, such as 64MiB, found \"2GiB\""
    );
    assert_eq!(of("b", |node| node.list().count() > 0), "a (line 1): expected a list, found \"b\"");
    assert_eq!(
        of("[~]", |node| node.list().count() > 0),
        "a[0] (line 1): the item is empty: write it, or leave out the `-`"
    );
    assert_eq!(
        of("[b]", |node| node.entries().count() > 0),
        "a (line 1): expected a map of names and values, found a list"
    );
    assert_eq!(
        of("b", |node| {
            node.refuse("never");
            true
        }),
        "a (line 1): never"
    );
}

#[test]
fn nothing_written_is_absent() {
    for text in ["a:", "a: ~", "a: null", "a: ${EMPTY}", "a: ${NOT_SET:-}", "", "# a comment"] {
        let read = from_str(text, &env, |root| root.map(|map| Some(map.optional("a").is_present())));
        assert_eq!(read, Ok(false), "{text}");
        assert!(
            faults(text, |root| root.map(|map| Some(map.required("a").text().is_some()))).contains("missing"),
            "{text}"
        );
    }
}

#[test]
fn one_key_of_a_choice_is_taken() {
    let choose = |text: &str| {
        from_str(text, &env, |root| root.map(|map| map.choice(&["a", "b"]).map(|(key, _)| key)))
            .map_err(|faults| faults.to_string())
    };
    assert_eq!(choose("a: 1"), Ok("a"));
    assert_eq!(choose("b: 1"), Ok("b"));
    assert_eq!(choose("{}"), Err("line 1: one of a, b is missing: add it".to_owned()));
    assert_eq!(choose("{a: 1, b: 1}"), Err("b (line 1): only one of a, b may be there: keep one".to_owned()));
}

#[test]
fn a_value_of_the_environment_is_a_scalar_and_never_structure() {
    let read = |text| {
        from_str(text, &env, |root| root.map(|map| Some(map.required("a").text()?.to_owned())))
            .map_err(|faults| faults.to_string())
    };
    assert_eq!(read("a: ${YAML}"), Ok(env("YAML").unwrap()));
    assert!(read("{a: ${PORT}}").unwrap_err().ends_with("inside [ ] and { }, put quotes around a `${…}`"));
    let typed = from_str("{a: '${PORT}', b: '${YES}'}", &env, |root| {
        root.map(|map| Some((map.required("a").integer(1_u16..=65535)?, map.required("b").bool()?)))
    });
    assert_eq!(typed, Ok((7070, true)));
}

#[test]
fn a_message_shows_the_variable_and_not_its_value() {
    let found = faults("a: x${SECRET}", |root| root.map(|map| map.required("a").integer(0..=1)));
    assert_eq!(found, "a (line 1): expected a whole number from 0 to 1, found the value of \"x${SECRET}\"");
    let node = format!("{:?}", from_str("a: secret", &env, |root| Some(format!("{root:?}"))));
    assert!(!node.contains("secret"), "{node}");
}

#[test]
fn what_is_not_needed_for_settings_is_not_read() {
    assert!(syntax("a: [").starts_with("line "));
    assert!(syntax("a: &x 1\nb: *x").contains("a (line 1): anchors"));
    assert!(syntax("a: &x 1\nb: *x").contains("b (line 2): anchors"));
    assert!(syntax("a: &x [1]\nb: &y {c: 1}").contains("b (line 2): anchors"));
    assert!(syntax("a: !!binary x").contains("tags"));
    assert!(syntax("a: 1\n---\na: 2").contains("line 3: a second document"));
    assert!(syntax("a: 1\na: 2").contains("a (line 2): the key stands here twice"));
    assert!(syntax("? [a]\n: 1").contains("a key must be a word"));
    assert!(syntax("b:\n  a: ${").contains("b.a (line 2)"));
    assert_eq!(syntax("'a.b': {c d: 1}"), "");
}

#[test]
fn size_depth_and_bombs_are_bounded() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(syntax(&deep(MAX_DEPTH)), "");
    assert!(syntax(&deep(MAX_DEPTH + 1)).contains("recursion"));
    assert!(syntax(&deep(100_000)).contains("recursion"));
    let blocks = |depth: usize| (0..depth).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    assert_eq!(syntax(&blocks(MAX_DEPTH)), "");
    assert!(syntax(&blocks(MAX_DEPTH + 1)).contains("recursion"));
    assert!(syntax(&format!("a: {}", "x".repeat(MAX_BYTES))).contains("over the limit of 1MiB"));
    assert_eq!(syntax("[$A, '${LONG}', '${LONG}']"), "");
    assert!(syntax("['${LONG}', '${LONG}', '${LONG}']").contains("[2] (line 1): the values of the variables are over"));
    let bomb = "a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]";
    assert!(syntax(bomb).contains("anchors"));
}

#[test]
fn a_file_that_cannot_be_had_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let read = |name: &str| from_file(&path(name), &env, |_| Some(())).map_err(|error| error.to_string());
    assert!(read("none.yaml").unwrap_err().contains("none.yaml: cannot be read"));
    assert!(from_file(directory.path(), &env, |_| Some(())).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(path("large.yaml"), "#".repeat(MAX_BYTES + 1)).unwrap();
    assert!(read("large.yaml").unwrap_err().contains("large.yaml: is over the limit of 1MiB"));
    std::fs::write(path("binary.yaml"), [0xff]).unwrap();
    assert!(read("binary.yaml").unwrap_err().contains("binary.yaml: is not UTF-8"));
    std::fs::write(path("wrong.yaml"), "a: ${").unwrap();
    assert!(read("wrong.yaml").unwrap_err().contains("wrong.yaml: 1 fault\na (line 1): a `${` has no `}`"));
    std::fs::write(path("right.yaml"), "a: 1").unwrap();
    assert_eq!(read("right.yaml"), Ok(()));
}

/// Reads whatever is there in every way there is.
fn read_everything(node: &Node<'_>, depth: usize) {
    let _ = (node.text(), node.bool(), node.integer(0_u8..=9), node.number(0.0..=1.0), node.bytes(0..=9));
    let _ = (node.duration(Duration::ZERO..=Duration::MAX), node.one_of(&[("a", 1)]), node.file());
    node.map(|map| Some((map.required("a").text().is_some(), map.choice(&["b", "c"]).is_some())));
    if depth < 70 {
        node.list().for_each(|item| read_everything(&item, depth + 1));
        node.entries().for_each(|(_, value)| read_everything(&value, depth + 1));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "([a-c]|[ \\n\\-:?,&*!|>'\"{}\\[\\]%@#$~.]|\\$\\{[A-Z]*:?-?\\}|\\PC){0,60}") {
        let _ = from_str(&text, &env, |root| { read_everything(root, 0); Some(()) });
    }

    #[test]
    fn a_quoted_scalar_reads_back_whatever_it_holds(text in "[^$\\p{Cc}]{1,30}") {
        let yaml = format!("a: '{}'", text.replace('\'', "''"));
        let read = from_str(&yaml, &env, |root| root.map(|map| Some(map.required("a").text()?.to_owned())));
        prop_assert_eq!(read, Ok(text));
    }
}

#[test]
fn a_digest_is_of_values_and_not_of_how_they_are_written() {
    let digest = |text: &str| {
        let env = |name: &str| (name == "X").then(|| "1".to_owned());
        from_str(text, &env, |node| node.map(|map| Some(map.optional("a").digest()))).unwrap()
    };
    let same = digest("a: {b: 1, c: [x, y]}");
    for text in ["a:\n  # what\n  c:\n    - 'x'\n    - y\n  b: \"1\"", "a: {b: \"${X}\", c: [x, y]}"] {
        assert_eq!(digest(text), same, "{text}");
    }
    for text in ["a: {b: 1, c: [y, x]}", "a: {b: 1, c: [xy]}", "a: {b: 1}", "a: {b: 2, c: [x, y]}", "a: b", "{}"] {
        assert_ne!(digest(text), same, "{text}");
    }
}
