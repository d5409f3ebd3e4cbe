use super::*;
use crate::config::testing::policy;
use crate::receive::testing::header;
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;
use sluice_wire::Category;

fn policy_of(limits: &str) -> Policy {
    policy(&format!(
        "identities: [{{name: a, loopback: true}}]\ntenants: {{default: t, rules: [{{namespaces: [u], tenant: u}}]}}\ndefault_destinations: []\nlimits: {limits}"
    ))
}

fn limits(text: &str) -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Limits::new(&policy_of(text), clock.clone()), clock)
}

fn block(raw_len: u32, records: u32) -> Header {
    Header { raw_len, records, ..header("c", Category::Application, "ns") }
}

fn take(limits: &Limits<FakeRelativeClock>, tenant: &str, bytes: u32, lines: u32) -> Result<(), Verdict> {
    limits.take(&tenant.into(), &block(bytes, lines))
}

/// The wait told for a refusal, and its reason.
fn wait(limits: &Limits<FakeRelativeClock>, bytes: u32, lines: u32) -> (Duration, Reason) {
    match take(limits, "t", bytes, lines) {
        Err(Verdict::RetryAfter(wait, reason)) => (wait, reason),
        other => panic!("{other:?}"),
    }
}

const BYTES: &str = "{default: {bytes_per_second: 1000, bytes_burst: 2000}}";
const BOTH: &str = "{default: {bytes_per_second: 1000, bytes_burst: 2000, lines_per_second: 10, lines_burst: 100}}";

#[test]
fn the_wait_is_the_time_until_the_block_fits() {
    let (limits, clock) = limits(BYTES);
    assert_eq!(take(&limits, "t", 2000, 1), Ok(()));
    let (told, reason) = wait(&limits, 500, 1);
    assert_eq!(reason, Reason::LimitBytes);
    assert!((500..=570).contains(&told.as_millis()), "{told:?}");
    clock.advance(Duration::from_millis(490));
    assert!(take(&limits, "t", 500, 1).is_err());
    clock.advance(Duration::from_millis(11));
    assert_eq!(take(&limits, "t", 500, 1), Ok(()));
    assert_eq!(take(&limits, "u", 2000, 1), Ok(()), "a neighbour has a bucket of its own");
}

#[test]
fn a_block_passes_both_buckets_or_takes_from_neither() {
    let (limits, clock) = limits(BOTH);
    assert_eq!(take(&limits, "t", 100, 100), Ok(()));
    for _ in 0..50 {
        let (told, reason) = wait(&limits, 1000, 10);
        assert_eq!(reason, Reason::LimitLines);
        assert!(told >= Duration::from_secs(1));
    }
    clock.advance(Duration::from_millis(1001));
    assert_eq!(take(&limits, "t", 2000, 10), Ok(()), "no bytes went while lines refused");
    clock.advance(Duration::from_secs(100));
    assert_eq!(take(&limits, "t", 2000, 1), Ok(()));
    assert_eq!(wait(&limits, 500, 50).1, Reason::LimitBytes);
    clock.advance(Duration::from_millis(501));
    assert_eq!(take(&limits, "t", 500, 99), Ok(()), "no lines went while bytes refused");
}

#[test]
fn the_larger_of_both_waits_is_told() {
    let (limits, _) = limits(BOTH);
    assert_eq!(take(&limits, "t", 2000, 100), Ok(()));
    let (told, reason) = wait(&limits, 1000, 50);
    assert_eq!(reason, Reason::LimitLines);
    assert!((5000..=5700).contains(&told.as_millis()), "{told:?}");
    let (told, reason) = wait(&limits, 2000, 1);
    assert_eq!(reason, Reason::LimitBytes);
    assert!((2000..=2300).contains(&told.as_millis()), "{told:?}");
}

#[test]
fn a_block_above_the_burst_is_too_large_and_told_how_large_it_may_be() {
    let (limits, _) = limits(BOTH);
    assert_eq!(take(&limits, "t", 2001, 2), Err(Verdict::TooLarge(2000, Reason::Burst)));
    assert_eq!(take(&limits, "t", 1000, 200), Err(Verdict::TooLarge(500, Reason::Burst)));
    assert_eq!(take(&limits, "t", 4000, 400), Err(Verdict::TooLarge(1000, Reason::Burst)));
    assert_eq!(take(&limits, "t", 2000, 100), Ok(()), "nothing was taken");
}

#[test]
fn a_lone_record_above_the_burst_passes_for_a_whole_one() {
    let (limits, clock) = limits(BYTES);
    assert_eq!(take(&limits, "t", 5000, 1), Ok(()), "it cannot be cut, and must not be lost to a setting");
    assert_eq!(wait(&limits, 5000, 1).1, Reason::LimitBytes);
    clock.advance(Duration::from_millis(2001));
    assert_eq!(take(&limits, "t", 5000, 1), Ok(()));
}

#[test]
fn what_is_given_back_can_be_used_and_is_no_more_than_a_burst() {
    let (limits, clock) = limits(BYTES);
    assert_eq!(take(&limits, "t", 2000, 1), Ok(()));
    limits.give_back(&"t".into(), 1500, 1);
    assert_eq!(take(&limits, "t", 1500, 1), Ok(()));
    assert!(take(&limits, "t", 1, 1).is_err());
    for _ in 0..10 {
        limits.give_back(&"t".into(), 2000, 1);
    }
    assert_eq!(take(&limits, "t", 2000, 1), Ok(()));
    assert!(take(&limits, "t", 2000, 1).is_err());
    clock.advance(Duration::from_secs(1));
    assert_eq!(take(&limits, "t", 1000, 1), Ok(()));
}

#[test]
fn a_reload_keeps_the_buckets_of_limits_that_have_not_changed() {
    let (limits, _) =
        limits("{tenants: {t: {bytes_per_second: 1000}, u: {bytes_per_second: 1000, bytes_burst: 1000}}}");
    assert_eq!(take(&limits, "u", 1000, 1), Ok(()));
    assert_eq!(take(&limits, "t", 1 << 20, 1), Ok(()));
    let reloaded = limits.reloaded(&policy_of(
        "{tenants: {t: {bytes_per_second: 2000}, u: {bytes_per_second: 1000, bytes_burst: 1000}}}",
    ));
    assert!(take(&reloaded, "u", 1000, 1).is_err());
    assert_eq!(take(&reloaded, "t", 1 << 20, 1), Ok(()));
    assert_eq!(take(&limits.reloaded(&policy_of("{}")), "u", u32::MAX, 1), Ok(()), "no limit");
}

#[test]
fn a_high_rate_is_kept_to_a_thousandth() {
    // A byte of this is 1.4 ns: in whole nanoseconds the rate would be off by 40 %.
    let (limits, clock) = limits("{default: {bytes_per_second: 700000000, bytes_burst: 1000000}}");
    let mut passed: u64 = 0;
    for _ in 0..1000 {
        clock.advance(Duration::from_millis(1));
        while take(&limits, "t", 1_000, 1).is_ok() {
            passed += 1_000;
        }
    }
    assert!((699_000_000..=702_000_000).contains(&passed), "{passed}");
}

proptest! {
    #[test]
    fn what_passes_is_the_rate_and_a_burst_and_never_more(
        per_second in 1_u32..5_000_000,
        burst in 1_u32..5_000_000,
        sizes in prop::collection::vec((1_u32..200_000, 0_u64..200), 1..100),
    ) {
        let (limits, clock) = limits(&format!("{{default: {{bytes_per_second: {per_second}, bytes_burst: {burst}}}}}"));
        let (mut passed, mut elapsed) = (0_u64, 0_u64);
        for (bytes, pause) in sizes {
            match take(&limits, "t", bytes, 2) {
                Ok(()) => passed += u64::from(bytes),
                Err(Verdict::TooLarge(limit, _)) => prop_assert!(limit == burst && bytes > burst),
                Err(Verdict::RetryAfter(wait, _)) => {
                    // Who waits as told gets through.
                    clock.advance(wait);
                    elapsed += u64::try_from(wait.as_millis()).unwrap();
                    prop_assert_eq!(take(&limits, "t", bytes, 2), Ok(()));
                    passed += u64::from(bytes);
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            clock.advance(Duration::from_millis(pause));
            elapsed += pause;
        }
        // A cell over, of rounding the burst up; and a thousandth, of whole nanoseconds.
        let cell = u64::from((per_second / 100_000).max(1));
        let most = u64::from(burst) + cell + u64::from(per_second) * elapsed / 1000 * 1001 / 1000 + 1;
        prop_assert!(passed <= most, "{} of {}", passed, most);
    }
}
