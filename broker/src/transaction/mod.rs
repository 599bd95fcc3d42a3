//! Transactions (KIP-98, version 1): a pure state machine, Kafka's record format for `__transaction_state`, and the
//! coordinator that joins them with the logs.

mod coordinator;
mod records;
mod state;

pub(crate) use coordinator::Coordinator;
pub use coordinator::TransactionDescription;
pub(crate) use state::Partitions;
pub use state::TransactionState;
