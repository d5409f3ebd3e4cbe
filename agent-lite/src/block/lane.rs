//! What one lane holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use sluice_wire::{Category, Position};

use super::spooled::Spooled;
use super::{LaneId, Portion, Queued};

/// Accepted requests in a row after which a lane's window is doubled.
pub(super) const WIDEN_AFTER: u32 = 4;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    /// Who keeps its id.
    pub(super) users: usize,
    pub(super) category: Category,
    pub(super) scope: Arc<str>,
    pub(super) open: Open,
    /// Lower than the configured target for a while once a gateway has said `too-large`.
    pub(super) target_bytes: usize,
    pub(super) queue: VecDeque<Queued>,
    pub(super) queued_bytes: usize,
    /// Behind the queue.
    pub(super) spooled: Spooled,
    /// Blocks at the head of the queue that a request under way carries.
    pub(super) in_flight: usize,
    pub(super) paused_until: Option<Instant>,
    pub(super) window: Window,
}

impl Lane {
    pub(super) fn new(id: LaneId, category: Category, scope: Arc<str>, target_bytes: usize) -> Self {
        Self {
            id,
            users: 0,
            category,
            scope,
            open: Open::default(),
            target_bytes,
            queue: VecDeque::new(),
            queued_bytes: 0,
            spooled: Spooled::default(),
            in_flight: 0,
            paused_until: None,
            window: Window::default(),
        }
    }

    /// Whether every block that was cut is decided.
    pub(super) fn is_decided(&self) -> bool {
        self.queue.is_empty() && self.spooled.is_empty()
    }

    /// Whether somebody keeps its id, something is in it, or a gateway holds it back.
    pub(super) fn is_used(&self) -> bool {
        let is_open = self.open.since.is_some() || !self.open.positions.is_empty();
        let is_busy = self.in_flight > 0 || self.paused_until.is_some();
        self.users > 0 || is_open || is_busy || !self.is_decided()
    }
}

/// How many of a lane's blocks one request may carry. A refused block takes all behind it back with it, so
/// that a lane at its limit sends them in vain each time: it tries with one, and with more only once some
/// have passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) blocks: usize,
    /// Requests in a row that were accepted as a whole.
    accepted: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { blocks: usize::MAX, accepted: 0 }
    }
}

impl Window {
    /// Of a lane whose block was refused.
    pub(super) fn narrow() -> Self {
        Self { blocks: 1, accepted: 0 }
    }

    /// Notes a request that was accepted as a whole. Gives whether the window is wider for it.
    pub(super) fn widen(&mut self) -> bool {
        self.accepted += 1;
        let is_wider = self.accepted >= WIDEN_AFTER;
        if is_wider {
            *self = Self { blocks: self.blocks.saturating_mul(2), accepted: 0 };
        }
        is_wider
    }
}

/// A block that still grows.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Distinguishes it from all others of this run; 0: none.
    pub(super) id: u64,
    pub(super) raw: Vec<u8>,
    pub(super) records: u32,
    pub(super) longest: usize,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) since: Option<Instant>,
    pub(super) positions: Vec<Position>,
    /// What each of them stands for.
    pub(super) portions: Vec<Portion>,
}
