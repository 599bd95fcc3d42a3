//! Crate map.
