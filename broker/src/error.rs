//! Why a broker cannot start or stop; each message says what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of the broker as a whole. Requests answer Kafka's error codes instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("invalid value {value:?} for {key}: {reason}")]
    InvalidConfig {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A port is taken.
    #[error(
        "port {port} on {host:?} is in use by another process; stop it, or set another port in listeners (listeners={name}://{host}:<port>)"
    )]
    PortTaken {
        /// Listener name.
        name: String,
        /// Host of the listener.
        host: String,
        /// The port.
        port: u16,
    },
    /// Listening failed otherwise.
    #[error("cannot listen on {host:?} port {port}; check listeners")]
    Listen {
        /// Host of the listener.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses the data.
    #[error(
        "data directory {dir} is locked by another process; stop that broker, or set another directory in log.dirs"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("cannot {action} {path}; the data directory must exist on a disk with room and be writable by this user")]
    Storage {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data belongs to another cluster.
    #[error(
        "data directory {dir} belongs to cluster {found}, but cluster.id is {wanted}; use the right directory, or remove cluster.id"
    )]
    ClusterId {
        /// The directory.
        dir: PathBuf,
        /// Id in the directory.
        found: String,
        /// Id in the settings.
        wanted: String,
    },
    /// The metadata file is damaged.
    #[error("metadata file {path} is damaged; restore it from a backup")]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}
