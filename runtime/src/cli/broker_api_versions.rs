//! `kafka-broker-api-versions`: which requests each broker serves, in which versions.

use clap::Args;

use super::admin::{api_name, newest_known};
use super::bootstrap::Bootstrap;
use super::failure::{Out, Outcome};

/// `kafka-broker-api-versions`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct VersionsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
}

/// Runs the tool.
pub(super) async fn run(args: VersionsArgs, out: Out<'_>) -> Outcome {
    let mut admin = args.bootstrap.admin().await?;
    for node in admin.cluster().nodes.clone() {
        let mut served = admin.api_versions(node.id).await?.api_keys;
        served.sort_by_key(|api| api.api_key);
        let rack = node.rack.as_deref().unwrap_or("null");
        writeln!(out, "{}:{} (id: {} rack: {rack} isFenced: false) -> (", node.host, node.port, node.id)?;
        let last = served.len().saturating_sub(1);
        for (at, api) in served.iter().enumerate() {
            let usable = match newest_known(api.api_key) {
                Some(newest) => format!("[usable: {}]", newest.min(api.max_version)),
                None => "[unusable: client does not know it]".to_owned(),
            };
            let versions = if api.min_version == api.max_version {
                api.min_version.to_string()
            } else {
                format!("{} to {}", api.min_version, api.max_version)
            };
            let comma = if at == last { "" } else { "," };
            writeln!(out, "\t{}({}): {versions} {usable}{comma}", api_name(api.api_key), api.api_key)?;
        }
        writeln!(out, ")")?;
    }
    Ok(())
}
