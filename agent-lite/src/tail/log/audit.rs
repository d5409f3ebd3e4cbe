//! Events of the audit log: the event as it stands under `audit_event`, a sentence as the message.

use std::ops::Range;

use sluice_wire::{Stream, limits, time};

use super::{Log, Reading};
use crate::block::Portion;
use crate::parse::Piece;
use crate::parse::audit::Event;
use crate::record::{self, Line};

/// What a record has beside its sentence, its common part and the event.
const OVERHEAD: usize = 256;

impl Log {
    /// Takes a line that is an event. Gives `false` where it is none, or does not fit into one record: then it
    /// goes as text, in parts if need be.
    pub(super) fn take_event(&mut self, at: usize, line: &[u8], range: Range<u64>, reading: &mut Reading<'_>) -> bool {
        let is_new = range.start >= self.files[at].progress[Stream::Whole as usize].covered;
        let text = std::str::from_utf8(line).ok().map(str::trim);
        let Some((text, event)) = text.and_then(|text| Some((text, Event::parse(text)?))) else {
            reading.output.counts.no_events += u64::from(is_new && !line.is_empty());
            return false;
        };
        let mut sentence = String::new();
        event.write_sentence(&mut sentence);
        let common = &self.common[Stream::Whole as usize];
        if text.len() + common.len() + 6 * sentence.len() + OVERHEAD > limits::LINE || !record::can_be_nested(text) {
            reading.output.counts.no_events += u64::from(is_new);
            return false;
        }
        let mut common = common.clone();
        common.extend_from_slice(b",\"audit_event\":");
        common.extend_from_slice(text.as_bytes());
        let own = event.time().and_then(|text| Some((text.as_bytes(), time::parse(text.as_bytes())?)));
        let (time_text, time) = own.unwrap_or((reading.wall.text, reading.wall.ns));
        let content = sentence.as_bytes();
        let piece = Piece { time_text, time, stream: Stream::Whole, partial: false, content };
        if !self.is_wanted(at, &piece, &range, reading) {
            return true;
        }
        self.last_time = time;
        let record = Line { time_text, time, content, common: &common, part: None, parsed: None };
        reading.output.lanes.push(self.lane, &record, reading.output.now);
        let file = &mut self.files[at];
        let progress = &mut file.progress[Stream::Whole as usize];
        let bytes = range.end - range.start;
        reading.output.lanes.cover(self.lane, file.source, Stream::Whole, progress, range.end, Portion::of(bytes));
        reading.output.lanes.cut_if_full(self.lane);
        reading.output.counts.lines += 1;
        true
    }
}
