//! Where a text too long for one record is cut.

/// At most `limit` bytes of `content`, not ending inside a UTF-8 character. More than 0 if `limit` is.
pub(crate) fn whole_characters(content: &[u8], limit: usize) -> usize {
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
