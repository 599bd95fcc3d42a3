//! Placeholder crate map.
