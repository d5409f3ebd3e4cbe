//! Lines of a stream: whatever they are, joining loses, repeats and reorders nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sluice_agent::parse::multiline::{NAMES, Rule, State, Step};

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let named = NAMES.iter().map(|name| Rule::named(name).expect("a built-in rule"));
    named.chain([Rule::starting(r"^\d{4}-").expect("a pattern")]).collect()
});

fuzz_target!(|text: &[u8]| {
    for rule in RULES.iter() {
        let mut state = State::default();
        let (mut sent, mut pending) = (Vec::new(), None::<Vec<u8>>);
        for line in text.split(|byte| *byte == b'\n') {
            match (rule.step(&mut state, line), &mut pending) {
                (Step::Continues, Some(pending)) => {
                    pending.push(b'\n');
                    pending.extend_from_slice(line);
                }
                (Step::Continues, None) => panic!("a line continues what never began"),
                (Step::Begins, _) => sent.extend(pending.replace(line.to_vec())),
                (Step::Alone, _) => {
                    sent.extend(pending.take());
                    sent.push(line.to_vec());
                }
            }
        }
        sent.extend(pending);
        assert_eq!(sent.join(&b'\n'), text);
    }
});
