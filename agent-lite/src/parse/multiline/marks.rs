//! What traces are known by. Facts: Java `Throwable.printStackTrace`, CPython `traceback.py`, Go
//! `runtime/panic.go` and `runtime/traceback.go`, Ruby `error.c`, Node.js `lib/internal/process/execution.js`
//! and `util.inspect`, .NET `Exception.ToString` and `SimpleConsoleFormatter`, RFC 7468.

use aho_corasick::packed;
use memchr::memmem;

use super::{Languages, Mode};

/// Bytes of a line in which a mark is looked for: a class stands before its message.
const LOOK: usize = 1024;

/// What a word says about a line that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Exception,
    Panic,
    Traceback,
    RubyPlace,
    Pem,
}

/// The words of some languages, looked for all at once.
#[derive(Debug)]
pub(super) struct Marks {
    words: Vec<(&'static str, Word)>,
    searcher: Option<packed::Searcher>,
}

impl Marks {
    pub(super) fn new(languages: Languages) -> Self {
        let mut words = Vec::new();
        if languages.any_of(Languages::INDENTED.or(Languages::PYTHON)) {
            words.extend(["Exception", "Error", "Throwable"].map(|word| (word, Word::Exception)));
        }
        if languages.any_of(Languages::PYTHON.or(Languages::RUBY)) {
            words.push(("Traceback (most recent call last)", Word::Traceback));
        }
        if languages.any_of(Languages::GO) {
            words.push(("panic", Word::Panic));
        }
        if languages.any_of(Languages::RUBY) {
            words.push((".rb:", Word::RubyPlace));
        }
        if languages.any_of(Languages::PEM) {
            words.push(("-----BEGIN ", Word::Pem));
        }
        let searcher = packed::Searcher::new(words.iter().map(|(word, _)| word));
        Self { words, searcher }
    }

    /// The first word of the line that says anything.
    pub(super) fn find(&self, line: &[u8]) -> Option<Word> {
        let head = &line[..line.len().min(LOOK)];
        let mut found = None;
        let mut from = 0;
        while let Some((word, start, end)) = self.next(head, from) {
            let ends = !line.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            match word {
                // `Exception Group Traceback` is a traceback.
                Word::Exception | Word::Panic if ends => found = found.or(Some(word)),
                Word::Exception | Word::Panic => {}
                Word::RubyPlace if !is_ruby_place(&line[start..]) => {}
                Word::Traceback | Word::RubyPlace | Word::Pem => return Some(word),
            }
            from = end;
        }
        found
    }

    fn next(&self, head: &[u8], from: usize) -> Option<(Word, usize, usize)> {
        match &self.searcher {
            Some(searcher) => {
                let found = searcher.find_in(head, aho_corasick::Span { start: from, end: head.len() })?;
                Some((self.words[found.pattern().as_usize()].1, found.start(), found.end()))
            }
            // A machine without the instructions for it.
            None => (self.words.iter())
                .filter_map(|(word, kind)| {
                    let start = from + memmem::find(&head[from..], word.as_bytes())?;
                    Some((*kind, start, start + word.len()))
                })
                .min_by_key(|(_, start, _)| *start),
        }
    }
}

/// What only the beginning of a line says.
pub(super) fn at_start(languages: Languages, line: &[u8]) -> Option<Mode> {
    if languages.any_of(Languages::GO) && matches!(line[0], b'g' | b'p' | b'f' | b'r' | b'S' | b'u') {
        if line.starts_with(b"goroutine ") && line.ends_with(b"]:") {
            return Some(Mode::GoFrames);
        }
        if is_go_failure(line) {
            return Some(Mode::GoBetween);
        }
    }
    if languages.any_of(Languages::NODE) && matches!(line[0], b'/' | b'n' | b'f') && is_node_place(line) {
        return Some(Mode::NodePlace);
    }
    let is_held = languages.any_of(Languages::DOTNET) && is_dotnet_logger(line)
        || languages.any_of(Languages::JAVA.or(Languages::DOTNET)) && begins_with_a_class(line);
    is_held.then_some(Mode::Trace)
}

fn is_go_failure(line: &[u8]) -> bool {
    [&b"panic: "[..], b"fatal error: ", b"runtime: ", b"SIGQUIT: ", b"SIGABRT: ", b"unexpected fault address "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// `/app/index.js:3`, `file:///app/index.mjs:3`, `node:internal/fs/utils:347`.
fn is_node_place(line: &[u8]) -> bool {
    if !line.last().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let Some(colon) = line.iter().rposition(|byte| *byte == b':') else { return false };
    let (path, number) = (&line[..colon], &line[colon + 1..]);
    number.iter().all(u8::is_ascii_digit)
        && (line.starts_with(b"node:internal/")
            || [&b".js"[..], b".mjs", b".cjs", b".ts"].iter().any(|suffix| path.ends_with(suffix)))
}

/// `fail: Shop.Payments.Charge[13]`: the message follows, indented.
fn is_dotnet_logger(line: &[u8]) -> bool {
    line.ends_with(b"]")
        && [&b"trce: "[..], b"dbug: ", b"info: ", b"warn: ", b"fail: ", b"crit: "]
            .iter()
            .any(|level| line.starts_with(level))
}

/// `shop.payment.CardRefused: no such card`: names with dots, of which the last begins with a capital.
fn begins_with_a_class(line: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.');
    let length = line.iter().take(LOOK).position(|byte| !is_of_name(byte)).unwrap_or(line.len());
    let name = &line[..length];
    let dots = name.iter().filter(|byte| **byte == b'.').count();
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    dots >= 2
        && name[0].is_ascii_alphabetic()
        && last.first().is_some_and(u8::is_ascii_uppercase)
        && matches!(line.get(length), None | Some(b':'))
}

/// `app.rb:7:in 'Shop#charge'`.
pub(super) fn is_ruby_place(line: &[u8]) -> bool {
    let Some(at) = memmem::find(line, b".rb:") else { return false };
    let rest = &line[at + 4..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && (rest[digits..].starts_with(b":in '") || rest[digits..].starts_with(b":in `"))
}

/// The last line of a traceback: `KeyboardInterrupt`, `shop.CardError: refused`.
pub(super) fn says_what_was_raised(line: &[u8]) -> bool {
    let is_of_name =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'<' | b'>') || !byte.is_ascii();
    let length = line.iter().position(|byte| !is_of_name(byte)).unwrap_or(line.len());
    let is_name = line.first().is_some_and(|byte| !byte.is_ascii_digit() && *byte != b'.') && length > 0;
    // Before 2.6 and after 2.4 Ruby wrote its traces as Python does.
    is_name && matches!(line.get(length), None | Some(b':')) || is_ruby_place(line)
}

pub(super) fn announces_another_traceback(line: &[u8]) -> bool {
    line == b"During handling of the above exception, another exception occurred:"
        || line == b"The above exception was the direct cause of the following exception:"
}

/// A call, where it is, and who started the goroutine.
pub(super) fn is_go_frame(line: &[u8]) -> bool {
    match line {
        [b'\t', ..] => true,
        [.., b')'] => {
            let before = line.iter().position(|byte| *byte == b'(').unwrap_or(0);
            before > 0 && !line[..before].contains(&b' ')
        }
        _ => line.starts_with(b"created by ") || line.starts_with(b"..."),
    }
}

/// What stands around goroutines: empty lines, the next one, the signal, registers.
pub(super) fn goes_on_between_goroutines(line: &[u8]) -> Option<Mode> {
    let Some(first) = line.first() else { return Some(Mode::GoBetween) };
    if *first == b'\t' || *first == b'[' && line.starts_with(b"[signal ") || is_go_failure(line) {
        return Some(Mode::GoBetween);
    }
    if line.starts_with(b"goroutine ") || line == b"runtime stack:" {
        return Some(Mode::GoFrames);
    }
    let is_tail = line.starts_with(b"exit status ") || line.starts_with(b"PC=") || is_go_register(line);
    is_tail.then_some(Mode::GoBetween)
}

/// `rip    0x46b5e1`.
fn is_go_register(line: &[u8]) -> bool {
    let Some(space) = line.iter().take(8).position(|byte| *byte == b' ') else { return false };
    let value = line[space..].trim_ascii_start();
    line[..space].iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && value.starts_with(b"0x")
}

/// Base64, or a header of an encrypted key, or the empty line after it.
pub(super) fn is_of_a_key(line: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let line = line.trim_ascii();
    line.iter().all(is_base64) && line.len() <= 96
        || line.starts_with(b"Proc-Type: ")
        || line.starts_with(b"DEK-Info: ")
        || line.starts_with(b"Version: ")
        || line.starts_with(b"Comment: ")
}
