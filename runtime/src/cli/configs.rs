//! `kafka-configs`: show and change configs of topics, brokers and groups.

use std::path::PathBuf;

use clap::Args;

use super::admin::{Admin, ConfigChange, ConfigResource, ConfigValue, source_name};
use super::bootstrap::{Bootstrap, read_properties};
use super::failure::{Failure, Out, Outcome};
use super::pairs;

/// `kafka-configs`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct ConfigsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Show configs.
    #[arg(long, conflicts_with = "alter")]
    describe: bool,
    /// Change configs.
    #[arg(long)]
    alter: bool,
    /// topics, brokers or groups.
    #[arg(long)]
    entity_type: Option<String>,
    /// The topic, broker id or group.
    #[arg(long, conflicts_with = "entity_default")]
    entity_name: Option<String>,
    /// The defaults of all brokers.
    #[arg(long)]
    entity_default: bool,
    /// Short for --entity-type topics --entity-name TOPIC.
    #[arg(long)]
    topic: Option<String>,
    /// Short for --entity-type brokers --entity-name ID.
    #[arg(long)]
    broker: Option<String>,
    /// Short for --entity-type brokers --entity-default.
    #[arg(long)]
    broker_defaults: bool,
    /// Short for --entity-type groups --entity-name GROUP.
    #[arg(long)]
    group: Option<String>,
    /// Configs to set: `k1=v1,k2=[a,b]`.
    #[arg(long)]
    add_config: Option<String>,
    /// Configs to set, a .properties file.
    #[arg(long, conflicts_with = "add_config", value_name = "FILE")]
    add_config_file: Option<PathBuf>,
    /// Configs to reset to their defaults: `k1,k2`.
    #[arg(long)]
    delete_config: Option<String>,
    /// Show all configs, not only those that were changed.
    #[arg(long)]
    all: bool,
    /// Accepted: existing configs are never in the way here.
    #[arg(long, hide = true)]
    force: bool,
}

/// What kind of thing has the configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Topics,
    Brokers,
    Groups,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Brokers => "brokers",
            Self::Groups => "groups",
        }
    }

    fn singular(self) -> &'static str {
        self.word().trim_end_matches('s')
    }

    /// The source that means "changed for this one".
    fn own_source(self, named: bool) -> i8 {
        match (self, named) {
            (Self::Topics, _) => 1,
            (Self::Brokers, true) => 2,
            (Self::Brokers, false) => 3,
            (Self::Groups, _) => 8,
        }
    }
}

/// Runs the tool.
pub(super) async fn run(args: ConfigsArgs, out: Out<'_>) -> Outcome {
    if args.describe == args.alter {
        return Err(Failure::new("Command must include exactly one action: --describe, --alter"));
    }
    let (kind, name) = entity(&args)?;
    let mut admin = args.bootstrap.admin().await?;
    if args.describe {
        return describe(&args, kind, name, &mut admin, out).await;
    }
    alter(&args, kind, name, &mut admin, out).await
}

/// The entity that the flags mean; no name means the defaults, or all of the kind.
fn entity(args: &ConfigsArgs) -> Outcome<(Kind, Option<String>)> {
    if let Some(topic) = &args.topic {
        return Ok((Kind::Topics, Some(topic.clone())));
    }
    if let Some(broker) = &args.broker {
        return Ok((Kind::Brokers, Some(broker.clone())));
    }
    if let Some(group) = &args.group {
        return Ok((Kind::Groups, Some(group.clone())));
    }
    if args.broker_defaults {
        return Ok((Kind::Brokers, None));
    }
    let kind = match args.entity_type.as_deref() {
        Some("topics") => Kind::Topics,
        Some("brokers") => Kind::Brokers,
        Some("groups") => Kind::Groups,
        Some(other) => {
            return Err(Failure::new(format!(
                "--entity-type {other} is not supported here; it can be topics, brokers or groups"
            )));
        }
        None => return Err(Failure::new("At least one entity type must be specified: add --entity-type topics")),
    };
    Ok((kind, args.entity_name.clone()))
}

fn resource(kind: Kind, name: Option<&str>) -> Outcome<ConfigResource> {
    Ok(match (kind, name) {
        (Kind::Topics, Some(name)) => ConfigResource::Topic(name.to_owned()),
        (Kind::Groups, Some(name)) => ConfigResource::Group(name.to_owned()),
        (Kind::Brokers, None) => ConfigResource::Broker(None),
        (Kind::Brokers, Some(id)) => ConfigResource::Broker(Some(id.parse().map_err(|_| {
            Failure::new(format!("The entity name for brokers must be a valid integer broker id, found: {id}"))
        })?)),
        (kind, None) => {
            return Err(Failure::new(format!("an entity name must be specified with --alter of {}", kind.word())));
        }
    })
}

async fn describe(args: &ConfigsArgs, kind: Kind, name: Option<String>, admin: &mut Admin, out: Out<'_>) -> Outcome {
    let default = args.entity_default || args.broker_defaults;
    let entities: Vec<Option<String>> = match (kind, name) {
        (_, Some(name)) => vec![Some(name)],
        (Kind::Brokers, None) if default => vec![None],
        (Kind::Topics, None) => admin.topics().await?.into_iter().map(|topic| Some(topic.name)).collect(),
        (Kind::Groups, None) => admin.groups().await?.into_iter().map(|group| Some(group.id)).collect(),
        (Kind::Brokers, None) => {
            let nodes = admin.cluster().nodes.iter().map(|node| Some(node.id.to_string()));
            nodes.chain([None]).collect()
        }
    };
    for entity in entities {
        if let (Kind::Topics, Some(topic)) = (kind, &entity)
            && admin.topics_named(std::slice::from_ref(topic)).await?.is_empty()
        {
            writeln!(out, "The topic '{topic}' doesn't exist and doesn't have dynamic config.")?;
            continue;
        }
        let found = admin.configs(&[resource(kind, entity.as_deref())?]).await?;
        match &entity {
            Some(name) => {
                let which = if args.all { "All" } else { "Dynamic" };
                writeln!(out, "{which} configs for {} {name} are:", kind.singular())?;
            }
            None => writeln!(out, "Default configs for {} in the cluster are:", kind.word())?,
        }
        let own = kind.own_source(entity.is_some());
        for config in found.iter().flatten().filter(|config| args.all || config.source == own) {
            writeln!(out, "{}", config_line(config))?;
        }
    }
    Ok(())
}

fn config_line(config: &ConfigValue) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let synonyms: Vec<String> = config
        .synonyms
        .iter()
        .map(|(source, name, value)| format!("{}:{name}={}", source_name(*source), shown(value)))
        .collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}",
        config.name,
        shown(&config.value),
        config.sensitive,
        synonyms.join(", ")
    )
}

async fn alter(args: &ConfigsArgs, kind: Kind, name: Option<String>, admin: &mut Admin, out: Out<'_>) -> Outcome {
    if kind == Kind::Brokers && name.is_none() && !args.entity_default && !args.broker_defaults {
        return Err(Failure::new(
            "an entity name must be specified with --alter of brokers; add --entity-name ID or --entity-default",
        ));
    }
    let resource = resource(kind, name.as_deref())?;
    let set = match (&args.add_config, &args.add_config_file) {
        (Some(text), _) => pairs::parse_list(text).map_err(|why| {
            Failure::new(format!(
                "Invalid entity config: all configs to be added must be in the format \"key=val\": {why}"
            ))
        })?,
        (None, Some(file)) => read_properties(file)?.into_iter().collect(),
        (None, None) => Vec::new(),
    };
    let deleted: Vec<String> = args
        .delete_config
        .iter()
        .flat_map(|keys| keys.split(','))
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty())
        .collect();
    if set.is_empty() && deleted.is_empty() {
        return Err(Failure::new(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
        ));
    }
    if !deleted.is_empty() {
        let own = kind.own_source(name.is_some());
        let found = admin.configs(std::slice::from_ref(&resource)).await?;
        let has = |key: &String| found.iter().flatten().any(|config| config.name == *key && config.source == own);
        let unknown: Vec<String> = deleted.iter().filter(|key| !has(key)).cloned().collect();
        if !unknown.is_empty() {
            return Err(Failure::new(format!("Invalid config(s): {}", unknown.join(","))));
        }
    }
    let mut changes: Vec<_> = set.into_iter().map(|(key, value)| ConfigChange::Set(key, value)).collect();
    changes.extend(deleted.into_iter().map(ConfigChange::Delete));
    admin.alter_configs(&resource, &changes).await?;
    match name {
        Some(name) => writeln!(out, "Completed updating config for {} {name}.", kind.singular())?,
        None => writeln!(out, "Completed updating default config for {} in the cluster.", kind.word())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_config_with_its_synonyms() {
        let config = ConfigValue {
            name: "retention.ms".into(),
            value: Some("1".into()),
            source: 1,
            sensitive: false,
            synonyms: vec![(1, "retention.ms".into(), Some("1".into())), (5, "log.retention.ms".into(), None)],
        };
        assert_eq!(
            config_line(&config),
            "  retention.ms=1 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1, \
             DEFAULT_CONFIG:log.retention.ms=null}"
        );
    }

    #[test]
    fn broker_ids_are_numbers() {
        assert_eq!(resource(Kind::Brokers, Some("1")).unwrap(), ConfigResource::Broker(Some(1)));
        assert!(resource(Kind::Brokers, Some("x")).is_err());
        assert!(resource(Kind::Topics, None).is_err());
    }
}
