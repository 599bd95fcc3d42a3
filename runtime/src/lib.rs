//! Crate map.

pub mod convert;
