//! Which lanes there are. A namespace that came and went leaves nothing: a lane that nobody uses and that
//! holds nothing makes room for another one.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use sluice_wire::Category;

use super::Lanes;
use super::lane::Lane;

/// A lane, for as long as somebody [holds](Lanes::hold) it, or something is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    slot: usize,
    /// Tells a lane from those that had its slot before.
    life: u64,
}

/// Lanes by slot and by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Lane>,
    /// Slots of lanes that are no more.
    vacant: Vec<usize>,
    ids: HashMap<(Category, Arc<str>), LaneId>,
    lives: u64,
}

impl Table {
    /// The lane of a name, made by `make` where it is new.
    fn find_or_make(&mut self, name: (Category, Arc<str>), make: impl FnOnce(LaneId) -> Lane) -> LaneId {
        let Self { slots, vacant, ids, lives } = self;
        *ids.entry(name).or_insert_with(|| {
            *lives += 1;
            let reused = vacant.pop();
            let id = LaneId { slot: reused.unwrap_or(slots.len()), life: *lives };
            match reused {
                Some(slot) => slots[slot] = make(id),
                None => slots.push(make(id)),
            }
            id
        })
    }

    /// Lanes, also those that are no more: nothing is in them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> + Clone {
        self.slots.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.slots.iter_mut()
    }

    /// As many as there were when it was asked for.
    pub(super) fn ids(&self) -> Vec<LaneId> {
        self.slots.iter().map(|lane| lane.id).collect()
    }
}

impl Index<LaneId> for Table {
    type Output = Lane;

    fn index(&self, id: LaneId) -> &Lane {
        let lane = &self.slots[id.slot];
        debug_assert_eq!(lane.id, id, "a lane that is no more");
        lane
    }
}

impl IndexMut<LaneId> for Table {
    fn index_mut(&mut self, id: LaneId) -> &mut Lane {
        let lane = &mut self.slots[id.slot];
        debug_assert_eq!(lane.id, id, "a lane that is no more");
        lane
    }
}

impl Lanes {
    /// The lane of a category and namespace (or unit), made where it is new. Whoever keeps the id holds the
    /// lane meanwhile.
    pub fn lane(&mut self, category: Category, scope: &Arc<str>) -> LaneId {
        let target_bytes = self.settings.target_bytes;
        self.lanes.find_or_make((category, scope.clone()), |id| Lane::new(id, category, scope.clone(), target_bytes))
    }

    /// One more keeps the lane's id.
    pub fn hold(&mut self, id: LaneId) {
        self.lanes[id].users += 1;
    }

    /// One less does.
    pub fn let_go(&mut self, id: LaneId) {
        let users = &mut self.lanes[id].users;
        debug_assert!(*users > 0, "who lets go has held");
        *users = users.saturating_sub(1);
    }

    /// Forgets the lanes that nobody holds and that hold nothing. Its numbers are the producer's, and rise over
    /// all lanes: one that comes again goes on above.
    pub fn forget_unused(&mut self) {
        let Table { slots, vacant, ids, .. } = &mut self.lanes;
        ids.retain(|_, id| {
            let is_used = slots[id.slot].is_used();
            if !is_used {
                vacant.push(id.slot);
            }
            is_used
        });
    }

    /// How many lanes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.ids.len()
    }
}
