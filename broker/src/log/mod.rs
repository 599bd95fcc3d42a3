//! The partition log in Kafka's on-disk format: segments, indexes, checkpoints, recovery, retention, compaction.
//!
//! Batches pass through untouched but for base offset and leader epoch. Nothing here knows of the network.

mod append;
mod buffers;
mod checkpoint;
mod cleaned_transactions;
mod compaction;
mod epochs;
#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod fs;
mod index;
mod partition;
mod producer_state;
mod read;
mod recovery;
mod retention;
mod segment;
mod sync;
#[cfg(test)]
mod tests;
mod transactions;

pub(crate) use append::{Appended, Batch, Refused};
pub(crate) use checkpoint::{Checkpoint, write_checkpoint};
pub(crate) use fs::{Fs, StdFs};
pub(crate) use partition::{FetchWaiter, Log, LogSetup, Partition, uuid_text};
pub(crate) use producer_state::Producer;
pub(crate) use read::{Found, Isolation};
pub(crate) use sync::Syncer;
