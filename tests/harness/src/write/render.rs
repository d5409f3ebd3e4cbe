//! Lines to CRI form: `<time> <stream> <P|F> <content>`.

use crate::{
    line::{self, LineId, Stream},
    shape::{Dice, Mix, Shape, Slot, expand, filler_pool},
};

use super::stamp::Stamps;

/// Longest content of one CRI record: containerd's default `max_container_log_line_size`.
const PIECE: usize = 16 * 1024;

/// Between the pieces of one line; a checker allows for it.
const PIECE_APART_NS: u64 = 1000;

/// Turns line numbers into bytes; keeps its buffers from one line to the next.
#[derive(Debug)]
pub(crate) struct Renderer {
    run: u32,
    mix: Mix,
    pool: Vec<u8>,
    stamps: Stamps,
    scratch: [Vec<u8>; 2],
}

/// One line's content, split.
struct Pieces<'a> {
    rest: &'a [u8],
    left: u64,
    stream: Stream,
    zoned: bool,
    at_ns: u64,
    dice: Dice,
}

impl Renderer {
    pub(crate) fn new(run: u32, mix: &Mix) -> Self {
        let pool = filler_pool(mix);
        Self { run, mix: mix.clone(), pool, stamps: Stamps::default(), scratch: [Vec::new(), Vec::new()] }
    }

    pub(crate) fn mix(&self) -> &Mix {
        &self.mix
    }

    pub(crate) fn id(&self, source: u32, stream: Stream, seq: u64) -> LineId {
        LineId { run: self.run, source, stream, seq }
    }

    /// Appends a line that is not split, without going through a buffer: the common case, which decides the
    /// speed. False, and nothing written, when the line must be split.
    pub(crate) fn whole(&mut self, out: &mut Vec<u8>, id: LineId, now_ns: u64) -> bool {
        let shape = self.mix.shape(id.source, id.stream, id.seq);
        if shape.pieces > 1 {
            return false;
        }
        let start = out.len();
        push_prefix(&mut self.stamps, out, now_ns, shape.zoned, id.stream, true);
        let content = out.len();
        push_content(out, &self.pool, &shape, id, now_ns);
        if out.len() - content > PIECE {
            out.truncate(start);
            return false;
        }
        out.push(b'\n');
        for frame in shape.frames {
            push_prefix(&mut self.stamps, out, now_ns, shape.zoned, id.stream, true);
            out.extend_from_slice(frame.as_bytes());
            out.push(b'\n');
        }
        true
    }

    /// Appends a line in pieces, those of `other`, a line of the source's other stream, in between: the two
    /// redirectors of a container share one file.
    pub(crate) fn split(&mut self, out: &mut Vec<u8>, id: LineId, other: Option<LineId>, now_ns: u64) {
        let Self { mix, pool, stamps, scratch, .. } = self;
        let mut lines: Vec<_> = [Some(id), other]
            .into_iter()
            .flatten()
            .zip(scratch.iter_mut())
            .map(|(id, scratch)| Pieces::of(id, &mix.shape(id.source, id.stream, id.seq), pool, scratch, now_ns))
            .collect();
        while !lines.is_empty() {
            lines.retain_mut(|line| line.push_next(stamps, out));
        }
    }

    /// A line cut by a rotation: its first piece, short, goes to the old file and the rest to the new one.
    pub(crate) fn cut(&mut self, old: &mut Vec<u8>, new: &mut Vec<u8>, id: LineId, now_ns: u64) {
        let Self { mix, pool, stamps, scratch: [scratch, _], .. } = self;
        let mut shape = mix.shape(id.source, id.stream, id.seq);
        shape.pieces = shape.pieces.max(2);
        let mut line = Pieces::of(id, &shape, pool, scratch, now_ns);
        line.push_next(stamps, old);
        while line.push_next(stamps, new) {}
    }
}

impl<'a> Pieces<'a> {
    fn of(id: LineId, shape: &Shape, pool: &[u8], scratch: &'a mut Vec<u8>, now_ns: u64) -> Self {
        scratch.clear();
        push_content(scratch, pool, shape, id, now_ns);
        let dice = Dice::new(id.seq, u64::from(id.source), shape.pieces);
        Self { rest: scratch, left: shape.pieces, stream: id.stream, zoned: shape.zoned, at_ns: now_ns, dice }
    }

    /// Appends one piece; true when more are to come. Cuts fall on any byte, also inside of a letter.
    fn push_next(&mut self, stamps: &mut Stamps, out: &mut Vec<u8>) -> bool {
        let wanted = if self.left > 1 && self.rest.len() > 1 {
            1 + usize::try_from(self.dice.below(self.rest.len() as u64 - 1)).expect("a length")
        } else {
            self.rest.len()
        };
        let (piece, rest) = self.rest.split_at(wanted.min(PIECE));
        push_prefix(stamps, out, self.at_ns, self.zoned, self.stream, rest.is_empty());
        out.extend_from_slice(piece);
        out.push(b'\n');
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        self.at_ns += PIECE_APART_NS;
        !rest.is_empty()
    }
}

fn push_prefix(stamps: &mut Stamps, out: &mut Vec<u8>, at_ns: u64, zoned: bool, stream: Stream, last: bool) {
    stamps.push(out, at_ns, zoned);
    out.push(b' ');
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(if last { b" F " } else { b" P " });
}

/// Appends a line's content as an application writes it: its text, or a JSON object with the text in it.
pub fn push_content(out: &mut Vec<u8>, pool: &[u8], shape: &Shape, id: LineId, now_ns: u64) {
    let filler = shape.filler(pool);
    let Some(template) = shape.json else {
        line::compose(out, id, now_ns, filler, false);
        return;
    };
    expand(
        template.json,
        out,
        |out, text| out.extend_from_slice(text.as_bytes()),
        |out, slot| match slot {
            Slot::Message => line::compose(out, id, now_ns, filler, true),
            Slot::Number => out.extend_from_slice(itoa::Buffer::new().format(id.seq).as_bytes()),
            Slot::Next => out.extend_from_slice(itoa::Buffer::new().format(id.seq + 1).as_bytes()),
        },
    );
}
