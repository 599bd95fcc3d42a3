//! Crashes and power cuts between any two steps.
