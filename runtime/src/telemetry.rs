//! The log on standard output: people's form by default, JSON on request.

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// What `TOWLINE_LOG_FORMAT` says: `json`, or text.
    pub fn from_environment() -> Self {
        match std::env::var("TOWLINE_LOG_FORMAT") {
            Ok(format) if format.eq_ignore_ascii_case("json") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// Starts logging. What librdkafka says of connections is left out by default: whoever needed the connection says it
/// with its context.
///
/// `TOWLINE_LOG` (such as `debug` or `towline::task=debug`) sets what is shown, `info` by default.
pub fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("TOWLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info,rdkafka=off,librdkafka=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in tests, changes nothing.
    let _ = match format {
        LogFormat::Text => builder.with_target(true).with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
