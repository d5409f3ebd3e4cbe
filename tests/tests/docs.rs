//! The commands of the agent's guide, run as they stand, by a shell, beside an agent that has done something.

use std::fs;
use std::process::Output;

use sluice_harness::check::Tenants;
use sluice_harness::guide;
use sluice_harness::process::our_binary;
use sluice_harness::write;
use sluice_tests::{Plan, Stack};

/// The address that the guide takes for the agent's.
const DOCUMENTED: &str = "127.0.0.1:2020";

/// Runs commands where `agent.yaml` is, with the programs in the path; the first that fails ends it.
fn run(stack: &Stack, commands: &str) -> Output {
    let program = our_binary("sluice-agent").expect("an agent");
    let mut shell = guide::shell(commands, program.parent().expect("its directory"));
    shell.current_dir(stack.path("")).output().expect("a shell")
}

#[tokio::test]
async fn commands_of_the_agents_guide_work() {
    let mut stack = Stack::start("docs", &Plan::default()).await.expect("a stack");
    let manifest = write::run(&write::Config { lines: Some(2_000), ..stack.writer() }).expect("written");
    stack.check_files(&manifest, Tenants::single("main")).await.expect("read").assert_clean(0);
    stack.closed_books().await.expect("books that balance");
    // As `ship` keeps them.
    let letter = r#"{"at":"2026-01-01T00:00:00Z","reason":"json","namespace":"shop","lines":["{}"]}"#;
    fs::write(stack.path("state/dead-letters.jsonl"), format!("{letter}\n")).expect("a dead letter");
    let admin = stack.agent_admin().strip_prefix("http://").expect("an address").to_owned();
    let state = stack.path("state").display().to_string();

    let blocks = guide::shell_blocks("agent.md").expect("a guide");
    assert!(blocks.len() >= 5, "the guide has commands: {blocks:?}");
    for block in blocks {
        // `tests/kube` runs those that are for a cluster.
        let here = block.lines().filter(|line| !guide::is_for_cluster(line)).collect::<Vec<_>>().join("\n");
        let (starts, asks): (Vec<&str>, Vec<&str>) =
            here.lines().partition(|line| line.starts_with("sluice-agent run"));
        let asks = asks.join("\n").replace(DOCUMENTED, &admin).replace("/var/lib/sluice", &state);
        let output = run(&stack, &asks);
        let [said, faults] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "{asks}\n{said}\n{faults}");
        assert!(!faults.contains("error"), "{asks}\n{said}\n{faults}");
        for start in starts {
            stack.agent.stop(sluice_tests::PATIENCE).await.expect("an end");
            // Until it is told to end, which it does in order.
            let output = run(&stack, &format!("timeout --preserve-status --signal=TERM 3 {start}"));
            let faults = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && faults.contains("agent stopped"), "{start}\n{faults}");
            stack.agent.restart().expect("another");
            stack.wait_for_agent().await.expect("ready");
        }
    }
}
