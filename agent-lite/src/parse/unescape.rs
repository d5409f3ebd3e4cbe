//! Escape sequences of quoted strings to what they stand for.

use memchr::memchr;

/// Which sequences a string may hold. Others stay as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// RFC 8259 §7.
    Json,
    /// What Go's `strconv.Quote` writes, which is JSON's and more; with `\xHH` also nginx' and Apache's.
    Go,
    /// RFC 5424 §6.3.3: `\"`, `\\` and `\]`.
    StructuredData,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Appends `text`, unescaped. At most one and a half times as long as `text`. Not UTF-8 where `\xHH` says
/// so; an impossible `\u` gives U+FFFD.
pub(super) fn append(mut text: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        text = &text[at..];
        let taken = sequence(text, escapes, out);
        text = &text[taken..];
    }
    out.extend_from_slice(text);
}

/// Appends what the sequence that `text` begins with stands for; gives its length.
fn sequence(text: &[u8], escapes: Escapes, out: &mut Vec<u8>) -> usize {
    let Some(letter) = text.get(1) else {
        out.push(b'\\');
        return 1;
    };
    let simple = match (letter, escapes) {
        (b'"' | b'\\', _) => *letter,
        (b']', Escapes::StructuredData) => b']',
        (_, Escapes::StructuredData) => return literal(text, out),
        (b'n', _) => b'\n',
        (b'r', _) => b'\r',
        (b't', _) => b'\t',
        (b'b', _) => 8,
        (b'f', _) => 12,
        (b'/', _) => b'/',
        (b'u', _) => return unicode(text, out),
        (b'a', Escapes::Go) => 7,
        (b'v', Escapes::Go) => 11,
        (b'\'', Escapes::Go) => b'\'',
        (b'x', Escapes::Go) => match hex(&text[2..], 2) {
            Some(byte) => {
                out.extend(u8::try_from(byte));
                return 4;
            }
            None => return literal(text, out),
        },
        (b'U', Escapes::Go) => {
            let Some(code) = hex(&text[2..], 8) else { return literal(text, out) };
            push(char::from_u32(code), out);
            return 10;
        }
        _ => return literal(text, out),
    };
    out.push(simple);
    2
}

/// No sequence of ours: the backslash stands for itself.
fn literal(text: &[u8], out: &mut Vec<u8>) -> usize {
    out.push(text[0]);
    1
}

/// `\uXXXX`, or two of them that are a surrogate pair.
fn unicode(text: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(first) = hex(&text[2..], 4) else {
        out.extend_from_slice(REPLACEMENT);
        return 2 + text[2..].iter().take(3).take_while(|byte| byte.is_ascii_hexdigit()).count();
    };
    if (0xd800..0xdc00).contains(&first)
        && let Some(rest) = text[6..].strip_prefix(b"\\u")
        && let Some(second @ 0xdc00..0xe000) = hex(rest, 4)
    {
        push(char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)), out);
        return 12;
    }
    push(char::from_u32(first), out);
    6
}

fn push(character: Option<char>, out: &mut Vec<u8>) {
    let mut utf8 = [0; 4];
    out.extend_from_slice(character.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes());
}

fn hex(text: &[u8], digits: usize) -> Option<u32> {
    text.get(..digits)?.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, escapes: Escapes, expected: &[u8]) {
        let mut out = Vec::new();
        append(text.as_bytes(), escapes, &mut out);
        assert_eq!(out, expected, "{text} {escapes:?}");
    }

    #[test]
    fn each_form_has_its_own_sequences() {
        check(r#"a\"b\\c\/\b\f\n\r\t"#, Escapes::Json, b"a\"b\\c/\x08\x0c\n\r\t");
        check(r"\x41\a\v\'\U0001F600", Escapes::Json, br"\x41\a\v\'\U0001F600");
        check(r"\x41\a\v\'\U0001F600", Escapes::Go, "A\x07\x0b'😀".as_bytes());
        check(r"\xD0\xBC\xff", Escapes::Go, b"\xd0\xbc\xff");
        check(r"\xZZ\x4", Escapes::Go, br"\xZZ\x4");
        check(r#"a\]b\"c\\d\n\u0041"#, Escapes::StructuredData, br#"a]b"c\d\n\u0041"#);
        check(r"a\", Escapes::Json, br"a\");
    }

    #[test]
    fn unicode_sequences_are_joined_or_replaced() {
        check(r"\u00e9\uD83D\uDE00!", Escapes::Json, "é😀!".as_bytes());
        check(r"\ud83d", Escapes::Json, "\u{fffd}".as_bytes());
        check(r"\ud83dx", Escapes::Json, "\u{fffd}x".as_bytes());
        check(r"\ud83d\u0041", Escapes::Json, "\u{fffd}A".as_bytes());
        check(r"\ud83d\ud83d\ude00", Escapes::Json, "\u{fffd}😀".as_bytes());
        check(r"\ude00", Escapes::Json, "\u{fffd}".as_bytes());
        check(r"\u12", Escapes::Json, "\u{fffd}".as_bytes());
        check(r"\u12x4", Escapes::Json, "\u{fffd}x4".as_bytes());
        check(r"\uD83D\u", Escapes::Json, "\u{fffd}\u{fffd}".as_bytes());
        check(r"\Uffffffff", Escapes::Go, "\u{fffd}".as_bytes());
    }

    proptest! {
        #[test]
        fn what_json_escapes_is_read_back(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            check(&quoted[1..quoted.len() - 1], Escapes::Json, text.as_bytes());
            check(&quoted[1..quoted.len() - 1], Escapes::Go, text.as_bytes());
        }

        #[test]
        fn any_bytes_are_unescaped_within_the_bound(text in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'u'), Just(b'd'), Just(b'8'), any::<u8>()], 0..60)) {
            for escapes in [Escapes::Json, Escapes::Go, Escapes::StructuredData] {
                let mut out = Vec::new();
                append(&text, escapes, &mut out);
                prop_assert!(out.len() * 2 <= text.len() * 3);
            }
        }
    }
}
