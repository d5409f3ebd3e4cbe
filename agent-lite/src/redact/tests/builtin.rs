//! What each rule that comes with the agent finds, and what it leaves.

use super::*;

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

pub(super) const JWT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

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

pub(super) const PEM: &str =
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
