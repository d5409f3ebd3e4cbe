//! A message with and without secrets: no panic, JSON stays JSON, and the whole is as large as it may be.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice_agent::redact::{Config, Key, Outcome, Redactor};

const RULES: &str = r#"
hash_key_env: KEY
rules:
- bearer-token
- aws-key
- jwt
- private-key
- {name: email, action: hash}
- {name: card-number, action: hash}
- iban
- {name: order, regex: 'order=(?P<secret>\d+)'}
- {name: line, regex: '(?m)^pin: \d{4}$'}
"#;

thread_local! {
    static REDACTOR: RefCell<Redactor> = RefCell::new({
        let env = |_: &str| Some("0123456789abcdef".to_owned());
        let config = sluice_settings::from_str(RULES, &env, |node| Config::read(node, &env)).expect("rules");
        Redactor::new(&config, Some(Key::new("0123456789abcdef").expect("a key")))
    });
}

fuzz_target!(|text: &str| {
    REDACTOR.with_borrow_mut(|redactor| {
        let scope = redactor.scope("shop");
        let Outcome::Changed(changed) = redactor.apply(text, scope) else { return };
        assert_ne!(changed, text);
        // What is shortest to match, four digits, against the longest mark, and six bytes for one of JSON.
        assert!(changed.len() <= text.len() * 6 + 64 * (1 + text.len() / 4), "{} of {}", changed.len(), text.len());
        // Numbers may be out of range: then it is JSON that no tree can hold.
        if let Ok(before) = serde_json::from_str::<Value>(text)
            && (before.is_object() || before.is_array())
        {
            let after: Value = serde_json::from_str(changed).expect("what was JSON is JSON");
            assert!(is_like(&before, &after), "{text} became {changed}");
        }
    });
});

fn is_like(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.len() == after.len()
                && before.iter().all(|(name, value)| after.get(name).is_some_and(|after| is_like(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len() && before.iter().zip(after).all(|(before, after)| is_like(before, after))
        }
        (Value::String(_) | Value::Number(_), Value::String(_)) => true,
        _ => before == after,
    }
}
