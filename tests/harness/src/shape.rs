//! What each line looks like: a pure function of the run's settings and the line's own number, so that the
//! checker knows the shape of every line without having been told.

use serde::{Deserialize, Serialize};

use crate::line::{self, Filler, Stream, Tail};

/// The settings that shape lines. Shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    pub seed: u64,
    /// Mean bytes of a line's text; lines vary from half to one and a half of it.
    pub line_size: usize,
    /// Lines that are JSON objects.
    pub json: f64,
    /// Of these, the ones with reserved or repeated keys.
    pub odd: f64,
    /// Lines split into pieces tagged P, the last one F.
    pub partial: f64,
    /// Lines written to stderr.
    pub stderr: f64,
    /// Lines whose time carries the node's zone instead of Z.
    pub zoned: f64,
    /// Lines whose text ends in a secret: an address, a card's number, a token.
    #[serde(default)]
    pub secrets: f64,
    /// Of the lines that are not JSON those that an exception's frames follow, which are lines without a number.
    #[serde(default)]
    pub traces: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            seed: 1,
            line_size: 200,
            json: 0.5,
            odd: 0.1,
            partial: 0.02,
            stderr: 0.1,
            zoned: 0.1,
            secrets: 0.0,
            traces: 0.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// None: the text stands alone.
    pub json: Option<&'static Template>,
    /// The number of pieces that a split line is written in; 1 for the others.
    pub pieces: u64,
    pub zoned: bool,
    /// Lines that follow on it.
    pub frames: &'static [&'static str],
    filler_len: usize,
    filler_at: u64,
    tail: Tail,
}

impl Mix {
    #[must_use]
    pub fn shape(&self, source: u32, stream: Stream, seq: u64) -> Shape {
        let mut dice = Dice::new(self.seed, u64::from(source) << 1 | u64::from(stream == Stream::Stderr), seq);
        let json = dice.chance(self.json).then(|| {
            let odd = dice.chance(self.odd);
            if odd { dice.pick(ODD) } else { &PLAIN }
        });
        let pieces = if dice.chance(self.partial) { 2 + dice.below(4) } else { 1 };
        let zoned = dice.chance(self.zoned);
        let mean = line::filler_for(self.line_size) as u64;
        let filler_len = usize::try_from(mean / 2 + dice.below(mean + 1)).expect("a line fits in memory");
        let mut tail = if dice.chance(0.125) { *dice.pick(TAILS) } else { NO_TAIL };
        let filler_at = dice.next();
        // Drawn last: without these two shares every line is what it was before there were any.
        if dice.chance(self.secrets) {
            tail = *dice.pick(SECRETS);
        }
        let has_frames = json.is_none() && pieces == 1 && dice.chance(self.traces);
        if has_frames {
            tail = EXCEPTION;
        }
        let frames = if has_frames { FRAMES } else { &[] };
        Shape { json, pieces, zoned, frames, filler_len, filler_at, tail }
    }

    /// The stream of the `nth` line that a source writes.
    #[must_use]
    pub fn stream(&self, source: u32, nth: u64) -> Stream {
        let mut dice = Dice::new(!self.seed, u64::from(source), nth);
        if dice.chance(self.stderr) { Stream::Stderr } else { Stream::Stdout }
    }
}

impl Shape {
    /// Takes the line's filler out of a pool made by [`filler_pool`].
    #[must_use]
    pub fn filler<'a>(&self, pool: &'a [u8]) -> Filler<'a> {
        let len = self.filler_len.min(pool.len());
        let room = (pool.len() - len) as u64 + 1;
        let at = usize::try_from(self.filler_at % room).expect("an offset in the pool");
        Filler { plain: &pool[at..at + len], tail: self.tail }
    }
}

/// Words, numbers and identifiers in the proportions of a service's log, so that compression sees what it
/// would see in production; no letter that JSON escapes.
#[must_use]
pub fn filler_pool(mix: &Mix) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "request",
        "completed",
        "in",
        "ms",
        "status=200",
        "status=503",
        "GET",
        "POST",
        "/api/v1/orders",
        "user",
        "connection",
        "reset",
        "by",
        "peer",
        "retrying",
        "after",
        "cache",
        "miss",
        "for",
        "key",
        "commit",
        "offset",
        "partition",
        "handler",
        "timeout",
        "upstream",
        "accepted",
        "from",
        "worker",
        "queue",
        "depth",
    ];
    let mut dice = Dice::new(mix.seed, 0, 0);
    let len = 256 * 1024 + mix.line_size * 2;
    let mut pool = Vec::with_capacity(len + 32);
    while pool.len() < len {
        let word = match dice.below(8) {
            0 => format!("{:016x} ", dice.next()),
            1 => format!("{} ", dice.below(100_000)),
            _ => format!("{} ", dice.pick(WORDS)),
        };
        pool.extend_from_slice(word.as_bytes());
    }
    pool
}

/// A JSON object with a test text in it, and what a collector must make of its other members. In all three
/// `$m` stands for the text, `$n` for the line's number and `$k` for the next number.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    pub json: &'static str,
    /// Members of the record, nested ones by their path, arrays as JSON, everything as text: as VictoriaLogs
    /// stores them.
    pub fields: &'static [(&'static str, &'static str)],
    /// Members that the record must not have.
    pub absent: &'static [&'static str],
}

const PLAIN: Template = Template {
    json: r#"{"message":"$m","level":"info","n":$n,"http":{"status":200,"took":{"ms":$n}},"tags":["a","$n"],"ok":true}"#,
    fields: &[
        ("level", "info"),
        ("n", "$n"),
        ("http.status", "200"),
        ("http.took.ms", "$n"),
        ("tags", r#"["a","$n"]"#),
        ("ok", "true"),
    ],
    absent: &["message"],
};

/// What an application must not get away with, and what it may do but seldom does.
const ODD: &[Template] = &[
    // `_msg` comes before `message`, which then is a member like any other.
    Template {
        json: r#"{"message":"other $n","_msg":"$m"}"#,
        fields: &[("message", "other $n")],
        absent: &["app__msg"],
    },
    // A pod that claims to be another.
    Template {
        json: r#"{"message":"$m","k8s_namespace_name":"bank-$n"}"#,
        fields: &[("app_k8s_namespace_name", "bank-$n")],
        absent: &["message"],
    },
    Template {
        json: r#"{"cluster":"evil-$n","environment":"evil","message":"$m"}"#,
        fields: &[("app_cluster", "evil-$n"), ("app_environment", "evil")],
        absent: &["message"],
    },
    // Reserved once unescaped, and once flattened.
    Template {
        json: r#"{"message":"$m","\u005ftime":"1999-12-31T23:59:59Z","stream":"neither"}"#,
        fields: &[("app__time", "1999-12-31T23:59:59Z"), ("app_stream", "neither")],
        absent: &["message"],
    },
    Template {
        json: r#"{"message":"$m","k8s_labels":{"app":"bank-$n"},"k8s_labels.team":"evil"}"#,
        fields: &[("app_k8s_labels.app", "bank-$n"), ("app_k8s_labels.team", "evil")],
        absent: &["message", "k8s_labels.team"],
    },
    Template {
        json: r#"{"log":"$m","log_type":"audit","audit_event":{"user":"$n"},"_stream_id":"x$n"}"#,
        fields: &[("app_log_type", "audit"), ("app_audit_event.user", "$n"), ("app__stream_id", "x$n")],
        absent: &["log"],
    },
    // Of repeated keys the last counts.
    Template { json: r#"{"message":"$m","a":$n,"a":$k}"#, fields: &[("a", "$k")], absent: &["message"] },
    Template {
        json: r#"{"message":"an earlier one","n":$n,"message":"$m"}"#,
        fields: &[("n", "$n")],
        absent: &["message"],
    },
    // Not a string, so not the message; and white space where most encoders have none.
    Template { json: r#" { "_msg" : $n , "msg" : "$m" } "#, fields: &[("app__msg", "$n")], absent: &["msg"] },
];

const NO_TAIL: Tail = Tail { raw: "", json: "" };

const TAILS: &[Tail] = &[
    Tail { raw: r#" said "no""#, json: r#" said \"no\""# },
    Tail { raw: r" C:\temp\new", json: r" C:\\temp\\new" },
    Tail { raw: "\tcolumn\ttwo", json: r"\tcolumn\u0009two" },
    Tail { raw: " größer 漢字 🦀", json: r" größer 漢字 \ud83e\udd80" },
    Tail { raw: " \u{1b}[31mred\u{1b}[0m", json: r" \u001b[31mred\u001b[0m" },
    Tail { raw: " trailing space ", json: " trailing space " },
    Tail { raw: r#" {"not":"an object""#, json: r#" {\"not\":\"an object\""# },
];

/// What redaction is for. The card is one of those that networks give out for tests.
const SECRETS: &[Tail] = &[
    Tail { raw: " sent to jane.doe@mail.example.com", json: " sent to jane.doe@mail.example.com" },
    Tail { raw: " card 4111 1111 1111 1111 declined", json: " card 4111 1111 1111 1111 declined" },
    Tail {
        raw: " authorization: Bearer 9f86d081884c7d659a2feaa0c55ad015",
        json: " authorization: Bearer 9f86d081884c7d659a2feaa0c55ad015",
    },
];

const EXCEPTION: Tail = Tail {
    raw: " java.lang.IllegalStateException: no such card",
    json: " java.lang.IllegalStateException: no such card",
};

/// As a Java runtime prints them.
const FRAMES: &[&str] = &[
    "\tat shop.settlement.Ledger.post(Ledger.java:214)",
    "\tat shop.settlement.Ledger.postAll(Ledger.java:171)",
    "\tat shop.settlement.SettlementJob.settle(SettlementJob.java:88)",
    "\tat shop.settlement.SettlementJob.run(SettlementJob.java:41)",
    "\tat java.base/java.util.concurrent.Executors$RunnableAdapter.call(Executors.java:572)",
    "\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:317)",
    "\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1144)",
    "\tat java.base/java.util.concurrent.ThreadPoolExecutor$Worker.run(ThreadPoolExecutor.java:642)",
    "\tat java.base/java.lang.Thread.run(Thread.java:1583)",
    "Caused by: java.net.SocketTimeoutException: Read timed out",
    "\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:278)",
    "\t... 9 more",
];

/// The three values that a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Message,
    Number,
    Next,
}

/// Walks over a template: literal text to `text`, slots to `slot`. Both get `out`, so that they may share it.
pub(crate) fn expand<O>(template: &str, out: &mut O, text: impl Fn(&mut O, &str), slot: impl Fn(&mut O, Slot)) {
    let mut rest = template;
    while let Some(at) = memchr::memchr(b'$', rest.as_bytes()) {
        text(out, &rest[..at]);
        match rest.as_bytes().get(at + 1) {
            Some(b'm') => slot(out, Slot::Message),
            Some(b'n') => slot(out, Slot::Number),
            Some(b'k') => slot(out, Slot::Next),
            other => unreachable!("a template asks for {other:?}"),
        }
        rest = &rest[at + 2..];
    }
    text(out, rest);
}

/// What a template's expected value is for line `seq`.
#[must_use]
pub fn expected_value(template: &str, seq: u64) -> String {
    let mut value = String::new();
    expand(
        template,
        &mut value,
        |out, text| out.push_str(text),
        |out, slot| match slot {
            Slot::Message => {}
            Slot::Number => out.push_str(&seq.to_string()),
            Slot::Next => out.push_str(&(seq + 1).to_string()),
        },
    );
    value
}

/// A small generator that can be started at any line without having made those before it.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, place: u64, nth: u64) -> Self {
        let mut dice = Self(seed);
        dice.0 = dice.next() ^ place;
        dice.0 = dice.next() ^ nth;
        dice
    }

    /// splitmix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Modulo bias is of no account for test data.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    #[allow(clippy::cast_precision_loss)] // 53 bits are kept
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_out_as_asked() {
        let mix = Mix { json: 0.5, odd: 0.2, partial: 0.1, stderr: 0.25, ..Mix::default() };
        let shapes: Vec<_> = (0..20_000).map(|seq| mix.shape(3, Stream::Stdout, seq)).collect();
        let count = |test: &dyn Fn(&Shape) -> bool| shapes.iter().filter(|shape| test(shape)).count();
        assert!((9_500..10_500).contains(&count(&|shape| shape.json.is_some())));
        assert!((1_800..2_200).contains(&count(&|shape| shape.json.is_some_and(|json| *json != PLAIN))));
        assert!((1_800..2_200).contains(&count(&|shape| shape.pieces > 1)));
        let stderr = (0..20_000).filter(|nth| mix.stream(3, *nth) == Stream::Stderr).count();
        assert!((4_700..5_300).contains(&stderr));
    }

    #[test]
    fn a_line_has_one_shape_for_ever() {
        let mix = Mix::default();
        assert_eq!(mix.shape(1, Stream::Stdout, 99), mix.shape(1, Stream::Stdout, 99));
        assert_ne!(mix.shape(1, Stream::Stdout, 99), mix.shape(1, Stream::Stderr, 99));
        assert_ne!(mix.shape(1, Stream::Stdout, 99), mix.shape(2, Stream::Stdout, 99));
    }

    #[test]
    fn secrets_and_traces_change_no_other_line() {
        let plain = Mix::default();
        let mix = Mix { secrets: 0.02, traces: 0.02, ..Mix::default() };
        let (mut secrets, mut traces) = (0, 0);
        for seq in 0..20_000 {
            let (before, after) = (plain.shape(3, Stream::Stdout, seq), mix.shape(3, Stream::Stdout, seq));
            assert!(before.frames.is_empty());
            traces += usize::from(!after.frames.is_empty());
            secrets += usize::from(SECRETS.contains(&after.tail));
            assert_eq!(Shape { tail: before.tail, frames: &[], ..after }, before);
        }
        assert!((300..500).contains(&secrets), "{secrets}");
        assert!((130..270).contains(&traces), "half of the lines are JSON, and have none: {traces}");
    }

    #[test]
    fn tails_are_the_same_text_escaped() {
        for tail in TAILS.iter().chain(SECRETS).chain([&EXCEPTION]) {
            let decoded: String = serde_json::from_str(&format!("\"{}\"", tail.json)).expect("JSON");
            assert_eq!(decoded, tail.raw);
        }
    }
}
