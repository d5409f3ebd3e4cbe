//! JSON strings.

/// Looked at in one go, so that the compiler can compare them side by side.
const CHUNK: usize = 32;

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Appends `text` as a JSON string with its quotes.
pub fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    unquoted(text, out);
    out.push(b'"');
}

/// Appends what stands between the quotes.
pub fn unquoted(text: &str, out: &mut Vec<u8>) {
    for chunk in text.as_bytes().chunks(CHUNK) {
        // Not `any`: without an early end this becomes a few vector instructions.
        if chunk.iter().fold(false, |special, byte| special | is_special(*byte)) {
            chunk.iter().for_each(|byte| escape(*byte, out));
        } else {
            out.extend_from_slice(chunk);
        }
    }
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
        _ => out.push(byte),
    }
}

/// How many bytes of `text`, whole characters and at least one, fit into `room` bytes once escaped.
pub fn fitting(text: &str, room: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += match character {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            '\0'..' ' => 6,
            _ => character.len_utf8(),
        };
        if used > room && at > 0 {
            return at;
        }
    }
    text.len()
}
