//! What a node may do to an agent: each costs itself only, is said in a metric, and loses nothing.

use sluice_harness::check::Tenants;
use sluice_harness::shape::Mix;
use sluice_harness::write;
use sluice_tests::{PATIENCE, Plan, Stack, confine};

/// A stack whose agent runs in namespaces of its own, after `script`.
async fn confined(name: &str, script: impl FnOnce(&Stack) -> String) -> Stack {
    let mut stack = Stack::start(name, &Plan::default()).await.expect("a stack");
    stack.agent.stop(PATIENCE).await.expect("stopped");
    let script = script(&stack);
    confine(stack.agent.spec_mut(), &script);
    stack.agent.restart().expect("started");
    stack.wait_for_agent().await.expect("ready");
    stack
}

#[tokio::test]
async fn a_full_state_directory_is_counted_and_shipping_goes_on() {
    let stack =
        confined("full-state", |stack| format!("mount -t tmpfs -o size=64k tmpfs {}", stack.path("state").display()))
            .await;
    let writer = write::Config { containers: 5, lines: Some(50_000), ..stack.writer() };
    let manifest = write::run(&writer).expect("written");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
    stack.until_agent("sluice_agent_unringed_blocks_total", &[], |blocks| blocks > 0.0).await.expect("counted");
    stack.until_agent("sluice_agent_checkpoint_errors_total", &[], |errors| errors > 0.0).await.expect("counted");
}

#[tokio::test]
async fn out_of_inotify_watches_files_are_found_by_scan() {
    let stack = confined("no-watches", |_| "echo 1 > /proc/sys/user/max_inotify_watches".to_owned()).await;
    let mix = Mix { partial: 0.1, ..Mix::default() };
    let writer = write::Config { containers: 20, lines: Some(20_000), mix, ..stack.writer() };
    let manifest = write::run(&writer).expect("written");
    stack.until_agent("sluice_agent_scan_only", &[], |only| only > 0.0).await.expect("said");
    let report = stack.check_files(&manifest, Tenants::single("main")).await.expect("read");
    report.assert_clean(0);
}
