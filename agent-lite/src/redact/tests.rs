use super::*;
use proptest::prelude::*;
use serde_json::Value;

use builtin::{JWT, PEM};

mod builtin;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn config(text: &str) -> Result<Config, String> {
    let env = |name: &str| match name {
        "KEY" => Some(KEY.to_owned()),
        "SHORT" => Some("short".to_owned()),
        _ => None,
    };
    sluice_settings::from_str(text, &env, |node| Config::read(node, &env)).map_err(|faults| faults.to_string())
}

fn redactor(rules: &str) -> Redactor {
    let config = config(&format!("hash_key_env: KEY\nrules: {rules}")).unwrap();
    Redactor::new(&config, config.key())
}

fn all() -> Redactor {
    redactor(&format!("[{}]", BuiltIn::ALL.map(BuiltIn::name).join(", ")))
}

fn apply(redactor: &mut Redactor, text: &str) -> Option<String> {
    match redactor.apply(text, redactor.scope("shop")) {
        Outcome::Unchanged => Some(text.to_owned()),
        Outcome::Changed(changed) => {
            assert_ne!(changed, text);
            Some(changed.to_owned())
        }
        Outcome::Drop(_) => None,
    }
}

#[test]
fn a_rule_of_ones_own_replaces_its_group_named_secret() {
    let mut redactor = redactor(
        r"[{name: order, regex: 'order=(?P<secret>\d+)(;|$)'}, {name: pin, regex: '^\d{4}$'}, {name: word, regex: 'a\tb+'}]",
    );
    for (text, expected) in [
        ("order=17;order=18", "order=[redacted:order];order=[redacted:order]"),
        ("order=x;", "order=x;"),
        ("1234", "[redacted:pin]"),
        ("12345", "12345"),
        (
            r#"{"pin":"1234","n":1234,"o":"order=5"}"#,
            r#"{"pin":"[redacted:pin]","n":"[redacted:pin]","o":"order=[redacted:order]"}"#,
        ),
        (r#"{"x":"a\tbb","y":"a\\tb"}"#, r#"{"x":"[redacted:word]","y":"a\\tb"}"#),
    ] {
        assert_eq!(apply(&mut redactor, text).unwrap(), expected);
    }
    let counts: Vec<_> = redactor.counts().collect();
    assert_eq!(counts, [("order", 3), ("pin", 3), ("word", 1)]);
}

#[test]
fn a_hash_is_keyed_and_the_same_however_a_number_is_written() {
    let mut redactor = redactor("[{name: email, action: hash}, {name: card-number, action: hash}]");
    // `printf %s ann@example.com | openssl dgst -sha256 -hmac $KEY`
    let hashed = apply(&mut redactor, "ann@example.com bob@example.com ann@example.com").unwrap();
    let parts: Vec<&str> = hashed.split(' ').collect();
    assert_eq!(parts[0], "[email:093e3dd9df951c50]");
    assert_eq!((parts[0], parts[0] == parts[1]), (parts[2], false));
    let written = |redactor: &mut Redactor, text: &str| apply(redactor, text).unwrap();
    let plain = written(&mut redactor, "4111111111111111");
    assert_eq!(plain, written(&mut redactor, "4111-1111-1111-1111"));
    assert!(plain.starts_with("[card-number:") && plain.len() == "[card-number:]".len() + 16, "{plain}");
    let other = config("hash_key_env: KEY\nrules: [{name: email, action: hash}]").unwrap();
    let mut other = Redactor::new(&other, Some(Key::new("another key, long enough").unwrap()));
    assert_ne!(written(&mut other, "ann@example.com"), parts[0]);
    assert!(!format!("{redactor:?} {other:?}").contains(KEY));
}

#[test]
fn a_rule_that_drops_takes_the_whole_text() {
    let mut redactor = redactor("[email, {name: jwt, action: drop}]");
    let scope = redactor.scope("x");
    assert_eq!(redactor.apply(&format!("a@b.com {JWT}"), scope), Outcome::Drop("jwt"));
    let json = format!(r#"{{"a":"a@b.com","t":["{JWT}"]}}"#);
    assert_eq!(redactor.apply(&json, scope), Outcome::Drop("jwt"));
    assert_eq!(redactor.apply("a@b.com", scope), Outcome::Changed("[redacted:email]"));
    assert_eq!(redactor.counts().collect::<Vec<_>>(), [("email", 3), ("jwt", 2)]);
}

#[test]
fn a_rule_holds_in_its_namespaces_only() {
    let mut redactor =
        redactor("[{name: email, namespaces: ['pay-*', bank]}, {name: card-number, namespaces: [bank]}]");
    let text = "a@b.com 4111111111111111";
    let [bank, pay, shop] = ["bank", "pay-eu", "shop"].map(|namespace| redactor.scope(namespace));
    assert_eq!(redactor.apply(text, bank), Outcome::Changed("[redacted:email] [redacted:card-number]"));
    assert_eq!(redactor.apply(text, pay), Outcome::Changed("[redacted:email] 4111111111111111"));
    assert_eq!(redactor.apply(text, shop), Outcome::Unchanged);
    assert_eq!((bank.is_empty(), shop.is_empty()), (false, true));
}

#[test]
fn what_overlaps_goes_as_one() {
    let mut redactor = redactor("[{name: left, regex: 'abc'}, {name: right, regex: 'cde'}, {name: one, regex: 'x'}]");
    assert_eq!(apply(&mut redactor, "abcde abc xxx").unwrap(), "[redacted:left] [redacted:left] [redacted:one]");
    let mut both = all();
    assert_eq!(apply(&mut both, &format!("Bearer {JWT}")).unwrap(), "Bearer [redacted:bearer-token]");
}

#[test]
fn every_fault_of_the_settings_is_named() {
    let faults = config(
        "hash_key: abc\nrules:\n- emial\n- {name: phone}\n- {name: Own, regex: x}\n- {name: own, regex: '('}\n- {name: email, regex: x}\n- {name: b, regex: 'x*'}\n- {name: jwt, action: hide, namespaces: []}\n- {name: big, regex: '(\\w{500}){500}'}",
    )
    .unwrap_err();
    for expected in [
        "hash_key (line 1): a key is not written into this file",
        "rules[0] (line 3): there is no built-in rule of this name; did you mean `email`?",
        "rules[1].name (line 4): there is no built-in rule of this name; there are: bearer-token",
        "rules[2].name (line 5): expected a name of 1 to 32",
        "rules[3].regex (line 6): expected a regular expression: unclosed group",
        "rules[4].name (line 7): email is a built-in rule",
        "rules[5].regex (line 8): it matches the empty text",
        "rules[6].action (line 9): expected one of mask, hash, drop",
        "rules[6].namespaces (line 9): an empty list",
        "rules[7].regex (line 10): expected a regular expression: Compiled regex exceeds size limit",
    ] {
        assert!(faults.contains(expected), "{expected}\n in\n{faults}");
    }
    for (text, expected) in [
        ("rules: []", "at least one rule"),
        ("hash_key_env: KEY", "rules"),
        ("rules: [{name: email, action: hash}]", "needs a key"),
        ("hash_key_env: NONE\nrules: [email]", "hash_key_env (line 1): the environment has no variable NONE"),
        ("hash_key_env: SHORT\nrules: [email]", "less than 16 bytes"),
        ("hash_key_env: KEY\nhash_key_file: /x\nrules: [email]", "only one of"),
        ("rules: [email, {name: email, action: drop}]", "rules[1] (line 1): there is a rule email already"),
        (&format!("rules: [{}]", "email, ".repeat(65)), "64 at most"),
    ] {
        let faults = config(text).unwrap_err();
        assert!(faults.contains(expected), "{expected} in {faults}");
    }
    let from_file = config("hash_key_file: /etc/sluice/redact.key\nrules: [{name: email, action: hash}]").unwrap();
    assert_eq!(from_file.key_file(), Some(std::path::Path::new("/etc/sluice/redact.key")));
}

/// Quadratic work on any of these would take minutes.
#[test]
fn texts_made_to_be_slow_are_not() {
    let mut redactor = all();
    for piece in [
        "eyJ",
        "@",
        "a@",
        "a.a@a.",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY",
        "bearer ",
        "bearer.",
        "bearer=",
        r"\x2041",
        "\x1b[0m",
        "Bearer a1",
        "4",
        "4111 ",
        "DE89",
        "DE89 ",
        "ecret",
        "secret=",
        "AKIA",
        "AB12 ",
        "eyJaaaaaaaa.",
        "1-",
        "xxxxxxxx@xxxxxxxx-",
    ] {
        let text = piece.repeat(2_000_000 / piece.len());
        apply(&mut redactor, &text);
        apply(&mut redactor, &format!(r#"{{"a":"\u0041{text}"}}"#));
    }
}

/// Texts that are often almost secrets.
fn text() -> impl Strategy<Value = String> {
    let pieces = vec![
        JWT,
        PEM,
        "ann@example.com",
        "@",
        "4111111111111111",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "DE89 3704 ",
        "Bearer ",
        "a1b2c3d4e5",
        "AKIAIOSFODNN7EXAMPLE",
        "secret=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "eyJ",
        ".",
        " ",
        "\n",
        "\"",
        "\\",
        "é",
        "\u{1}",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "{",
        "}",
        "[1,\"a@b.com\"]",
        "0.",
        "-",
    ];
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::from(4_111_111_111_111_111_i64)),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text(), inner.clone(), 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            // JSON in a string.
            inner.prop_map(|inner| Value::from(inner.to_string())),
        ]
    });
    prop::collection::btree_map(text(), value, 0..5).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Some characters as `\u`, which changes nothing of what is meant.
fn escaped(text: &str, choose: &[bool]) -> String {
    let mut out = String::new();
    let (mut in_string, mut after_backslash) = (false, false);
    for (at, c) in text.chars().enumerate() {
        let is_plain = in_string && !after_backslash && c.is_ascii() && !matches!(c, '"' | '\\');
        if is_plain && !choose.is_empty() && choose[at % choose.len()] {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        // Digits of an escape that is there already must stay; this is one character too many at most.
        in_string ^= c == '"' && !after_backslash;
        after_backslash = c == '\\' && !after_backslash;
    }
    out
}

#[test]
fn only_escapes_that_can_hide_a_secret_are_looked_behind() {
    for (text, expected) in [
        (r#"{"a":"\u003cb\u003E \u0026 \u00e9 \ud83d\ude00 \u001b[0m \n"}"#, false),
        (r#"{"a":"\u0040"}"#, true),
        (r#"{"a":"\\u0040"}"#, true),
        (r#"{"a":"\u00e9\u0061"}"#, true),
        (r#"{"a":"\u"#, false),
    ] {
        assert_eq!(json::escapes_what_secrets_have(text.as_bytes()), expected, "{text}");
    }
}

fn same_structure(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same_structure(a, b))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_structure(a, b)),
        (Value::String(_) | Value::Number(_), Value::String(_)) => true,
        (a, b) => a == b,
    }
}

/// All values, without names, as text; JSON in strings is looked into.
fn values_of(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => map.values().for_each(|value| values_of(value, each)),
        Value::Array(list) => list.iter().for_each(|value| values_of(value, each)),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => values_of(&inner, each),
            _ => each(text),
        },
        other => each(&other.to_string()),
    }
}

proptest! {
    #[test]
    fn json_stays_json_of_the_same_structure_without_its_secrets(
        value in json(), choose in prop::collection::vec(prop::bool::weighted(0.2), 0..40)
    ) {
        let mut redactor = all();
        let plain = value.to_string();
        // Where escapes in the text itself are hit, the meaning would differ.
        let hidden = escaped(&plain, &choose);
        let hidden = if serde_json::from_str::<Value>(&hidden).ok().as_ref() == Some(&value) { hidden } else { plain.clone() };
        let changed = apply(&mut redactor, &hidden).unwrap();
        let after: Value = serde_json::from_str(&changed).unwrap();
        prop_assert!(same_structure(&value, &after), "{} became {}", hidden, changed);
        // However it is written, the same is meant, and replaced.
        let from_plain: Value = serde_json::from_str(&apply(&mut redactor, &plain).unwrap()).unwrap();
        prop_assert_eq!(&from_plain, &after);
        values_of(&after, &mut |text| {
            assert!(!text.contains(JWT) && !text.contains(PEM), "{text}");
        });
    }

    #[test]
    fn nothing_of_a_secret_is_left_in_a_text(
        before in "[ -?\\[-`{-~]{0,20} ", secret in prop::sample::select(vec![JWT, PEM, "ann@example.com", "4111111111111111", "DE89 3704 0044 0532 0130 00", "AKIAIOSFODNN7EXAMPLE"]), after in " [^a-zA-Z0-9]{0,20}"
    ) {
        let changed = apply(&mut all(), &format!("{before}{secret}{after}")).unwrap();
        prop_assert!(!changed.contains(secret), "{}", changed);
        prop_assert!(changed.contains("[redacted:"), "{}", changed);
    }

    #[test]
    fn any_text_is_looked_at_without_a_panic(text in text(), lone in any::<String>()) {
        let mut redactor = all();
        for text in [&text, &lone, &format!("{{\"a\":\"{text}\"}}"), &format!("{{{lone}}}")] {
            apply(&mut redactor, text);
        }
        let _ = json::unescape(&text);
    }
}
