//! Every line that reaches the disk of a real node arrives once: through rotations, crash loops, pods that live for
//! a moment, removed pods, the sudden end of the agent, and without gateway or API server for a while.
//!
//! MINUTES   how long pods write, for each test; default: 2
//! SEED      of the lines and the moments; default: a random one
//! FAULTS    what befalls it, out of `agent gateway api`; default: all of them

use std::time::Duration;

use sluice_harness::guide;
use sluice_kube_tests::cluster::Cluster;
use sluice_kube_tests::pods;
use sluice_kube_tests::rig::{self, Fault, Kind, Plan, Run};
use tokio::sync::Mutex;

/// There is one node.
static NODE: Mutex<()> = Mutex::const_new(());

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

async fn every_line_once(agent: Kind) -> Run {
    let plan = Plan {
        agent,
        duration: Duration::from_secs_f64(60.0 * from_env("MINUTES").unwrap_or(2.0)),
        faults: match std::env::var("FAULTS") {
            Ok(names) => names.split_whitespace().map(|name| name.parse().expect("a fault")).collect(),
            Err(_) => Fault::ALL.into(),
        },
        seed: from_env("SEED").unwrap_or_else(rand::random),
    };
    println!("{agent:?}: SEED={} for {:?}", plan.seed, plan.duration);
    let run = rig::run(&plan).await.expect("a node");
    println!("{agent:?}, SEED={}:\n{}", plan.seed, run.verdict);
    let failures = run.verdict.failures();
    assert!(failures.is_empty(), "SEED={}: {}", plan.seed, failures.join(", "));
    run
}

/// What the guide has for a cluster, run beside an agent that it has told of.
fn check_guide(cluster: &Cluster) {
    let blocks = guide::shell_blocks("agent.md").expect("a guide").concat();
    let commands: Vec<&str> = blocks.lines().filter(|line| guide::is_for_cluster(line)).collect();
    let expected =
        [("get events", format!("pod/{}-0", pods::WRONG)), ("exec", "OK: every line was acknowledged".to_owned())];
    assert_eq!(commands.len(), expected.len(), "{commands:?}");
    for (command, (verb, said)) in commands.into_iter().zip(expected) {
        let all = cluster.run(command).expect("a command that works");
        println!("{command}\n{all}");
        assert!(command.contains(verb) && all.contains(&said), "{command}\n{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_on_the_machine_brings_every_line_once() {
    let _alone = NODE.lock().await;
    every_line_once(Kind::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_pod_brings_every_line_once() {
    let _alone = NODE.lock().await;
    let run = every_line_once(Kind::Pod).await;
    check_guide(run.cluster());
}
