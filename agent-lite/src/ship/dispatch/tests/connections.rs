//! Which connection is used, and when it is left.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::ship::addresses::Place;
use crate::ship::proxy::Proxy;

#[tokio::test]
async fn a_gateway_that_drains_is_left_for_another_at_once_under_new_numbers() {
    let (first, one) = Gateway::start(1, &[Say::ForAll(503, "retry-after 60000 draining")]).await;
    let (second, two) = Gateway::start(2, &[]).await;
    let mut agent = Agent::new(&[one, two], Duration::from_secs(3600));
    agent.dispatch.pool.leave_alone(1, Instant::now() + Duration::from_millis(200));
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert_eq!((first.numbers().len(), second.numbers().len()), (1, 1));
    // Or a restart would send what the second has to the first: the ring names its journal with the number.
    assert!(second.numbers()[0][0] > first.numbers()[0][0]);
    assert_eq!((agent.metrics.in_doubt.get(), agent.metrics.possible_duplicates.get()), (0, 0));
}

#[tokio::test]
async fn rule_7_after_a_restart_the_doubts_of_a_lane_go_each_to_its_own_journal() {
    let (first, one) = Gateway::start(1, &[]).await;
    let (second, two) = Gateway::start(2, &[]).await;
    let mut agent = Agent::new(&[one, two], Duration::from_secs(3600));
    for line in ["a", "b"] {
        agent.cut("ns", &[line]);
    }
    let lane = agent.cut("ns", &["c"]);
    for (block, journal) in agent.lanes.queue(lane).iter_mut().zip([1, 2, 1]) {
        block.give_number(agent.numbers.take()).unwrap();
        block.set_doubt(Doubt { journal: JournalId([journal; 16]), since_ms: u64::MAX / 2 });
    }
    agent.drain().await;
    assert_eq!((first.numbers().len(), second.numbers().len()), (2, 1));
    let numbers = [first.numbers()[0][0], second.numbers()[0][0], first.numbers()[1][0]];
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(agent.metrics.possible_duplicates.get(), 0);
}

#[tokio::test]
async fn rule_7_pieces_that_were_numbered_for_one_journal_go_to_another_under_new_numbers() {
    let script = [
        Say::Verdicts("too-large 100 burst\n"),
        // Makes the pieces go one by one: all are numbered, the first is sent.
        Say::ForAll(400, "retry-after 0 framing"),
        Say::Verdicts("accepted\n"),
        Say::ForAll(503, "retry-after 60000 draining"),
    ];
    let (first, one) = Gateway::start(1, &script).await;
    let (second, two) = Gateway::start(2, &[]).await;
    let mut agent = Agent::new(&[one, two], Duration::from_secs(3600));
    agent.dispatch.pool.leave_alone(1, Instant::now() + Duration::from_secs(60));
    agent.cut("ns", &["a", "b", "c", "d", "e", "f"]);
    agent.until(|_| first.requests.lock().unwrap().len() == 4).await;
    agent.dispatch.pool.leave_alone(1, Instant::now());
    agent.drain().await;
    let highest = first.numbers().concat().into_iter().max().unwrap();
    assert!(second.numbers().concat().iter().all(|number| *number > highest + 1), "{:?}", second.numbers());
    assert_eq!(agent.stored(), 60);
}

#[tokio::test]
async fn a_connection_that_is_old_is_replaced_without_a_gap() {
    let (gateway, endpoint) = Gateway::start(1, &[]).await;
    let mut agent = Agent::with_max_age(&[endpoint], Duration::from_secs(3600), Duration::from_millis(100));
    // As it was when the pool was looked after last.
    let has_none = |agent: &Agent| {
        let none = r#"sluice_agent_connections{state="idle"} 0"#;
        agent.metrics.render().unwrap().lines().any(|line| line == none)
    };
    agent.until(|agent| agent.dispatch.is_connected() && !has_none(agent)).await;
    let gaps = AtomicUsize::new(0);
    agent
        .until(|agent| {
            gaps.fetch_add(usize::from(has_none(agent)), Ordering::SeqCst);
            gateway.greetings.load(Ordering::SeqCst) >= 4
        })
        .await;
    assert_eq!(gaps.load(Ordering::SeqCst), 0);
    agent.cut("ns", &["a"]);
    agent.drain().await;
}

#[tokio::test]
async fn an_address_that_refuses_is_set_aside_and_the_names_other_one_is_used() {
    let (gateway, endpoint) = Gateway::start(1, &[]).await;
    // `localhost` is 127.0.0.1, where the gateway is, and on most machines ::1, where nobody is.
    let port = endpoint.url.port_u16().unwrap();
    let named = Arc::new(super::endpoint(format!("localhost:{port}"), Peer::Gateway));
    let mut agent = Agent::new(&[named], Duration::from_secs(3600));
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert_eq!(gateway.requests().len(), 1);
    let named: Vec<_> = tokio::net::lookup_host(("localhost", port)).await.unwrap().collect();
    assert_eq!(agent.metrics.addresses.get(), i64::try_from(named.len()).unwrap());
}

#[tokio::test]
async fn an_idle_connection_to_an_address_that_left_dns_is_closed() {
    let (first, one) = Gateway::start(1, &[]).await;
    let (second, two) = Gateway::start(2, &[]).await;
    let mut agent = Agent::new(&[one], Duration::from_secs(3600));
    agent.until(|agent| agent.dispatch.is_connected()).await;
    let port = two.url.port_u16().unwrap();
    let renamed = vec![Place::At(([127, 0, 0, 1], port).into())];
    agent.dispatch.pool.handle(pool::Event::Resolved(0, Ok(renamed)), Instant::now());
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert_eq!((first.requests().len(), second.requests().len()), (0, 1));
}

#[tokio::test]
async fn a_connection_is_replaced_soon_after_its_token_was_renewed() {
    let (gateway, endpoint) = Gateway::start(1, &[]).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "old").unwrap();
    let endpoint = Endpoint { credential: Credential::Token(token.path().to_owned()), ..(*endpoint).clone() };
    let mut agent = Agent::new(&[Arc::new(endpoint)], Duration::from_secs(3600));
    agent.until(|agent| agent.dispatch.is_connected()).await;
    let look = |agent: &mut Agent, seconds| {
        let now = Instant::now() + Duration::from_secs(seconds);
        let Agent { lanes, positions, numbers, dispatch, .. } = agent;
        dispatch.send(&mut Desk { lanes, positions, numbers, now, wall_ns: 0 });
    };
    look(&mut agent, 31);
    look(&mut agent, 40);
    assert_eq!(agent.metrics.connect_errors.get(), 0);
    std::fs::write(token.path(), "renewed").unwrap();
    // The look that finds it, and one after the time in which the connection has to go.
    look(&mut agent, 75);
    look(&mut agent, 85);
    agent.until(|_| gateway.greetings.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_name_that_is_unknown_is_asked_for_again_and_counted() {
    let endpoint = Arc::new(endpoint("gateway.invalid:7070", Peer::Gateway));
    let mut agent = Agent::new(&[endpoint], Duration::from_secs(3600));
    agent.until(|agent| agent.metrics.lookup_errors.get() > 1).await;
    assert!(!agent.dispatch.is_connected());
}

/// A proxy that lets nobody through but `user:secret`: what a real one does with `CONNECT`.
async fn proxy() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                // base64 of `user:secret`, in small letters.
                if !head.contains("proxy-authorization: basic dxnlcjpzzwnyzxq=") {
                    return client.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
                }
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut gateway = TcpStream::connect(target).await?;
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut gateway).await.map(drop)
            });
        }
    });
    address
}

#[tokio::test]
async fn a_gateway_behind_a_proxy_is_reached_by_who_may() {
    let (gateway, endpoint) = Gateway::start(1, &[]).await;
    let address = proxy().await;
    let through = |proxy: &str| Endpoint { proxy: Proxy::parse(proxy, None), ..(*endpoint).clone() };
    let mut stranger = Agent::new(&[through(&format!("http://{address}")).into()], Duration::from_secs(3600));
    stranger.until(|agent| agent.metrics.connect_errors.get() > 0).await;
    assert_eq!(gateway.greetings.load(Ordering::SeqCst), 0);
    let mut agent = Agent::new(&[through(&format!("http://user:secret@{address}")).into()], Duration::from_secs(3600));
    agent.cut("ns", &["a"]);
    agent.drain().await;
    assert_eq!(gateway.requests().len(), 1);
}

#[tokio::test]
async fn what_was_in_doubt_at_a_change_of_the_gateways_goes_back_to_its_journal() {
    let (first, one) = Gateway::start(1, &[]).await;
    let (second, two) = Gateway::start(2, &[Say::Never]).await;
    let mut agent = Agent::new(&[one, Arc::clone(&two)], Duration::from_secs(3600));
    agent.dispatch.pool.leave_alone(0, Instant::now() + Duration::from_secs(60));
    agent.cut("ns", &["a"]);
    agent.until(|_| second.requests.lock().unwrap().len() == 1).await;
    // Its answer comes, or rather does not, when there are fewer gateways than it knew of.
    agent.dispatch.redirect(Settings { endpoints: vec![two], ..agent.dispatch.settings.clone() });
    agent.cut("other", &["b"]);
    agent.drain().await;
    let numbers = second.numbers().concat();
    assert_eq!(numbers.iter().filter(|number| **number == numbers[0]).count(), 2, "the same bytes again: {numbers:?}");
    assert!(first.numbers().is_empty());
    assert_eq!((agent.metrics.in_doubt.get(), agent.metrics.possible_duplicates.get()), (1, 0));
}
