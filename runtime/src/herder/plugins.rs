//! Which classes a config can name, by full name, simple name or pruned alias.

use towline_connectors::api::Connector;
use towline_connectors::{CONNECTORS, PREDICATES, TRANSFORMS};

use crate::convert;

/// What a plugin is, in Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// A sink connector.
    Sink,
    /// A source connector.
    Source,
    /// A transform.
    Transformation,
    /// A predicate.
    Predicate,
    /// A converter.
    Converter,
    /// A header converter.
    HeaderConverter,
}

impl PluginKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Transformation => "transformation",
            Self::Predicate => "predicate",
            Self::Converter => "converter",
            Self::HeaderConverter => "header_converter",
        }
    }
}

/// A plugin as REST lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The class name.
    pub class: &'static str,
    /// What it is.
    pub kind: PluginKind,
    /// Its version.
    pub version: &'static str,
}

/// All plugins in the order of Connect's listing.
pub fn plugins() -> Vec<Plugin> {
    let own = env!("CARGO_PKG_VERSION");
    let of = |wanted: PluginKind| {
        CONNECTORS.iter().flat_map(move |connector| {
            let kind = kind_of(connector);
            let spec = connector.spec();
            std::iter::once(spec.class)
                .chain(spec.aliases.iter().copied())
                .filter(move |_| kind == wanted)
                .map(move |class| Plugin { class, kind, version: spec.version })
        })
    };
    let mut all: Vec<Plugin> = of(PluginKind::Sink).chain(of(PluginKind::Source)).collect();
    all.extend(TRANSFORMS.iter().map(|t| Plugin { class: t.class, kind: PluginKind::Transformation, version: own }));
    all.extend(PREDICATES.iter().map(|p| Plugin { class: p.class, kind: PluginKind::Predicate, version: own }));
    for (wanted, kind) in [
        (convert::Kind::Converter, PluginKind::Converter),
        (convert::Kind::HeaderConverter, PluginKind::HeaderConverter),
    ] {
        let of_kind = convert::specs().iter().filter(move |spec| spec.kinds.contains(&wanted));
        all.extend(of_kind.map(|spec| Plugin { class: spec.class, kind, version: own }));
    }
    all
}

/// What a connector is.
pub(super) fn kind_of(connector: &Connector) -> PluginKind {
    match connector {
        Connector::Source(_) => PluginKind::Source,
        Connector::Sink(_) => PluginKind::Sink,
    }
}

/// The connector that a class name or alias means.
pub fn find_connector(class: &str) -> Option<Connector> {
    let class = class.trim();
    let names = |connector: &Connector| {
        let spec = connector.spec();
        std::iter::once(spec.class).chain(spec.aliases.iter().copied()).collect::<Vec<_>>()
    };
    let full = CONNECTORS.iter().find(|connector| names(connector).contains(&class));
    let short = || {
        CONNECTORS.iter().find(|connector| {
            names(connector).iter().any(|name| {
                let simple = name.rsplit('.').next().unwrap_or(name);
                simple == class || simple.strip_suffix("Connector") == Some(class)
            })
        })
    };
    if class.is_empty() { None } else { full.or_else(short).copied() }
}

/// The full class name of a connector config, if it names a known one.
pub fn connector_class(config: &towline_connectors::api::Props) -> Option<&'static str> {
    find_connector(config.get("connector.class")?).map(|connector| connector.spec().class)
}
