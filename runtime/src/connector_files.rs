//! Connector configs from files, applied at the start: the folder of `--connectors`, and the files of
//! `connect-standalone`. A connector whose config is already that is left alone.

use std::path::{Path, PathBuf};

use serde_json::Value;
use towline_connectors::api::{Error, Result};

use crate::config::parse_properties;
use crate::herder::Herder;
use crate::store::TargetState;

type Config = Vec<(String, Option<String>)>;

/// Applies the files, in the order of their names.
///
/// # Errors
/// The file that cannot be read or applied, and why.
pub async fn apply(herder: &Herder, folder: Option<&Path>, files: &[PathBuf]) -> Result<()> {
    let mut all = files.to_vec();
    if let Some(folder) = folder {
        all.extend(in_folder(folder)?);
    }
    for file in all {
        let wrong = |message: String| Error::config(format!("connector file {}: {message}", file.display()));
        let text = std::fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
        let (name, config) = parse(&file, &text).map_err(wrong)?;
        let initial = initial_state(&text).map_err(wrong)?;
        let known = herder.info(&name).map(|info| info.config).unwrap_or_default();
        let same = config.iter().all(|(key, value)| known.get(key) == value.as_ref());
        if same && known.len() == config.len() {
            continue;
        }
        let applied = if known.is_empty() {
            herder.create(&name, config, initial).await.map(|_| ())
        } else {
            herder.put_config(&name, config).await.map(|_| ())
        };
        applied.map_err(|refusal| wrong(refusal.message))?;
        tracing::info!(connector = %name, file = %file.display(), "applied connector file");
    }
    Ok(())
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| Error::config(format!("cannot read the folder {}", folder.display())).caused_by(error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "properties") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `.properties`, a flat JSON map, or `{"name": …, "config": {…}}`.
fn parse(file: &Path, text: &str) -> std::result::Result<(String, Config), String> {
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    if !is_json {
        let config: Config = parse_properties(text).into_iter().map(|(k, v)| (k, Some(v))).collect();
        return with_name(config);
    }
    let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let named = json.get("config").filter(|config| config.is_object());
    let object = named.unwrap_or(&json).as_object().ok_or("not a JSON object")?;
    let mut config: Config = object
        .iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), Some(text.clone()))),
            Value::Null => Ok((key.clone(), None)),
            Value::Array(_) | Value::Object(_) => {
                Err(format!("the value of {key} is neither text, number nor boolean"))
            }
            other => Ok((key.clone(), Some(other.to_string()))),
        })
        .collect::<std::result::Result<_, _>>()?;
    if let (Some(_), Some(name)) = (named, json.get("name").and_then(Value::as_str)) {
        config.retain(|(key, _)| key != "name");
        config.push(("name".to_owned(), Some(name.to_owned())));
    }
    with_name(config)
}

/// What a JSON file's `initial_state` says.
fn initial_state(text: &str) -> std::result::Result<Option<TargetState>, String> {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    match json.get("initial_state").and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
        None | Some("RUNNING") => Ok(None),
        Some("PAUSED") => Ok(Some(TargetState::Paused)),
        Some("STOPPED") => Ok(Some(TargetState::Stopped)),
        Some(other) => Err(format!("initial_state {other} is not one of RUNNING, PAUSED, STOPPED")),
    }
}

fn with_name(config: Config) -> std::result::Result<(String, Config), String> {
    let name = config.iter().find(|(key, _)| key == "name").and_then(|(_, name)| name.clone());
    name.map(|name| (name, config)).ok_or_else(|| "it has no \"name\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_three_forms() {
        let parse = |file: &str, text: &str| parse(Path::new(file), text);
        let (name, config) = parse("a.json", r#"{"name":"c","config":{"tasks.max":2,"x":true}}"#).unwrap();
        assert_eq!(name, "c");
        assert!(config.contains(&("tasks.max".to_owned(), Some("2".to_owned()))));
        assert_eq!(parse("a.json", r#"{"name":"c","a":"b"}"#).unwrap().1.len(), 2);
        assert_eq!(parse("a.properties", "name=c\na=b\n").unwrap().0, "c");
        assert!(parse("a.json", r#"{"a":"b"}"#).is_err());
    }
}
