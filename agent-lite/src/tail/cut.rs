//! Where a text too long for one record is cut.

use crate::block::MAX_CONTENT;

/// How much of `content` goes into one part.
pub(super) fn part_of(content: &[u8]) -> usize {
    if content.len() <= MAX_CONTENT { content.len() } else { whole_characters(content, MAX_CONTENT) }
}

/// At most `limit` bytes of `content`, not ending inside a UTF-8 character. More than 0 if `limit` is.
pub(super) fn whole_characters(content: &[u8], limit: usize) -> usize {
    let limit = limit.min(content.len());
    for back in 1..=limit.min(3) {
        let at = limit - back;
        let length = match content[at] {
            0x80..0xc0 => continue,
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            _ => 1,
        };
        return if length > back && at > 0 { at } else { limit };
    }
    limit
}
