//! The time in which no agent ran.

use serde_json::Value;
use sluice_wire::payload::Checker;

use super::*;

fn start(dir: &Path) -> Agent {
    Agent::start(config(dir, ""), Metrics::new().unwrap(), None).unwrap()
}

/// Reason, begin and end of each gap that waits to be sent.
fn told(agent: &mut Agent) -> Vec<[String; 3]> {
    agent.lanes.cut_all();
    let lane = agent.lanes.lane(Category::Dataplane, &"sluice-agent".into());
    let mut records: Vec<Value> = Vec::new();
    for block in agent.lanes.queue(lane).iter() {
        let mut checker = Checker::default();
        let raw = checker.decode(block.header.encoding, block.header.raw_len as usize, &block.payload).unwrap();
        records.extend(raw.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()));
    }
    let field = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let gap = |record: &Value| {
        assert_eq!([field(record, "unit"), field(record, "log_type")], ["sluice-agent", "dataplane"]);
        ["sluice_gap_reason", "sluice_gap_since", "sluice_gap_until"].map(|name| field(record, name))
    };
    records.iter().map(gap).collect()
}

fn last_write(dir: &Path) -> String {
    let nanoseconds = Store::new(&dir.join("state")).load().written_ns.unwrap();
    let mut text = Vec::new();
    sluice_wire::time::write(nanoseconds, &mut text);
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn the_time_without_an_agent_is_told_until_that_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = start(dir.path());
    assert_eq!(told(&mut agent), [[""; 3]; 0], "nobody was there before");
    assert_eq!(agent.metrics.absence_seconds.get(), 0.0);
    drop(agent);

    let last_known = last_write(dir.path());
    let mut agent = start(dir.path());
    let first = told(&mut agent);
    assert_eq!((first.len(), &*first[0][0], &first[0][1]), (1, "absent", &last_known));
    assert!(first[0][2] > last_known && agent.metrics.absence_seconds.get() > 0.0);
    // Killed before it was sent.
    drop(agent);

    let mut agent = start(dir.path());
    let both = told(&mut agent);
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    // Since that start wrote down where it began: the kernel's clock of files is a little late.
    assert!(both[1][1] > first[0][1] && both[1][2] > first[0][2], "{both:?}");
    let lane = agent.lanes.lane(Category::Dataplane, &"sluice-agent".into());
    let block = agent.lanes.remove(lane, 0).unwrap();
    agent.positions.acknowledge(block.shares());
    agent.write_down();
    drop(agent);

    let mut agent = start(dir.path());
    assert_eq!(told(&mut agent).len(), 1, "only the last one");
}

#[tokio::test]
async fn absences_that_nobody_takes_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Vec::new();
    for _ in 0..20 {
        let mut agent = start(dir.path());
        let now = told(&mut agent);
        assert!(now.len() <= 8, "{now:?}");
        last = now;
    }
    let (first, latest) = (&last[0], &last[7]);
    assert!(first[2] < latest[1] && latest[1] < latest[2], "{last:?}");
    let mut agent = start(dir.path());
    assert!(told(&mut agent)[7][2] > latest[2], "it lasts until the latest start");
}

#[tokio::test]
async fn an_agent_that_has_nothing_to_write_down_says_that_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = start(dir.path());
    let snapshot = agent.snapshot(false);
    agent.store.write(&snapshot).unwrap();
    agent.written = Some(snapshot);
    let path = dir.path().join("state/checkpoint.json");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let before = fs::read(&path).unwrap();
    agent.begin_checkpoint();
    let (_, _, result) = agent.writing.join_next().await.unwrap().unwrap();
    result.unwrap();
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > long_ago + Duration::from_secs(3000));
    assert_eq!(fs::read(&path).unwrap(), before);
}
