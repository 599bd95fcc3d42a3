//! Integration tests of the registry.

mod golden;
