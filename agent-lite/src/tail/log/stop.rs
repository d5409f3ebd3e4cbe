//! The agent is about to stop: of what no directory lists any more, all is read now or never.

use super::{Log, LogFile, Output, STREAMS};

impl Log {
    /// From now on nothing of what is gone waits: not for the pod's metadata, not for a limit, not for an end
    /// that only its writer could write. What stands before it in the log is read with it, so that its lines
    /// come in order and find their beginnings. Gives whether it waits for
    /// metadata, which it is to go on without.
    pub(in crate::tail) fn hurry(&mut self) -> bool {
        let Some(last) = self.files.iter().rposition(|file| file.gone.is_some() && file.content.is_some()) else {
            return false;
        };
        for file in self.files.range_mut(..=last) {
            file.now_or_never = true;
            file.is_complete |= file.gone.is_some();
        }
        self.waits_since.is_some()
    }

    /// Sends the messages that wait for more and have a piece in a file that is gone: they are what they are.
    pub(in crate::tail) fn end_gone(&mut self, output: &mut Output<'_>) {
        self.end_what_waits_in(|file| file.gone.is_some() && file.is_read_out(), output);
    }

    /// Sends the messages that wait for more and have a piece in such a file.
    pub(super) fn end_what_waits_in(&mut self, is_over: impl Fn(&LogFile) -> bool, output: &mut Output<'_>) {
        for stream in STREAMS {
            let Some(pending) = &self.pending[stream as usize] else { continue };
            if self.files.iter().any(|file| pending.has_piece_in(file.source) && is_over(file)) {
                self.complete(stream, output);
            }
        }
    }
}
