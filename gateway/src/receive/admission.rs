//! What becomes of each block of a request: covered by the credential? whose? within the limit? what it
//! says it is? where to?

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use governor::clock::Clock;
use sluice_wire::block::Frame;
use sluice_wire::payload::{Checker, Depth};
use sluice_wire::{Header, Lane, Reason, Verdict};

use super::refusal::MISTAKE;
use crate::authenticate::{Credentials, Producers, covers};
use crate::config::checked::{Identity, Policy, Tenant};
use crate::journal::{Appended, Entry};
use crate::limit::Limits;
use crate::metrics::receive::{ReceiveMetrics, Size};
use crate::{assign, route};

/// Of this many blocks of our own agents one has its JSON parsed. They write it themselves: the sample is
/// to find a bug of theirs, and costs a sixteenth of what parsing every line does.
const JSON_SAMPLE: u64 = 64;
/// How long the sender of what the journal cannot take waits.
const JOURNAL: Duration = Duration::from_secs(1);

/// A policy in force, and what was made of it.
#[derive(Debug)]
pub struct Admission<C: Clock> {
    policy: Policy,
    credentials: Credentials,
    limits: Limits<C>,
}

impl<C: Clock + Clone> Admission<C> {
    pub(super) fn new(policy: Policy, clock: C) -> Self {
        Self { credentials: Credentials::new(&policy), limits: Limits::new(&policy, clock), policy }
    }

    pub(super) fn reloaded(&self, policy: Policy) -> Self {
        Self { credentials: Credentials::new(&policy), limits: self.limits.reloaded(&policy), policy }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

thread_local! {
    /// As many buffers as threads, whatever the number of requests.
    static CHECKER: RefCell<Checker> = RefCell::default();
}

/// One request on its way.
pub(super) struct Request<'a, C: Clock> {
    admission: &'a Admission<C>,
    producers: &'a Producers,
    identity: &'a Identity,
    received: i64,
    blocks: Vec<Decided>,
    entries: Vec<Entry>,
    /// Lanes of which a block was refused: no later one of theirs may be stored (rule 4).
    held_back: HashSet<Lane>,
    /// A block's header could not be read, so that its lane is not known: it may be any.
    all_held_back: bool,
}

/// A block that has been looked at.
struct Decided {
    /// For the books; `None`: it could not be opened.
    size: Option<Size>,
    tenant: Option<Tenant>,
    /// `None`: the journal decides; its answers come in the order of the blocks.
    verdict: Option<Verdict>,
}

impl<'a, C: Clock + Clone> Request<'a, C> {
    pub(super) fn new(
        admission: &'a Admission<C>,
        producers: &'a Producers,
        identity: &'a Identity,
        blocks: usize,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            admission,
            producers,
            identity,
            received: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            blocks: Vec::with_capacity(blocks),
            entries: Vec::with_capacity(blocks),
            held_back: HashSet::new(),
            all_held_back: false,
        }
    }

    /// Looks at a block; gives the raw bytes that it decoded for that.
    pub(super) fn admit(&mut self, frame: &Frame) -> usize {
        let block = match frame.open() {
            Ok(block) => block,
            Err(reason) => {
                let verdict = match reason {
                    // Not its fault: a newer gateway will read it. Agents write one version at a time, so
                    // that its neighbours stand for themselves.
                    Reason::Version => Verdict::RetryAfter(MISTAKE, reason),
                    _ => {
                        let behind = self.all_held_back
                            || match frame.lane() {
                                Some(lane) => !self.held_back.insert(lane),
                                None => std::mem::replace(&mut self.all_held_back, true),
                            };
                        // Nothing is said for good of a block while one before it is undecided.
                        if behind {
                            Verdict::RetryAfter(Duration::ZERO, Reason::Behind)
                        } else {
                            Verdict::Rejected(reason)
                        }
                    }
                };
                self.blocks.push(Decided { size: None, tenant: None, verdict: Some(verdict) });
                return 0;
            }
        };
        let header = &block.header;
        let size = Some(Size::from(header));
        let mut tenant = None;
        let mut decoded = 0;
        let verdict = if self.all_held_back || self.held_back.contains(&header.lane) {
            // For the books alone.
            tenant = self.tenant_of(header).cloned();
            Err(Verdict::RetryAfter(Duration::ZERO, Reason::Behind))
        } else {
            self.decide(header, &block.payload, &mut tenant, &mut decoded)
        };
        let verdict = match verdict {
            Ok(destinations) => {
                let tenant = tenant.clone().unwrap_or_default();
                self.blocks.push(Decided { size, tenant: Some(Arc::clone(&tenant)), verdict: None });
                self.entries.push(Entry {
                    tenant,
                    destinations,
                    policy: self.admission.policy.version,
                    identity: Arc::clone(&self.identity.name),
                    received: self.received,
                    block,
                });
                return decoded;
            }
            Err(verdict) => verdict,
        };
        self.held_back.insert(header.lane.clone());
        self.blocks.push(Decided { size, tenant, verdict: Some(verdict) });
        decoded
    }

    fn decide(
        &self,
        header: &Header,
        payload: &[u8],
        tenant: &mut Option<Tenant>,
        decoded: &mut usize,
    ) -> Result<Vec<Arc<str>>, Verdict> {
        let Admission { policy, credentials: _, limits } = self.admission;
        let is_known = |name: &str| policy.identities.iter().any(|identity| *identity.name == *name);
        if !covers(self.identity, header)
            || !self.producers.belongs(header.lane.producer, &self.identity.name, is_known)
        {
            self.log_forbidden(header, "its credential does not cover it");
            return Err(Verdict::RetryAfter(MISTAKE, Reason::Forbidden));
        }
        let Some(assigned) = assign::tenant(policy, &self.identity.name, header) else {
            self.log_forbidden(header, "no rule gives it a tenant");
            return Err(Verdict::RetryAfter(MISTAKE, Reason::Forbidden));
        };
        *tenant = Some(Arc::clone(assigned));
        limits.take(assigned, header)?;
        *decoded = header.raw_len as usize;
        let checked = CHECKER.with_borrow_mut(|checker| checker.check(header, payload, depth(header)).map(|_| ()));
        if let Err(reason) = checked {
            limits.give_back(assigned, header.raw_len, header.records);
            return Err(Verdict::Rejected(reason));
        }
        Ok(route::destinations(policy, assigned, header))
    }

    /// Whose the block is, if its credential covers it and a rule says so.
    fn tenant_of(&self, header: &Header) -> Option<&'a Tenant> {
        covers(self.identity, header)
            .then(|| assign::tenant(&self.admission.policy, &self.identity.name, header))
            .flatten()
    }

    fn log_forbidden(&self, header: &Header, reason: &'static str) {
        let Lane { producer, category, ref scope, .. } = header.lane;
        let identity = &*self.identity.name;
        if forbidden_log::may_say() {
            tracing::warn!(identity, %producer, cluster = &*header.cluster, node = &*header.node, %category, namespace = &**scope, reason, "block forbidden");
        }
    }

    /// What is to be stored.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Each block's verdict, once the journal has answered; counts them.
    pub(super) fn conclude(self, appended: &[Appended], metrics: &ReceiveMetrics) -> Vec<Verdict> {
        let mut appended = appended.iter();
        let conclude = |Decided { size, tenant, verdict }: Decided| {
            // An answer less than blocks would be the journal's bug: then nobody knows.
            let answer = verdict.is_none().then(|| appended.next().copied().unwrap_or(Appended::Unknown));
            let verdict = verdict.unwrap_or_else(|| answer.map_or(Verdict::Unknown(Reason::JournalFailed), verdict_of));
            let stored = matches!(answer, Some(Appended::Stored(_) | Appended::Unknown));
            if let (Some(_), false, Some(size), Some(tenant)) = (answer, stored, size, &tenant) {
                self.admission.limits.give_back(tenant, size.raw_bytes, size.lines);
            }
            metrics.block(size, tenant.as_ref(), verdict, answer == Some(Appended::Duplicate));
            verdict
        };
        self.blocks.into_iter().map(conclude).collect()
    }
}

fn verdict_of(appended: Appended) -> Verdict {
    match appended {
        Appended::Stored(_) | Appended::Duplicate => Verdict::Accepted,
        Appended::Behind => Verdict::RetryAfter(Duration::ZERO, Reason::Behind),
        Appended::Full => Verdict::RetryAfter(JOURNAL, Reason::JournalFull),
        Appended::Unavailable => Verdict::RetryAfter(JOURNAL, Reason::JournalUnavailable),
        Appended::Unknown => Verdict::Unknown(Reason::JournalFailed),
    }
}

/// By the block's number, so that a block sent again is looked at in the same way; spread, so that no
/// lane's numbers all fall on one side.
fn depth(header: &Header) -> Depth {
    let spread = header.number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    if spread.is_multiple_of(JSON_SAMPLE) { Depth::Json } else { Depth::Shape }
}

/// One line a second of blocks that are forbidden, over all requests: the metric has the number.
mod forbidden_log {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};

    static LAST: AtomicU64 = AtomicU64::new(0);

    pub(super) fn may_say() -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        LAST.swap(now, Ordering::Relaxed) != now
    }
}
