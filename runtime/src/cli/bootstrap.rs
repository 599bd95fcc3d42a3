//! The flags that say which cluster a tool talks to, in their old and new names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::admin::Admin;
use super::failure::{Failure, Outcome};
use crate::config::parse_properties;

/// Which cluster, and how to log in.
#[derive(Debug, Args)]
pub(super) struct Bootstrap {
    /// The servers to connect to, HOST:PORT, several separated by commas.
    #[arg(long, alias = "bootstrap-servers", value_name = "HOST:PORT")]
    pub(super) bootstrap_server: Option<String>,
    /// Old name of --bootstrap-server.
    #[arg(long, hide = true, value_name = "HOST:PORT")]
    pub(super) broker_list: Option<String>,
    /// Client settings, a .properties file.
    #[arg(long, aliases = ["producer.config", "consumer.config"], value_name = "FILE")]
    pub(super) command_config: Option<PathBuf>,
}

impl Bootstrap {
    /// The servers.
    pub(super) fn servers(&self) -> Outcome<&str> {
        self.bootstrap_server.as_deref().or(self.broker_list.as_deref()).ok_or_else(|| {
            Failure::new(
                "Missing required argument \"[bootstrap-server]\": add --bootstrap-server HOST:PORT, such as \
                 --bootstrap-server localhost:9092",
            )
        })
    }

    /// The settings of the file, if one is named.
    pub(super) fn settings(&self) -> Outcome<BTreeMap<String, String>> {
        self.command_config.as_deref().map_or_else(|| Ok(BTreeMap::new()), read_properties)
    }

    /// An admin client; every tool opens one, once. Notes old flags on stderr.
    pub(super) async fn admin(&self) -> Outcome<Admin> {
        if self.broker_list.is_some() {
            eprintln!("--broker-list is deprecated; use --bootstrap-server");
        }
        Ok(Admin::connect(self.servers()?, &self.settings()?).await?)
    }
}

/// Reads a .properties file.
pub(super) fn read_properties(path: &Path) -> Outcome<BTreeMap<String, String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse_properties(&text)),
        Err(error) => Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Client settings as this binary's Kafka client wants them: Java's JAAS line becomes a name and a password.
pub(super) fn client_settings(mut settings: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(jaas) = settings.remove("sasl.jaas.config") {
        for key in ["username", "password"] {
            if let Some(value) = super::admin::jaas_option(&jaas, key) {
                settings.entry(format!("sasl.{key}")).or_insert(value);
            }
        }
    }
    settings
}
