//! Any text, read in every way: faults, never a panic, and never more than the bounds allow.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sluice_settings::Node;

fn read(node: &Node<'_>, depth: usize) {
    let _ = (node.text(), node.file(), node.bool(), node.integer(0_u8..=9), node.number(0.0..=1.0));
    let _ = (node.bytes(0..=9), node.duration(Duration::ZERO..=Duration::MAX), node.one_of(&[("a", 1)]));
    node.map(|map| Some((map.required("a").text().is_some(), map.choice(&["b", "c"]).is_some())));
    if depth < 2 * sluice_settings::MAX_DEPTH {
        node.list().for_each(|item| read(&item, depth + 1));
        node.entries().for_each(|(_, value)| read(&value, depth + 1));
    }
}

fuzz_target!(|text: &str| {
    let env = |name: &str| (name.len() == 1).then(|| name.repeat(9));
    let faults = sluice_settings::from_str(text, &env, |root| {
        read(root, 0);
        Some(())
    });
    let _ = faults.map_err(|faults| faults.to_string());
});
