//! `${provider:path:key}` placeholders in configs (KIP-297): resolved when a connector is validated or started, never
//! stored and never shown. `file`, `env` and `dir` are known without being declared.

use std::path::Path;

use fancy_regex::Regex;
use towline_connectors::api::{Error, Props, Result};

use crate::config::{WorkerConfig, parse_properties};

/// The config with every placeholder that a provider knows replaced; others stay as they are.
///
/// # Errors
/// A config error if a provider cannot read what it is asked for.
pub fn resolve(props: &Props, worker: &WorkerConfig) -> Result<Props> {
    props.iter().map(|(key, value)| Ok((key.clone(), resolve_text(value, worker)?))).collect()
}

fn resolve_text(text: &str, worker: &WorkerConfig) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let placeholder = &rest[start + 2..start + length];
        out.push_str(&rest[..start]);
        match placeholder.split_once(':') {
            Some((provider, place)) => match look_up(provider, place, worker)? {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[start..=start + length]),
            },
            None => out.push_str(&rest[start..=start + length]),
        }
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(provider: &str, place: &str, worker: &WorkerConfig) -> Result<Option<String>> {
    let class = worker.text(&format!("config.providers.{provider}.class"));
    let param = |name: &str| worker.text(&format!("config.providers.{provider}.param.{name}")).to_owned();
    let kind = match class.rsplit('.').next().unwrap_or_default() {
        "FileConfigProvider" => "file",
        "DirectoryConfigProvider" => "dir",
        "EnvVarConfigProvider" => "env",
        _ => provider,
    };
    let (path, key) = place.split_once(':').unwrap_or(("", place));
    match kind {
        "env" if !path.is_empty() => {
            Err(Error::config(format!("Path is not supported for EnvVarConfigProvider, invalid value '{path}'")))
        }
        "env" => {
            let pattern = param("allowlist.pattern");
            let allowed = pattern.is_empty()
                || Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|p| p.is_match(key).unwrap_or(false));
            Ok(std::env::var(key).ok().filter(|_| allowed))
        }
        "file" if allowed(path, &param("allowed.paths")) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Error::config(format!("Could not read properties from file {path}")).caused_by(error)
            })?;
            Ok(parse_properties(&text).remove(key))
        }
        "dir" | "directory" if allowed(path, &param("allowed.paths")) && !key.contains('/') => {
            let file = Path::new(path).join(key);
            Ok(std::fs::read_to_string(file).ok())
        }
        _ => Ok(None),
    }
}

/// Whether a path lies under one of the allowed folders; all do if none are named.
fn allowed(path: &str, folders: &str) -> bool {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| Path::new(path).to_owned());
    folders.trim().is_empty() || folders.split(',').any(|folder| path.starts_with(folder.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_known_and_leaves_the_rest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "user=me\npass = s3:cret\n").unwrap();
        let path = file.path().display();
        let worker = WorkerConfig::new([]);
        let text = format!("a-${{file:{path}:user}}-${{file:{path}:pass}}-${{file:{path}:none}}-${{topic}}-${{x:y}}");
        let resolved = resolve_text(&text, &worker).unwrap();
        assert_eq!(resolved, format!("a-me-s3:cret-${{file:{path}:none}}-${{topic}}-${{x:y}}"));
        assert!(resolve_text("${file:/does/not/exist:k}", &worker).is_err());
    }
}
