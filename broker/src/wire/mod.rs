//! What the protocol crate lacks: record-batch headers, records, codecs, guarded decoding and the Fetch answer.
//!
//! Nothing here does I/O, and nothing here may panic or allocate by a length that came from outside.

pub(crate) mod batch;
pub(crate) mod committed;
pub(crate) mod compression;
pub(crate) mod fetch;
pub(crate) mod guard;
pub(crate) mod marker;
pub(crate) mod reader;
pub(crate) mod records;
