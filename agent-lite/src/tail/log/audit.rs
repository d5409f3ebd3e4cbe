//! Events of the audit log: the event as it stands under `audit_event`, a sentence as the message.

use std::ops::Range;

use sluice_wire::{Stream, limits, time};

use super::super::books::Abandoned;
use super::{Log, Output, Reading};
use crate::parse::Piece;
use crate::parse::audit::Event;
use crate::record::{self, Line};
use crate::redact::Outcome;

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
        let own = event.time().and_then(|text| Some((text.as_bytes(), time::parse(text.as_bytes())?)));
        let (time_text, time) = own.unwrap_or((reading.wall.text, reading.wall.ns));
        let piece = Piece { time_text, time, stream: Stream::Whole, partial: false, content: b"" };
        if !self.is_wanted(at, &piece, &range, reading) {
            return true;
        }
        let Output { lanes, counts, workshop, now } = &mut reading.output;
        let common = &self.common[Stream::Whole as usize];
        let rendered = match workshop.redact(&self.treatment, text) {
            Outcome::Unchanged => render(text, &event, common),
            // What it says of itself must not say more than it does.
            Outcome::Changed(text) => Event::parse(text).and_then(|event| render(text, &event, common)),
            Outcome::Drop(_) => {
                counts.lines += 1;
                self.leave_out(at, Stream::Whole, range, Abandoned::Redacted);
                return true;
            }
        };
        let Some((sentence, common)) = rendered else {
            counts.no_events += 1;
            return false;
        };
        self.last_time = time;
        let record = Line { time_text, time, content: sentence.as_bytes(), common: &common, part: None, parsed: None };
        lanes.push(self.lane, &record, *now);
        let file = &mut self.files[at];
        let portion = file.portion(Stream::Whole, range.end - range.start);
        let progress = &mut file.progress[Stream::Whole as usize];
        lanes.cover(self.lane, file.source, Stream::Whole, progress, range.end, portion);
        lanes.cut_if_full(self.lane);
        counts.lines += 1;
        true
    }
}

/// The sentence, and the common part with the event; `None` where that does not fit into one record.
fn render(text: &str, event: &Event<'_>, common: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut sentence = String::new();
    event.write_sentence(&mut sentence);
    if text.len() + common.len() + 6 * sentence.len() + OVERHEAD > limits::LINE || !record::can_be_nested(text) {
        return None;
    }
    Some((sentence, [common, b",\"audit_event\":", text.as_bytes()].concat()))
}
