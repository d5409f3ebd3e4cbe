//! The agent's half of "once", against a gateway whose every answer a test chooses: what a real one
//! cannot be made to say on demand. End to end, real gateways are used (`tests/`).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sluice_wire::block::Frames;
use sluice_wire::{Block, Category, Stream, push};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

mod connections;
mod direct;

use crate::block::{Portion, Progress, Settings as BlockSettings};
use crate::record::Line;
use crate::ring;
use crate::ship::credential::Credential;
use crate::ship::transport::{Peer, Protocol};
use crate::tail::Known as _;

/// What the gateway says to the next push.
#[derive(Debug, Clone)]
enum Say {
    Verdicts(&'static str),
    ForAll(u16, &'static str),
    /// A proxy's answer.
    Status(u16),
    Never,
}

fn endpoint(address: impl std::fmt::Display, peer: Peer) -> Endpoint {
    Endpoint {
        url: format!("http://{address}").parse().unwrap(),
        peer,
        tls: None,
        credential: Credential::None,
        protocol: Protocol::Http1,
        proxy: None,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_millis(300),
    }
}

#[derive(Debug, Clone)]
struct Gateway {
    journal: JournalId,
    script: Arc<Mutex<VecDeque<Say>>>,
    requests: Arc<Mutex<Vec<Bytes>>>,
    greetings: Arc<AtomicUsize>,
}

impl Gateway {
    async fn start(journal: u8, script: &[Say]) -> (Self, Arc<Endpoint>) {
        let gateway = Self {
            journal: JournalId([journal; 16]),
            script: Arc::new(Mutex::new(script.iter().cloned().collect())),
            requests: Arc::default(),
            greetings: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = endpoint(listener.local_addr().unwrap(), Peer::Gateway);
        let app = Router::new().route(push::PATH, get(Self::greet).post(Self::push)).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (gateway, Arc::new(endpoint))
    }

    async fn greet(State(gateway): State<Self>) -> String {
        gateway.greetings.fetch_add(1, Ordering::SeqCst);
        serde_json::to_string(&push::Hello::new(gateway.journal)).unwrap()
    }

    async fn push(State(gateway): State<Self>, body: Bytes) -> Response {
        let blocks = Frames::new(body.clone()).count();
        gateway.requests.lock().unwrap().push(body);
        let say = gateway.script.lock().unwrap().pop_front();
        let journal = (push::JOURNAL_HEADER, gateway.journal.to_string());
        match say {
            None => ([journal], push::write_verdicts(&vec![Verdict::Accepted; blocks])).into_response(),
            Some(Say::Verdicts(text)) => ([journal], text).into_response(),
            Some(Say::ForAll(status, verdict)) => {
                (StatusCode::from_u16(status).unwrap(), [(push::VERDICT_HEADER, verdict)]).into_response()
            }
            Some(Say::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
            Some(Say::Never) => std::future::pending().await,
        }
    }

    fn requests(&self) -> Vec<Vec<Block>> {
        let open = |body: &Bytes| Frames::new(body.clone()).map(|frame| frame.unwrap().open().unwrap()).collect();
        self.requests.lock().unwrap().iter().map(open).collect()
    }

    /// Numbers of the blocks in each request.
    fn numbers(&self) -> Vec<Vec<u64>> {
        self.requests().iter().map(|blocks| blocks.iter().map(|block| block.header.number).collect()).collect()
    }
}

struct Agent {
    state: TempDir,
    lanes: Lanes,
    positions: Positions,
    numbers: Numbers,
    dispatch: Dispatch,
    metrics: Metrics,
    progress: Progress,
    end: u64,
}

const SOURCE: u64 = 7;

impl Agent {
    fn new(endpoints: &[Arc<Endpoint>], in_doubt_max: Duration) -> Self {
        Self::with_max_age(endpoints, in_doubt_max, Duration::from_secs(300))
    }

    fn with_max_age(endpoints: &[Arc<Endpoint>], in_doubt_max: Duration, max_age: Duration) -> Self {
        let state = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let pool = pool::Settings { connections: 2, max_age, dns_interval: Duration::from_secs(30) };
        let settings = Settings { endpoints: endpoints.to_vec(), pool, in_doubt_max, dead_letter_bytes: 1 << 20 };
        let (ring, _) = Ring::open(&ring::directory(state.path()), 64 << 20).unwrap();
        let mut numbers = Numbers::draw();
        let positions = Positions::default();
        numbers.reserved(&crate::checkpoint::Snapshot::take(numbers, &positions, None, false));
        Self {
            dispatch: Dispatch::new(settings, state.path(), Some(ring), metrics.clone()),
            lanes: Lanes::new(BlockSettings {
                target_bytes: 1 << 20,
                queued_bytes: 64 << 20,
                lane_queued_bytes: 16 << 20,
                ..BlockSettings::for_tests()
            }),
            positions,
            numbers,
            state,
            metrics,
            progress: Progress::default(),
            end: 0,
        }
    }

    /// Cuts a block of these lines.
    fn cut(&mut self, scope: &str, lines: &[&str]) -> LaneId {
        let id = self.lanes.lane(Category::Application, &scope.into());
        for content in lines {
            let line = Line {
                time_text: b"2025-10-26T10:15:30Z",
                time: 0,
                content: content.as_bytes(),
                common: b"",
                part: None,
                parsed: None,
            };
            self.end += 10;
            self.lanes.push(id, &line, Instant::now());
            self.lanes.cover(id, SOURCE, Stream::Stdout, &mut self.progress, self.end, Portion::of(1));
        }
        self.lanes.cut_all();
        id
    }

    /// Turns the wheel until `done`, at most for five seconds.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !done(self) {
            assert!(Instant::now() < deadline, "it never came to that");
            let now = Instant::now();
            self.lanes.resume(now);
            let wall_ns = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
            let Self { lanes, positions, numbers, dispatch, .. } = self;
            dispatch.send(&mut Desk { lanes, positions, numbers, now, wall_ns });
            let resume = lanes.next_resume().unwrap_or(deadline).min(now + Duration::from_millis(50));
            tokio::select! {
                happening = dispatch.happening() => dispatch.handle(happening, &mut Desk { lanes, positions, numbers, now, wall_ns }),
                () = tokio::time::sleep_until(resume.into()) => {}
            }
        }
    }

    async fn drain(&mut self) {
        self.until(|agent| agent.lanes.is_empty()).await;
    }

    fn stored(&self) -> u64 {
        self.positions.acknowledged(SOURCE, Stream::Stdout)
    }

    fn kept_in_ring(self) -> Vec<u64> {
        let state = self.state;
        drop(self.dispatch);
        let (_, kept) = Ring::open(&ring::directory(state.path()), 64 << 20).unwrap();
        kept.iter().map(|block| block.header.number).collect()
    }
}

async fn one_gateway(script: &[Say]) -> (Gateway, Agent) {
    let (gateway, endpoint) = Gateway::start(1, script).await;
    (gateway, Agent::new(&[endpoint], Duration::from_secs(3600)))
}

#[tokio::test]
async fn an_accepted_block_advances_its_position() {
    let (gateway, mut agent) = one_gateway(&[]).await;
    agent.cut("ns", &["a", "b"]);
    agent.drain().await;
    assert_eq!((agent.stored(), gateway.requests().len()), (20, 1));
}

#[tokio::test]
async fn rule_3_a_block_is_in_the_ring_before_any_verdict() {
    let (gateway, mut agent) = one_gateway(&[Say::Never]).await;
    agent.cut("ns", &["a"]);
    agent.until(|_| !gateway.requests.lock().unwrap().is_empty()).await;
    let sent = gateway.numbers()[0].clone();
    assert_eq!(agent.kept_in_ring(), sent);
}

#[tokio::test]
async fn rule_3_a_block_stays_in_the_ring_until_a_checkpoint_covers_it() {
    let (_, mut agent) = one_gateway(&[]).await;
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert_eq!(agent.dispatch.in_ring(), 1);
    let stored = agent.dispatch.take_stored();
    agent.dispatch.checkpointed(stored);
    assert_eq!(agent.dispatch.in_ring(), 0);
}

#[tokio::test]
async fn rule_4_a_refused_block_and_those_behind_it_get_new_numbers() {
    let script = [Say::Verdicts("retry-after 1 overload\nretry-after 0 behind\n")];
    let (gateway, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["a"]);
    agent.cut("ns", &["b"]);
    agent.drain().await;
    let numbers = gateway.numbers();
    assert_eq!(numbers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(numbers[1][0] > numbers[0][1] && numbers[2][0] > numbers[1][0], "{numbers:?}");
    // Taken back: a restart would not send them beside their successors.
    assert_eq!(agent.kept_in_ring(), numbers[1..].concat());
}

#[tokio::test]
async fn rule_3_the_ring_holds_pieces_that_were_refused_until_it_holds_their_successors() {
    let script = [Say::Verdicts("too-large 100 burst\n"), Say::Verdicts("accepted\nretry-after 60000 limit-bytes\n")];
    let (gateway, mut agent) = one_gateway(&script).await;
    let lane = agent.cut("ns", &["a", "b", "c", "d"]);
    agent.until(|agent| agent.lanes.paused() == 1 && gateway.requests.lock().unwrap().len() == 2).await;
    // The first piece is stored and covered by a checkpoint; the second one waits for a minute.
    let stored = agent.dispatch.take_stored();
    agent.dispatch.checkpointed(stored);
    assert_eq!((agent.stored(), agent.lanes.queue(lane).len()), (0, 1));
    let last = gateway.numbers()[1][1];
    assert!(agent.kept_in_ring().contains(&last), "or a restart would cut the first piece's lines anew");
}

#[tokio::test]
async fn a_rejected_block_is_not_buried_before_those_ahead_of_it_are_decided() {
    let script = [
        Say::Verdicts("retry-after 1 overload\nrejected json\n"),
        Say::Verdicts("accepted\n"),
        Say::Verdicts("rejected json\n"),
    ];
    let (gateway, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["a"]);
    agent.cut("ns", &["b"]);
    agent.until(|_| gateway.requests.lock().unwrap().len() == 2).await;
    assert!(agent.stored() < 20 && agent.metrics.dead_letters.get() == 0);
    agent.drain().await;
    assert_eq!((agent.stored(), agent.metrics.dead_letters.get()), (20, 1));
}

#[tokio::test]
async fn blocks_of_two_producers_do_not_share_a_request_of_their_lane() {
    let (gateway, mut agent) = one_gateway(&[Say::Verdicts("retry-after 1 overload\n")]).await;
    let lane = agent.cut("ns", &["a"]);
    let other = sluice_wire::ProducerId([9; 16]);
    agent.lanes.queue(lane)[0].give_number(BlockId { producer: other, number: 1 }).unwrap();
    agent.lanes.queue(lane)[0].set_doubt(Doubt { journal: gateway.journal, since_ms: u64::MAX / 2 });
    agent.cut("ns", &["b"]);
    agent.drain().await;
    assert_eq!(gateway.requests().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    let producers: Vec<bool> =
        gateway.requests().concat().iter().map(|block| block.header.lane.producer == other).collect();
    assert_eq!(producers, [true, true, false]);
}

#[tokio::test]
async fn a_lane_at_its_limit_tries_with_one_block_and_with_more_once_some_have_passed() {
    let limited = "retry-after 1 limit-bytes\n".to_owned() + &"retry-after 0 behind\n".repeat(19);
    let (gateway, mut agent) = one_gateway(&[Say::Verdicts(limited.leak())]).await;
    for n in 0..20 {
        agent.cut("ns", &[&n.to_string()]);
    }
    agent.drain().await;
    let sizes: Vec<usize> = gateway.requests().iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4]);
}

#[tokio::test]
async fn rule_4_pieces_that_were_numbered_but_not_sent_are_renumbered_with_those_that_were_refused() {
    let script = [
        Say::Verdicts("too-large 100 burst\n"),
        // Makes the pieces go one by one: all are numbered, the first is sent.
        Say::ForAll(400, "retry-after 0 framing"),
        Say::Verdicts("retry-after 1 limit-bytes\n"),
    ];
    let (gateway, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["a", "b", "c", "d", "e", "f"]);
    agent.drain().await;
    let sent: Vec<u64> = gateway.numbers().concat();
    let accepted = &gateway.numbers()[3..].concat();
    assert!(accepted.windows(2).all(|pair| pair[0] < pair[1]), "{sent:?}");
    assert_eq!(agent.stored(), 60);
}

#[tokio::test]
async fn rule_4_one_request_of_a_lane_at_a_time_and_other_lanes_go_on() {
    let (gateway, mut agent) = one_gateway(&[Say::Never]).await;
    let slow = agent.cut("slow", &["a"]);
    agent.until(|_| !gateway.requests.lock().unwrap().is_empty()).await;
    agent.cut("slow", &["b"]);
    let quick = agent.cut("quick", &["c"]);
    agent.until(|agent| agent.lanes.is_lane_empty(quick)).await;
    assert_eq!(agent.lanes.queue(slow).len(), 2);
    let scopes: Vec<String> = gateway.requests().iter().map(|blocks| blocks[0].header.lane.scope.to_string()).collect();
    assert_eq!(scopes, ["slow", "quick"]);
}

#[tokio::test]
async fn rule_4_once_in_doubt_always_in_doubt() {
    // Silence, then a refusal, then a proxy: the first attempt may still be stored.
    let script = [
        Say::Never,
        Say::Verdicts("retry-after 1 overload\n"),
        Say::Status(503),
        Say::Verdicts("unknown journal-failed\n"),
    ];
    let (gateway, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["a"]);
    agent.drain().await;
    let bodies = gateway.requests.lock().unwrap().clone();
    assert_eq!(bodies.len(), 5);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "same bytes, same number");
    assert_eq!(agent.stored(), 10);
}

#[tokio::test]
async fn rule_4_what_is_in_doubt_goes_before_anything_newer_of_its_lane() {
    let (gateway, mut agent) = one_gateway(&[Say::Status(502)]).await;
    agent.cut("ns", &["a"]);
    agent.until(|_| !gateway.requests.lock().unwrap().is_empty()).await;
    agent.cut("ns", &["b"]);
    agent.drain().await;
    let numbers = gateway.numbers();
    assert_eq!(numbers[1][0], numbers[0][0]);
    assert!(numbers.concat().windows(2).all(|pair| pair[0] <= pair[1]), "{numbers:?}");
}

#[tokio::test]
async fn rule_7_a_block_in_doubt_waits_for_the_journal_that_may_hold_it() {
    let (one, first) = Gateway::start(1, &[Say::Status(502), Say::Status(502)]).await;
    let (two, second) = Gateway::start(2, &[Say::Status(502), Say::Status(502)]).await;
    let mut agent = Agent::new(&[first, second], Duration::from_secs(3600));
    agent.cut("ns", &["a"]);
    agent.drain().await;
    // Which of the two is asked first is left to chance.
    let (asked, other) = if one.numbers().is_empty() { (two, one) } else { (one, two) };
    assert_eq!(asked.numbers().concat(), [asked.numbers()[0][0]; 3]);
    assert!(other.numbers().is_empty(), "it may be stored in the journal that was asked");
    assert_eq!(agent.metrics.possible_duplicates.get(), 0);
}

#[tokio::test]
async fn rule_7_after_in_doubt_max_it_goes_elsewhere_under_a_new_number_and_is_counted() {
    let (first, one) = Gateway::start(1, &vec![Say::Status(502); 1000]).await;
    let (second, two) = Gateway::start(2, &[]).await;
    let mut agent = Agent::new(&[one, two], Duration::from_millis(700));
    agent.dispatch.pool.leave_alone(1, Instant::now() + Duration::from_millis(500));
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert!(second.numbers()[0][0] > first.numbers()[0][0]);
    assert_eq!(agent.metrics.possible_duplicates.get(), 1);
}

#[tokio::test]
async fn rule_7_the_doubts_of_a_lane_are_given_up_together() {
    let (first, one) = Gateway::start(1, &vec![Say::Status(502); 1000]).await;
    let mut agent = Agent::new(&[one], Duration::from_secs(3600));
    agent.cut("ns", &["a"]);
    agent.until(|_| !first.requests.lock().unwrap().is_empty()).await;
    agent.cut("ns", &["b"]);
    let lane = agent.cut("ns", &["c"]);
    agent.until(|_| first.requests().last().is_some_and(|blocks| blocks.len() == 3)).await;
    let mut gives_up = |oldest: &[u64]| {
        // Each doubt is as old as said, in seconds.
        let wall_ns = 1_000_000_000_000;
        for (block, age) in agent.lanes.queue(lane).iter_mut().zip(oldest) {
            block.set_doubt(Doubt { journal: JournalId([1; 16]), since_ms: 1_000_000 - age * 1000 });
        }
        agent.dispatch.settings.in_doubt_max = Duration::from_secs(100);
        let Agent { lanes, positions, numbers, dispatch, .. } = &mut agent;
        let mut desk = Desk { lanes, positions, numbers, now: Instant::now(), wall_ns };
        let gone = dispatch.may_go_to(JournalId([2; 16]), lane, &mut desk) > 0;
        (gone, desk.lanes.queue(lane).iter().filter(|block| block.id().is_some()).count())
    };
    assert_eq!(gives_up(&[101, 101, 99]), (false, 3), "the last may still be stored under its number");
    assert_eq!(gives_up(&[101, 101, 101]), (true, 0));
    assert_eq!(agent.metrics.possible_duplicates.get(), 3);
}

#[tokio::test]
async fn a_block_in_doubt_that_has_become_too_large_is_cut_once_its_doubt_is_given_up() {
    let script = [Say::Status(502), Say::Verdicts("too-large 100 burst\n")];
    let (gateway, endpoint) = Gateway::start(1, &script).await;
    let mut agent = Agent::new(&[endpoint], Duration::ZERO);
    agent.cut("ns", &["a", "b", "c", "d"]);
    agent.drain().await;
    let numbers = gateway.numbers();
    assert_eq!(numbers[0], numbers[1], "while in doubt the same bytes");
    assert!(numbers[2].len() == 2 && numbers[2][0] > numbers[1][0]);
    assert_eq!((agent.stored(), agent.metrics.possible_duplicates.get()), (40, 4));
}

#[tokio::test]
async fn a_block_that_is_too_large_is_cut_and_counts_once_its_last_piece_is_stored() {
    let script = [Say::Verdicts("too-large 100 burst\n"), Say::Verdicts("accepted\nretry-after 400 limit-bytes\n")];
    let (gateway, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["a", "b", "c", "d"]);
    agent.until(|_| gateway.requests.lock().unwrap().len() == 2).await;
    assert_eq!(agent.stored(), 0);
    agent.drain().await;
    assert_eq!(agent.stored(), 40);
    let pieces = &gateway.requests()[1];
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece.header.raw_len <= 100));
}

#[tokio::test]
async fn a_record_that_never_fits_and_a_rejected_block_become_dead_letters() {
    let script = [Say::Verdicts("too-large 10 burst\n"), Say::Verdicts("rejected json\n")];
    let (_, mut agent) = one_gateway(&script).await;
    agent.cut("ns", &["too large"]);
    agent.until(|agent| agent.stored() == 10).await;
    agent.cut("ns", &["rejected"]);
    agent.drain().await;
    assert_eq!(agent.stored(), 20);
    assert_eq!(agent.metrics.dead_letters.get(), 2);
    let letters = std::fs::read_to_string(agent.state.path().join("dead-letters.jsonl")).unwrap();
    let letters: Vec<serde_json::Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&letters[0]["reason"], &letters[1]["reason"]), (&"burst".into(), &"json".into()));
    assert!(letters[1]["lines"][0].as_str().unwrap().contains("rejected"));
}

#[tokio::test]
async fn a_request_that_cannot_be_made_out_is_sent_block_by_block() {
    let framing = Say::ForAll(400, "retry-after 0 framing");
    let (gateway, mut agent) = one_gateway(&[framing.clone(), Say::Verdicts("accepted\n"), framing]).await;
    for scope in ["a", "b", "c"] {
        agent.cut(scope, &[scope]);
    }
    agent.drain().await;
    assert_eq!(gateway.requests().iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1, 1]);
    assert_eq!(agent.metrics.requests.get(), 4);
    // The one that cannot be made out by itself is a dead letter, the others are stored.
    assert_eq!(agent.metrics.dead_letters.get(), 1);
    assert_eq!(agent.metrics.acknowledged_records.get(), 2);
}

#[tokio::test]
async fn the_blocks_of_a_bad_request_go_alone_and_others_do_not() {
    let framing = Say::ForAll(400, "retry-after 60000 framing");
    let (gateway, mut agent) = one_gateway(&[framing]).await;
    let scope: Arc<str> = "first".into();
    agent.lanes.lane(Category::Application, &scope);
    agent.cut("a", &["a"]);
    agent.cut("b", &["b"]);
    agent.until(|agent| agent.lanes.paused() == 2).await;
    agent.cut("first", &["x"]);
    agent.cut("last", &["y"]);
    agent.lanes.resume(Instant::now() + Duration::from_secs(120));
    agent.dispatch.turn = 0;
    agent.drain().await;
    assert_eq!(gateway.requests().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1, 1]);
}

#[tokio::test]
async fn a_refused_lane_waits_and_its_neighbour_does_not() {
    let script = [Say::Verdicts("retry-after 60000 limit-bytes\naccepted\n")];
    let (_, mut agent) = one_gateway(&script).await;
    let limited = agent.cut("a", &["a"]);
    let free = agent.cut("b", &["b"]);
    agent.until(|agent| agent.lanes.is_lane_empty(free)).await;
    assert_eq!(agent.lanes.queue(limited).len(), 1);
    assert!(!agent.lanes.takes_records(limited) && agent.lanes.takes_records(free));
}

#[tokio::test]
async fn each_limited_lane_waits_as_long_as_it_was_told() {
    let script = [Say::Verdicts("retry-after 60000 limit-bytes\nretry-after 5000 limit-lines\naccepted\n")];
    let (gateway, mut agent) = one_gateway(&script).await;
    let before = Instant::now();
    let (long, short, free) = (agent.cut("a", &["a"]), agent.cut("b", &["b"]), agent.cut("c", &["c"]));
    agent.until(|agent| agent.lanes.is_lane_empty(free)).await;
    let after = Instant::now();
    let waits = |agent: &Agent, id| !agent.lanes.takes_records(id);
    assert_eq!((waits(&agent, long), waits(&agent, short), waits(&agent, free)), (true, true, false));
    agent.lanes.resume(before + Duration::from_secs(5));
    assert!(waits(&agent, short), "not a moment too early");
    // A tenth of jitter.
    agent.lanes.resume(after + Duration::from_millis(5500));
    assert_eq!((waits(&agent, long), waits(&agent, short)), (true, false));
    agent.until(|agent| agent.lanes.is_lane_empty(short)).await;
    agent.lanes.resume(before + Duration::from_secs(60));
    assert_eq!((waits(&agent, long), gateway.requests().len()), (true, 2));
    agent.lanes.resume(after + Duration::from_secs(66));
    agent.drain().await;
    assert_eq!(gateway.requests().len(), 3);
}

#[tokio::test]
async fn a_lane_that_comes_again_goes_on_above() {
    let (gateway, mut agent) = one_gateway(&[]).await;
    for round in 0..3 {
        for scope in ["other", "ns"].iter().cycle().skip(round).take(2) {
            agent.cut(scope, &["a"]);
            agent.drain().await;
        }
        agent.lanes.forget_unused();
        assert_eq!(agent.lanes.count(), 0);
    }
    let mut highest = HashMap::new();
    for block in gateway.requests().into_iter().flatten() {
        let before = highest.insert(block.header.lane.scope.clone(), block.header.number);
        assert!(before < Some(block.header.number), "rule 2: {before:?}, {}", block.header.number);
    }
    assert_eq!((highest.len(), agent.stored()), (2, 60));
}
