//! The FileStream connectors: lines of a file to a topic, records of topics to a file. The smallest complete examples
//! of a source and a sink; one place in a file is one source partition, so there is always one source task.

mod sink;
mod source;

pub use sink::SINK;
pub use source::SOURCE;

/// The version that the plugin list shows.
const VERSION: &str = env!("CARGO_PKG_VERSION");
