//! The container runtimes' line format: `<RFC 3339 nano> <stdout|stderr> <tags> <content>`.
//!
//! Facts (kubernetes `cri-api/pkg/apis/runtime/v1/constants.go`, `cri-client/pkg/logs/logs.go`;
//! containerd `internal/cri/io/logger.go`): tags are split on `:` and the first is `P` (more of the
//! line follows) or `F` (the line ends here), the others are for later versions to define; a piece can
//! be of any length; stdout and stderr pieces interleave in one file.

use memchr::{memchr, memmem};
use sluice_wire::{Stream, time};

pub use super::Piece;

/// Takes a line (without its newline) apart. `None`: torn.
pub fn parse<'a>(line: &'a [u8], times: &mut time::Parser) -> Option<Piece<'a>> {
    // The longest time has 35 bytes.
    let end = memchr(b' ', &line[..line.len().min(36)])?;
    let (time_text, rest) = (&line[..end], &line[end + 1..]);
    let time = times.parse(time_text)?;
    let (stream, rest) = match rest.split_at_checked(7)? {
        (b"stdout ", rest) => (Stream::Stdout, rest),
        (b"stderr ", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let (tags, content) = match rest {
        // By far the most lines.
        [b'F', b' ', content @ ..] => (&b"F"[..], content),
        _ => match memchr(b' ', rest) {
            Some(space) => (&rest[..space], &rest[space + 1..]),
            None => (rest, &rest[rest.len()..]),
        },
    };
    let partial = match tags.split(|byte| *byte == b':').next() {
        Some(b"F") => false,
        Some(b"P") => true,
        _ => return None,
    };
    Some(Piece { time_text, time, stream, partial, content })
}

/// Looks for a whole line inside a torn one: after a short write the runtime goes on with the next
/// line's header in the middle of the line, and a node that crashed leaves NULs before it. Gives the offset
/// of the header (of it [`leading_nuls`](super::leading_nuls) are NULs) and the piece.
pub fn resynchronise<'a>(torn: &'a [u8], times: &mut time::Parser) -> Option<(usize, Piece<'a>)> {
    let mut headers: Vec<usize> =
        [&b" stdout "[..], b" stderr "].iter().flat_map(|word| memmem::find_iter(torn, word)).collect();
    headers.sort_unstable();
    headers.into_iter().find_map(|space| {
        let (shortest, longest) = (20, 35);
        (shortest..=longest.min(space)).find_map(|length| {
            let start = space - length;
            Some((start, parse(&torn[start..], times)?))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(line: &str) -> Option<Piece<'_>> {
        parse(line.as_bytes(), &mut time::Parser::default())
    }

    #[test]
    fn lines_as_the_runtimes_write_them() {
        let expect = |line: &str, stream, partial, content: &str| {
            let piece = piece(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((piece.stream, piece.partial, piece.content), (stream, partial, content.as_bytes()), "{line}");
        };
        expect("2025-10-26T10:15:30.123456789Z stdout F hello world", Stream::Stdout, false, "hello world");
        expect("2025-10-26T10:15:30.12Z stderr P half", Stream::Stderr, true, "half");
        expect("2025-10-26T10:15:30+08:00 stdout F ", Stream::Stdout, false, "");
        expect("2025-10-26T10:15:30Z stdout F", Stream::Stdout, false, "");
        expect("2025-10-26T10:15:30Z stdout P:later:tag x y", Stream::Stdout, true, "x y");
        expect("2025-10-26T10:15:30Z stdout F:later", Stream::Stdout, false, "");
    }

    #[test]
    fn torn_lines_are_none() {
        for line in [
            "",
            "2025-10-26T10:15:30Z",
            "2025-10-26T10:15:30Z stdout",
            "2025-10-26T10:15:30Z stdin F x",
            "x stdout F y",
            "2025-10-26T10:15:30Z stdout Q x",
            "2025-10-26T10:15:30Z  stdout F x",
            "\0\0\0\0",
        ] {
            assert_eq!(piece(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_glued_to_a_torn_one_is_found() {
        // VictoriaLogs#1217: a short write, then the next line.
        let torn = b"2026-03-10T16:03:15.1+08:00 stdout 2026-03-10T16:03:15.25+08:00 stdout F + true";
        let mut times = time::Parser::default();
        assert_eq!(parse(torn, &mut times), None);
        let (at, found) = resynchronise(torn, &mut times).unwrap();
        assert_eq!((at, found.content), (35, &b"+ true"[..]));
        assert_eq!(resynchronise(b"no header stdout F in here", &mut times), None);
    }

    #[test]
    fn nuls_before_a_line_are_stepped_over_and_told() {
        let mut times = time::Parser::default();
        for nuls in [1, 19, 20, 21, 35, 36, 4096, 100_000] {
            for time in ["2025-10-26T10:15:30Z", "2025-10-26T10:15:30.123456789+02:00"] {
                let mut line = vec![0; nuls];
                line.extend_from_slice(format!("{time} stderr F after the crash").as_bytes());
                assert_eq!(parse(&line, &mut times), None);
                let (at, found) = resynchronise(&line, &mut times).unwrap();
                assert_eq!((at, found.time_text), (nuls, time.as_bytes()));
                assert_eq!((at, found.content), (super::super::leading_nuls(&line), &b"after the crash"[..]));
            }
        }
        assert_eq!(resynchronise(&[0; 1000], &mut times), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..200), word in "( stdout | stderr |2025-10-26T10:15:30Z stdout F )") {
            let mut times = time::Parser::default();
            let mut glued = line.clone();
            glued.extend_from_slice(word.as_bytes());
            glued.extend_from_slice(&line);
            for bytes in [line, glued] {
                let _ = parse(&bytes, &mut times);
                let _ = resynchronise(&bytes, &mut times);
            }
        }
    }
}
