//! The rules that come with the agent. Each finds its secrets in linear time, whatever the text.

use std::ops::Range;

use memchr::{memchr_iter, memchr2_iter, memmem};

use super::{json, numbers};

/// A rule that comes with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// What follows `Bearer`, where it looks like a token.
    BearerToken,
    /// An AWS access key's id, and a secret key by the word `secret` before it.
    AwsKey,
    /// A JSON web token, signed or encrypted.
    Jwt,
    /// A private key in PEM, up to its end or that of the text.
    PrivateKey,
    /// A mail address.
    Email,
    /// A payment card's number, by its issuer, length and check digit (ISO/IEC 7812).
    CardNumber,
    /// An international bank account number, by its country's length and its check (ISO 13616).
    Iban,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::BearerToken, Self::AwsKey, Self::Jwt, Self::PrivateKey, Self::Email, Self::CardNumber, Self::Iban];

    /// What it is called in settings, marks and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BearerToken => "bearer-token",
            Self::AwsKey => "aws-key",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::Email => "email",
            Self::CardNumber => "card-number",
            Self::Iban => "iban",
        }
    }

    /// A text without any of these has nothing for the rule; none: see [`BuiltIn::may_be_in`].
    pub(super) fn literals(self) -> &'static [&'static str] {
        match self {
            Self::BearerToken => &BEAR,
            Self::AwsKey => &["AKIA", "ASIA", "ecret", "ECRET"],
            Self::Jwt => &["eyJ"],
            Self::PrivateKey => &["-----BEGIN "],
            Self::Email | Self::CardNumber | Self::Iban => &[],
        }
    }

    /// For rules without literals: whether there can be anything. Says yes also where an escape of JSON
    /// stands right before the secret.
    pub(super) fn may_be_in(self, text: &str) -> bool {
        match self {
            Self::Email => memchr::memchr(b'@', text.as_bytes()).is_some(),
            Self::CardNumber => numbers::may_hold_card(text.as_bytes()),
            Self::Iban => numbers::may_hold_iban(text.as_bytes()),
            Self::BearerToken | Self::AwsKey | Self::Jwt | Self::PrivateKey => true,
        }
    }

    /// Tells `each` where a secret is. `key`: the name that a JSON object gives to the text.
    pub(super) fn find(self, text: &str, key: Option<&str>, each: &mut dyn FnMut(Range<usize>)) {
        match self {
            Self::BearerToken => bearer_tokens(text.as_bytes(), each),
            Self::AwsKey => aws_keys(text.as_bytes(), key, each),
            Self::Jwt => jwts(text.as_bytes(), each),
            Self::PrivateKey => private_keys(text.as_bytes(), each),
            Self::Email => emails(text, each),
            Self::CardNumber => numbers::cards(text.as_bytes(), each),
            Self::Iban => numbers::ibans(text.as_bytes(), each),
        }
    }
}

/// In every mixture of capitals, as literals are compared byte by byte.
const BEAR: [&str; 16] = [
    "bear", "Bear", "bEar", "BEar", "beAr", "BeAr", "bEAr", "BEAr", "beaR", "BeaR", "bEaR", "BEaR", "beAR", "BeAR",
    "bEAR", "BEAR",
];

fn run(bytes: &[u8], from: usize, is_in: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|byte| !is_in(*byte)).map_or(bytes.len(), |length| from + length)
}

/// Whether what begins at `at` is the rest of a longer word. The letter of an escape is of none: `\n`
/// stands before what began a line, also in text, and in a string of JSON where a string was escaped twice.
pub(super) fn is_within_word(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphanumeric()) && !ends_escape(&bytes[..at])
}

/// Whether an escape ends a text: that of a character (`\n`, `\x0a`, `\u000a`, `\012`, rsyslog's `#012`), or a
/// terminal's, as of a colour.
pub(super) fn ends_escape(text: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match text {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'\\' | b'#', b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'] => true,
        [.., b'\\', b'x', a, b] if is_hex(&[*a, *b]) => true,
        [.., b'\\', b'u', a, b, c, d] if is_hex(&[*a, *b, *c, *d]) => true,
        _ => ends_escape_of_terminal(text),
    }
}

/// Whether a control sequence of ECMA-48 ends a text, itself or as a string shows it.
fn ends_escape_of_terminal(text: &[u8]) -> bool {
    /// Two colours of three numbers, `38;2;255;255;255;48;2;255;255;255`, have 33.
    const PARAMETERS: usize = 40;
    #[rustfmt::skip]
    const BEGINNINGS: [&[u8]; 10] = [
        b"\x1b[", br"\u001b[", br"\u001B[", br"\x1b[", br"\x1B[", br"\033[", br"\u{1b}[", br"\e[", b"^[[", b"#033[",
    ];
    let [before @ .., b'A'..=b'Z' | b'a'..=b'z'] = text else { return false };
    let is_parameter = |byte: &&u8| matches!(byte, b'0'..=b'?');
    let parameters = before.iter().rev().take(PARAMETERS).take_while(is_parameter).count();
    let beginning = &before[..before.len() - parameters];
    BEGINNINGS.iter().any(|one| beginning.ends_with(one))
}

fn bearer_tokens(bytes: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    const WORD: &[u8] = b"bearer";
    let is_token =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    let mut looked_at = 0;
    for at in memchr2_iter(b'b', b'B', bytes) {
        // A part of a token looks no more like one than the whole.
        if at < looked_at {
            continue;
        }
        let after = at + WORD.len();
        let is_word = bytes.get(at..after).is_some_and(|word| word.eq_ignore_ascii_case(WORD));
        if !is_word || is_within_word(bytes, at) {
            continue;
        }
        let start = run(bytes, after, |byte| matches!(byte, b' ' | b'\t' | b':' | b'='));
        if start == after {
            continue;
        }
        let end = run(bytes, start, is_token);
        looked_at = end;
        if is_like_a_token(&bytes[start..end]) {
            each(start..end);
        }
    }
}

/// `Bearer authentication failed` is none.
fn is_like_a_token(text: &[u8]) -> bool {
    let has = |of: fn(&u8) -> bool| text.iter().any(of);
    match text.len() {
        0..8 => false,
        8..32 if has(u8::is_ascii_digit) => true,
        16..32 => has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase),
        8..16 => false,
        _ => true,
    }
}

fn aws_keys(bytes: &[u8], key: Option<&str>, each: &mut dyn FnMut(Range<usize>)) {
    const ID: usize = 20;
    for prefix in [b"AKIA", b"ASIA"] {
        for at in memmem::find_iter(bytes, prefix) {
            // Looked at no further than an id reaches: the text may be of nothing but beginnings.
            let is_id = (bytes.get(at..at + ID))
                .is_some_and(|id| id.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
            let goes_on = bytes.get(at + ID).is_some_and(u8::is_ascii_alphanumeric);
            if is_id && !is_within_word(bytes, at) && !goes_on {
                each(at..at + ID);
            }
        }
    }
    if key.is_some_and(names_a_secret)
        && let Some(secret) = aws_secret_after(bytes, 0)
    {
        each(secret);
        return;
    }
    for word in [b"ecret", b"ECRET"] {
        for at in memmem::find_iter(bytes, word) {
            if let Some(secret) = aws_secret_after(bytes, at + word.len()) {
                each(secret);
            }
        }
    }
}

/// Whether a name of JSON, with its escapes, says that its value is secret.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = json::unescape(key);
    ["ecret", "ECRET"].iter().any(|word| key.contains(word))
}

/// `_access_key = …`, `AccessKey":"…`: the secret begins so many bytes after the word at most.
const SECRET_NEAR: usize = 32;
const SECRET: usize = 40;
/// Of an escape, what could be of a secret, too: `u001b`, or the `255m` of a colour.
const ESCAPE: usize = 5;

fn aws_secret_after(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    // As far as the longest of them could reach, behind an escape, and a byte more to see that it ends there.
    let window = &bytes[..bytes.len().min(from + SECRET_NEAR + ESCAPE + SECRET + 1)];
    let mut start = from;
    while start <= from + SECRET_NEAR && start < window.len() {
        let end = run(window, start, is_base64);
        if is_aws_secret(&window[start..end]) {
            return Some(start..end);
        }
        // The end of an escape may have been taken for its beginning.
        let later = end.saturating_sub(SECRET);
        if start < later && ends_escape(&window[..later]) && is_aws_secret(&window[later..end]) {
            return Some(later..end);
        }
        start = end + 1;
    }
    None
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Not a commit's id: that has no capitals.
fn is_aws_secret(text: &[u8]) -> bool {
    text.len() == SECRET && text.iter().all(|byte| is_base64(*byte)) && text.iter().any(u8::is_ascii_uppercase)
}

fn jwts(bytes: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    const SHORTEST_PART: usize = 8;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut from = 0;
    // `{"` in base64url.
    while let Some(start) = memmem::find(&bytes[from..], b"eyJ").map(|at| from + at) {
        let header = run(bytes, start, is_part);
        // Whatever begins inside of the header ends where it does.
        from = header;
        if header - start < SHORTEST_PART || bytes.get(header) != Some(&b'.') {
            continue;
        }
        let mut end = run(bytes, header + 1, is_part);
        if end == header + 1 && bytes.get(end) == Some(&b'.') {
            // The key of an encrypted one is agreed on elsewhere.
            end = run(bytes, end + 1, is_part);
        }
        if end - header - 1 < SHORTEST_PART {
            continue;
        }
        // A signature; of an encrypted one three parts more, of which some may be empty.
        for _ in 0..3 {
            if bytes.get(end) == Some(&b'.') {
                end = run(bytes, end + 1, is_part);
            }
        }
        each(start..end);
        from = end;
    }
}

fn private_keys(bytes: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const LABEL: usize = 64;
    /// Where the dashes after a label end.
    fn label_end(bytes: &[u8], from: usize) -> Option<usize> {
        let label = &bytes[from..bytes.len().min(from + LABEL)];
        memmem::find(label, b"-----").map(|at| from + at + 5)
    }
    let mut from = 0;
    while let Some(start) = memmem::find(&bytes[from..], BEGIN).map(|at| from + at) {
        let label = start + BEGIN.len();
        from = label;
        let Some(body) = label_end(bytes, label) else { continue };
        if memmem::find(&bytes[label..body], b"PRIVATE KEY").is_none() {
            continue;
        }
        let end = memmem::find(&bytes[body..], b"-----END ").map(|at| body + at + 9);
        let end = end.map_or(bytes.len(), |end| label_end(bytes, end).unwrap_or(end));
        each(start..end);
        from = end;
    }
}

fn emails(text: &str, each: &mut dyn FnMut(Range<usize>)) {
    const LOCAL: usize = 64;
    const DOMAIN: usize = 253;
    let is_local = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
    let is_domain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
    for at in memchr_iter(b'@', text.as_bytes()) {
        let local = text[..at].char_indices().rev().take(LOCAL).take_while(|(_, c)| is_local(*c)).last();
        let Some((start, _)) = local else { continue };
        let local = text[start..at].trim_start_matches(['.', '\'', '%', '+', '-']);
        let rest = &text[at + 1..];
        let length = rest.char_indices().take(DOMAIN).take_while(|(_, c)| is_domain(*c)).last();
        let Some((last, c)) = length else { continue };
        if let Some(domain) = domain_in(&rest[..last + c.len_utf8()])
            && !local.is_empty()
        {
            each(at - local.len()..at + 1 + domain);
        }
    }
}

/// Bytes of the domain that `text` begins with: labels with dots, of which the last is of letters.
fn domain_in(text: &str) -> Option<usize> {
    let mut domain = text;
    loop {
        domain = domain.trim_end_matches(['.', '-']);
        let dot = domain.rfind('.').filter(|dot| *dot > 0)?;
        let last = &domain[dot + 1..];
        if last.starts_with("xn--") {
            return Some(domain.len());
        }
        let letters = last.find(|c: char| !c.is_alphabetic()).unwrap_or(last.len());
        if last[..letters].chars().count() >= 2 {
            return Some(dot + 1 + letters);
        }
        domain = &domain[..dot];
    }
}
