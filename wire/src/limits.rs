//! The hard limits of version 1, in bytes unless said otherwise. Both sides enforce them.

/// A block's payload once decompressed.
pub const BLOCK_RAW: usize = 1024 * 1024;
/// A block's payload as sent. Below Kafka's default `message.max.bytes` with room for the header.
pub const BLOCK_PAYLOAD: usize = 900 * 1024;
/// A block's header.
pub const HEADER: usize = 64 * 1024;
/// One JSON line without its newline. VictoriaLogs drops lines over 256 KiB and answers 200.
pub const LINE: usize = 200 * 1024;
/// Fields of one record, counted as VictoriaLogs counts them: leaves after flattening. It drops
/// records over 1,000 and answers 200.
pub const FIELDS: usize = 900;
/// Positions in one header (a number, not bytes).
pub const POSITIONS: usize = 2048;
/// The body of one push request.
pub const REQUEST: usize = 8 * 1024 * 1024;
/// Blocks in one push request (a number, not bytes).
pub const REQUEST_BLOCKS: usize = 1024;
