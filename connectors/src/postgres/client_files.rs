//! Files that PostgreSQL's clients share: passwords (`.pgpass`) and named services (`pg_service.conf`). What can't be read
//! counts as absent, with a WARN; contents are never shown.

use std::path::{Path, PathBuf};

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// A file of the user's home folder, if it is there.
pub(super) fn in_home(path: &str) -> Option<PathBuf> {
    home().map(|home| home.join(path)).filter(|path| path.is_file())
}

fn read(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "file can't be read, and is taken as absent");
            None
        }
    }
}

/// The password of a user, from a given file, else `PGPASSFILE`, else `~/.pgpass`.
pub(super) fn password(given: Option<&str>, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let path = given
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from))
        .or_else(|| home().map(|home| home.join(".pgpass")))?;
    find_password(&read(&path)?, [host, &port.to_string(), database, user])
}

/// The password of the first line whose four fields match.
fn find_password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| {
        let mut fields = split_fields(line.trim_end_matches('\r'));
        let password = fields.pop().filter(|_| fields.len() == 4)?;
        let fits = |(field, wanted): (&String, &str)| field == "*" || field == wanted;
        fields.iter().zip(wanted).all(fits).then_some(password)
    })
}

/// Fields between colons; a backslash takes the next character as it is. The fifth keeps the rest of the line.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let count = fields.len();
        match c {
            '\\' => fields[count - 1].extend(chars.next()),
            ':' if count < 5 => fields.push(String::new()),
            c => fields[count - 1].push(c),
        }
    }
    fields
}

/// The entries of a named service, from `PGSERVICEFILE`, else `~/.pg_service.conf`, else `PGSYSCONFDIR`.
///
/// # Errors
/// If there is no such service.
pub(super) fn service(name: &str) -> Result<Vec<(String, String)>, String> {
    let own = std::env::var_os("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".pg_service.conf")));
    let system = std::env::var_os("PGSYSCONFDIR").map(|folder| PathBuf::from(folder).join("pg_service.conf"));
    let files = [own, system].into_iter().flatten();
    files.filter_map(|path| find_service(&read(&path)?, name)).next().ok_or_else(|| {
        format!(
            "service \"{name}\" is in no pg_service.conf; the file is named by PGSERVICEFILE, or is ~/.pg_service.conf"
        )
    })
}

fn find_service(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut entries: Option<Vec<(String, String)>> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if entries.is_some() {
                break;
            }
            entries = (section == name).then(Vec::new);
        } else if let (Some(entries), Some((key, value))) = (&mut entries, line.split_once('=')) {
            entries.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_by_four_fields() {
        let text = "# comment\nh:5432:d:u:one\nh\\:x:*:*:u:t\\:wo\n*:*:*:*:a:b\nshort:1\n";
        let find = |wanted| find_password(text, wanted);
        assert_eq!(find(["h", "5432", "d", "u"]).as_deref(), Some("one"));
        assert_eq!(find(["h:x", "1", "z", "u"]).as_deref(), Some("t:wo"));
        assert_eq!(find(["other", "1", "z", "v"]).as_deref(), Some("a:b"));
        assert_eq!(find_password("h:1:d:u", ["h", "1", "d", "u"]), None);
        assert_eq!(find_password("\\", ["h", "1", "d", "u"]), None);
    }

    #[test]
    fn services_by_name() {
        let text = "# all\n[one]\nhost=a\n port = 5433 \n[two]\nhost=b\n";
        let one = find_service(text, "one").unwrap();
        assert_eq!(one, [("host".to_owned(), "a".to_owned()), ("port".to_owned(), "5433".to_owned())]);
        assert!(find_service(text, "three").is_none());
    }
}
