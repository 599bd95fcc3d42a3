//! Temporary.
pub mod compat;
pub mod schema;
