//! Which rules a text can have anything for: most texts have nothing for any.

use aho_corasick::{Span, packed};
use memchr::memmem;

use super::{Matcher, Rule};

/// Sees each text once for all literals, and once more for each rule without.
#[derive(Debug)]
pub(super) struct Prefilter {
    literals: Vec<&'static str>,
    /// The rule of each literal, as a bit.
    owners: Vec<u64>,
    /// All of those.
    owned: u64,
    /// `None`: a machine without the instructions for it, or no literals.
    searcher: Option<packed::Searcher>,
}

impl Prefilter {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let (mut literals, mut owners) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            if let Matcher::BuiltIn(rule) = &rule.matcher {
                literals.extend_from_slice(rule.literals());
                owners.resize(literals.len(), 1 << index);
            }
        }
        let searcher = packed::Searcher::new(&literals);
        let owned = owners.iter().fold(0, |all, owner| all | owner);
        Self { literals, owners, owned, searcher }
    }

    /// Those of the `wanted` rules that can have a match in the text.
    pub(super) fn hits(&self, rules: &[Rule], text: &str, wanted: u64) -> u64 {
        let mut hits = self.of_literals(text.as_bytes(), wanted & self.owned);
        for (index, rule) in each(rules, wanted & !self.owned) {
            let may_match = match &rule.matcher {
                Matcher::BuiltIn(rule) => rule.may_be_in(text),
                Matcher::Pattern(pattern) => pattern.regex.is_match(text),
            };
            hits |= u64::from(may_match) << index;
        }
        hits
    }

    fn of_literals(&self, bytes: &[u8], wanted: u64) -> u64 {
        let mut hits = 0;
        let Some(searcher) = &self.searcher else {
            for (literal, owner) in self.literals.iter().zip(&self.owners) {
                if wanted & !hits & owner != 0 && memmem::find(bytes, literal.as_bytes()).is_some() {
                    hits |= owner;
                }
            }
            return hits;
        };
        let mut from = 0;
        while hits != wanted
            && let Some(found) = searcher.find_in(bytes, Span { start: from, end: bytes.len() })
        {
            hits |= self.owners[found.pattern().as_usize()] & wanted;
            from = found.end();
        }
        hits
    }
}

/// The rules of a set.
pub(super) fn each(rules: &[Rule], set: u64) -> impl Iterator<Item = (usize, &Rule)> {
    rules.iter().enumerate().filter(move |(index, _)| set & (1 << index) != 0)
}
