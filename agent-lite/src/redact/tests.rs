use super::*;
use proptest::prelude::*;
use serde_json::Value;

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

/// With one rule and with all of them. `_` in what is expected stands for the rule's mark.
#[track_caller]
fn check(rule: &str, cases: &[(&str, &str)]) {
    for redactor in [&mut redactor(&format!("[{rule}]")), &mut all()] {
        for (text, expected) in cases {
            let expected = expected.replace('_', &format!("[redacted:{rule}]"));
            assert_eq!(apply(redactor, text).as_deref(), Some(&*expected), "{text}");
        }
    }
}

#[track_caller]
fn check_untouched(rule: &str, cases: &[&str]) {
    for text in cases {
        assert_eq!(redactor(&format!("[{rule}]")).apply(text, Scope(1)), Outcome::Unchanged, "{text}");
    }
}

#[test]
fn bearer_tokens_go_and_talk_about_them_stays() {
    check(
        "bearer-token",
        &[
            ("Authorization: Bearer sk-proj-a1b2c3d4", "Authorization: Bearer _"),
            ("authorization=bearer:abcdef0123456789, next", "authorization=bearer:_, next"),
            ("-H 'BEARER\tAbCdEfGhIjKlMnOpQr=='", "-H 'BEARER\t_'"),
            ("bEaReR 12345678", "bEaReR _"),
            ("Bearer a1b2c3d4e5 and Bearer f6g7h8i9j0", "Bearer _ and Bearer _"),
            (r#"{"h":{"authorization":"Bearer a1b2c3d4e5"}}"#, r#"{"h":{"authorization":"Bearer _"}}"#),
        ],
    );
    check_untouched(
        "bearer-token",
        &[
            "bearer authentication failed",
            "the bearer of a12345678 things",
            "Bearer",
            "Bearer ",
            "Bearer a1b2c3",
            "forbearer a1b2c3d4e5f6",
            "bearera1b2c3d4e5f6",
        ],
    );
}

#[test]
fn aws_keys_go_by_their_form_or_by_their_name() {
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let with_secret = |text: &str| text.replace('~', SECRET);
    check("aws-key", &[("key AKIAIOSFODNN7EXAMPLE used", "key _ used"), ("ASIAIOSFODNN7EXAMPLE", "_")]);
    let mut redactor = redactor("[aws-key]");
    for text in [
        "aws_secret_access_key = ~",
        "AWS_SECRET_ACCESS_KEY=~",
        r#"creds={"SecretAccessKey": "~", "x":1}"#,
        r#"creds="{\"secretAccessKey\":\"~\"}""#,
        r#"{"secret_access_key":"~"}"#,
        r#"{"a":{"secretAccessKey":"~"},"b":1}"#,
        r#"{"\u0073ecret":"~"}"#,
        r#"{"a":"{\"secret\":\"~\"}"}"#,
    ] {
        let (text, expected) = (with_secret(text), text.replace('~', "[redacted:aws-key]"));
        assert_eq!(apply(&mut redactor, &text), Some(expected));
    }
    check_untouched(
        "aws-key",
        &[
            "AKIAIOSFODNN7EXAMPL",
            "AKIAIOSFODNN7EXAMPLE1",
            "XAKIAIOSFODNN7EXAMPLE",
            "AKIAiosfodnn7example",
            "secret of commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
            &with_secret("token ~"),
            &with_secret("secret=~x"),
        ],
    );
}

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

#[rustfmt::skip]
const ESCAPES: [&str; 20] = [
    r"\n", r"\r", r"\t", r"\x0a", r"\x20", r"\xA0", r"\u000a", r"\u0022", r"\012", "#012", "#033[0m", r"\033[0m", r"\e[1m", "^[[1m",
    "\x1b[0m", "\x1b[?25h", r"\u001b[0m", r"\x1b[38;5;255m", r"\u{1b}[1K", r"\x1b[38;2;255;255;255;48;2;255;255;255m",
];

#[test]
fn what_follows_an_escape_goes_in_text_as_in_json() {
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const OTHER: &str = "nJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for (rule, before, secret) in [
        ("bearer-token", "Bearer ", "abcdefghij0123456789"),
        ("aws-key", "", "AKIAIOSFODNN7EXAMPLE"),
        ("aws-key", "secret:", SECRET),
        ("card-number", "", "4111111111111111"),
        ("iban", "", "DE89370400440532013000"),
    ] {
        for escape in ESCAPES {
            let text = format!("level=error msg=\"body:{escape}{before}~ x\"");
            // A string that holds an escaped one.
            let json = serde_json::to_string(&serde_json::json!({"log": text})).unwrap();
            for text in [&text, &json] {
                check(rule, &[(&text.replace('~', secret), &text.replace('~', "_"))]);
            }
        }
        // Of another word than an escape it is no boundary.
        if before.is_empty() {
            for word in ["n", r"\q", "[0m", r"\x1g", r"\u00g1b", r"\x1b[0-m", "#912", r"\81g"] {
                check_untouched(rule, &[&format!("body:{word}{secret}")]);
            }
        }
    }
    // Either may be meant.
    for secret in [SECRET, OTHER] {
        // It is looked for near the word.
        for escape in ESCAPES.into_iter().filter(|escape| escape.len() < 32) {
            check("aws-key", &[(&format!("secret={escape}{secret}"), &format!("secret={escape}_"))]);
        }
    }
    check("aws-key", &[(&format!("secret=\\{OTHER}"), "secret=\\_")]);
    check_untouched("aws-key", &[&format!("secret=\\n{SECRET}x"), &format!("secret=\\q{SECRET}")]);
}

#[test]
fn a_value_that_is_named_a_secret_goes_with_what_stands_around_it() {
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for value in ["~", r"~\n", r"\u001b[0m~", r"\n~\n"] {
        let text = format!(r#"{{"secret":"{value}"}}"#);
        let changed = apply(&mut redactor("[aws-key]"), &text.replace('~', SECRET)).unwrap();
        assert_eq!(changed, text.replace('~', "[redacted:aws-key]"));
    }
}

#[test]
fn json_web_tokens_go_whole() {
    let (head, rest) = JWT.split_once('.').unwrap();
    check(
        "jwt",
        &[
            (&format!("token={JWT}; next"), "token=_; next"),
            (&format!("{JWT}{JWT}"), "_"),
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "_"),
            // Split: the header is no secret, what it is the header of is.
            (&format!("{head}\n{rest}"), &format!("{head}\n_")),
            ("eyJhbGciOiJkaXIifQ..AxY8DCtDaGlsbGljb3RoZQ.x.y", "_"),
            (&format!(r#"{{"t":"{JWT}"}}"#), r#"{"t":"_"}"#),
        ],
    );
    check_untouched("jwt", &[head, "eyJ.eyJ.x", "keyJournal.entry.of.today"]);
}

const PEM: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAy8Dbv8prpJ\nvGZlGJpmn65=\n-----END RSA PRIVATE KEY-----";

#[test]
fn private_keys_go_whole_however_their_lines_are_written() {
    check(
        "private-key",
        &[
            (&format!("loaded {PEM} from disk"), "loaded _ from disk"),
            (&format!("{PEM}\n{PEM}"), "_\n_"),
            (&format!(r#"{{"pem":"{}","n":1}}"#, PEM.replace('\n', "\\n")), r#"{"pem":"_","n":1}"#),
            (&format!(r"pem='{}'", PEM.replace('\n', "\\n")), "pem='_'"),
            (r#"{"pem":"\u002d----BEGIN PRIVATE KEY-----\nMII","n":1}"#, r#"{"pem":"_","n":1}"#),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn", "_"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK----- y", "_ y"),
        ],
    );
    check_untouched(
        "private-key",
        &[
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
            "-----BEGIN PRIVATE KEY",
            "----BEGIN PRIVATE KEY-----",
        ],
    );
}

#[test]
fn mail_addresses_go_and_other_things_with_an_at_stay() {
    check(
        "email",
        &[
            ("from ann.o'neil+shop@mail.example.com.", "from _."),
            ("<a@b.co>,c@d.org", "<_>,_"),
            ("mailto:'müller@bücher.example'", "mailto:'_'"),
            ("x@y.com-2025 or x@xn--bcher-kva.xn--p1ai", "_-2025 or _"),
            ("https://user:pass@host.example/path", "https://user:_/path"),
            (r#"{"mail":"ann@example.com","n":[{"m":"bob@example.com"}]}"#, r#"{"mail":"_","n":[{"m":"_"}]}"#),
            (r#"{"mail":"ann\u0040example.com"}"#, r#"{"mail":"_"}"#),
            (r#"{"mail":"\u0061nn@exampl\u0065.com \"quoted\"\n"}"#, r#"{"mail":"_ \"quoted\"\n"}"#),
            (r#"{"log":"{\"mail\":\"ann\\u0040example.com\"}"}"#, r#"{"log":"{\"mail\":\"_\"}"}"#),
            (r#"["ann\u0040example.com"]"#, r#"["_"]"#),
            ("{\"mail\":\"ann@example.com\"", "{\"mail\":\"_\""),
        ],
    );
    check_untouched(
        "email",
        &[
            "@decorator",
            "@Override public void x() {}",
            "root@host",
            "lodash@4.17.21",
            "golang.org/x/net@v0.0.0-20231010-abcdef123456",
            "image@sha256:0123456789abcdef",
            "a @ b.com",
            "java.lang.Object@1b2c3d4",
            "a@.com",
            "a@b.c",
            r#"{"ann@example.com":1}"#,
        ],
    );
}

#[test]
fn cards_go_by_issuer_length_and_check_digit() {
    check(
        "card-number",
        &[
            ("card 4111111111111111 refused", "card _ refused"),
            ("4111-1111-1111-1111", "_"),
            ("1234 4111 1111 1111 1111 2027", "1234 _ 2027"),
            ("amex 378282246310005, 3782 822463 10005", "amex _, _"),
            ("5555555555554444;6011111111111117;3530111333300000", "_;_;_"),
            (r#"{"card":4111111111111111,"n":-4111111111111111}"#, r#"{"card":"_","n":"-_"}"#),
            (r#"{"card":"\n4111111111111111"}"#, r#"{"card":"\n_"}"#),
            (r#"{"card":"\u00a04111111111111111"}"#, "{\"card\":\"\u{a0}_\"}"),
            (r#"{"wt":1795186800000000000,"card":"4111 1111 1111 1111"}"#, r#"{"wt":1795186800000000000,"card":"_"}"#),
            (r#"{"card":"\u0034111 1111 1111 1111"}"#, r#"{"card":"_"}"#),
            (r#"{"log":"{\"card\":4111111111111111}"}"#, r#"{"log":"{\"card\":\"_\"}"}"#),
        ],
    );
    check_untouched(
        "card-number",
        &[
            "4111111111111112",
            "4111 1111-1111 1111",
            "4111  1111 1111 1111",
            "41111 111 1111 1111",
            "4111 1111 1111 11111",
            "x4111111111111111",
            "4111111111111111a",
            "0.4111111111111111",
            "4111111111111111.5",
            "1698314130123456789",
            "2025-10-26 10-15-30 1761473730000",
            "550e8400-e29b-41d4-a716-446655440000",
            "0000000000000000",
            "411111111111111",
        ],
    );
}

#[test]
fn accounts_go_by_country_length_and_check() {
    check(
        "iban",
        &[
            ("pay DE89370400440532013000 now", "pay _ now"),
            ("DE89 3704 0044 0532 0130 00", "_"),
            ("GB82 WEST 1234 5698 7654 32; NL91ABNA0417164300", "_; _"),
            ("IBAN NO9386011117947", "IBAN _"),
            ("A DE89370400440532013000 B MT84MALT011000012345MTLCAST001S", "A _ B _"),
            (r#"{"to":"\nDE89370400440532013000"}"#, r#"{"to":"\n_"}"#),
        ],
    );
    check_untouched(
        "iban",
        &[
            "DE88370400440532013000",
            "DE8937040044053201300",
            "DE893704004405320130001",
            "XX89370400440532013000",
            "ADE89370400440532013000",
            "DE89 37040044053201 3000",
            "de89370400440532013000",
            "INFO 10 MAIN THREAD IS UP AND RUNNING ON NODE AB12 CDEF",
        ],
    );
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
