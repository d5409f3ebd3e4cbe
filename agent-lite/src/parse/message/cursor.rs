//! Reads a text from its front.

use std::ops::Range;

use memchr::{memchr, memchr2};

/// A place in a text. What it gives are ranges of the whole text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes to `at`, an offset that lies between characters.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// What is left, as bytes: it may be looked at before the place is known to lie between characters.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    pub(super) fn rest_range(&self) -> Range<usize> {
        self.at..self.text.len()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Steps over `expected`.
    pub(super) fn eat(&mut self, expected: &str) -> Option<()> {
        self.rest().starts_with(expected.as_bytes()).then(|| self.at += expected.len())
    }

    /// Steps over spaces and tabs.
    pub(super) fn eat_blanks(&mut self) {
        self.at += self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    }

    /// What stands before the next `end`, an ASCII character, and steps over both.
    pub(super) fn until(&mut self, end: u8) -> Option<Range<usize>> {
        let length = memchr(end, self.rest())?;
        let start = self.at;
        self.at += length + 1;
        Some(start..start + length)
    }

    /// What stands before the next space or the end, at least one byte; steps over it and the space.
    pub(super) fn word(&mut self) -> Option<Range<usize>> {
        let length = memchr(b' ', self.rest()).unwrap_or(self.rest().len());
        let start = self.at;
        self.at = (start + length + 1).min(self.text.len());
        (length > 0).then_some(start..start + length)
    }

    /// What bytes for which `is_part` holds stand next, perhaps none; ASCII bytes, or all that are not.
    pub(super) fn run(&mut self, is_part: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.at;
        self.at += self.rest().iter().take_while(|byte| is_part(**byte)).count();
        start..self.at
    }

    /// A string in double quotes, without them; within it a backslash takes what follows for its own.
    pub(super) fn quoted(&mut self) -> Option<Range<usize>> {
        let inner = self.rest().strip_prefix(b"\"")?;
        let mut length = 0;
        loop {
            length += memchr2(b'"', b'\\', inner.get(length..)?)?;
            if inner[length] == b'"' {
                break;
            }
            length += 2;
        }
        let start = self.at + 1;
        self.at = start + length + 1;
        Some(start..start + length)
    }

    /// A number of exactly that many digits, at most nine.
    pub(super) fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.rest().get(..count)?;
        let value = digits.iter().try_fold(0, |value, digit| Some(value * 10 + char::from(*digit).to_digit(10)?))?;
        self.at += count;
        Some(value)
    }

    /// The digits of a fraction of a second, one to nine, in nanoseconds.
    pub(super) fn fraction(&mut self) -> Option<i32> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        (1..=9).contains(&count).then_some(())?;
        let value = i32::try_from(self.digits(count)?).ok()?;
        (count..9).try_fold(value, |value, _| value.checked_mul(10))
    }
}
