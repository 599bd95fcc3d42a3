//! TLS as the driver's properties ask for it: `sslmode`, `ssl`, `sslfactory`, and the files with certificates and keys.

use std::path::PathBuf;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{client_files, client_keys};
use crate::api::{Error, Result};

/// Sets what the properties say.
///
/// # Errors
/// If a property or a file is of no use.
pub(super) fn apply<'a>(
    options: PgConnectOptions,
    property: impl Fn(&str) -> Option<&'a str>,
) -> Result<PgConnectOptions> {
    // The process may link more than one provider of cryptography, and then rustls wants to be told which one to take.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mode = mode(&property)?;
    let verifies = matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let mut options = options.ssl_mode(mode);
    // As the driver: without a file of one's own the usual place counts.
    let file = |key: &str, usual: &str| property(key).map(PathBuf::from).or_else(|| client_files::in_home(usual));
    if let Some(path) = file("sslrootcert", ".postgresql/root.crt").filter(|_| verifies) {
        if !path.is_file() {
            return Err(Error::config(format!("sslrootcert {} is no file that can be read", path.display())));
        }
        options = options.ssl_root_cert(path);
    }
    if let Some(path) = file("sslkey", ".postgresql/postgresql.pk8") {
        let certificate = file("sslcert", ".postgresql/postgresql.crt");
        // The file of a key that lacks its certificate may have nothing to do with this connection.
        if certificate.is_none() && property("sslkey").is_none() {
            return Ok(options);
        }
        let own = client_keys::read(&path, property("sslpassword"))?;
        options = match (own.certificates, certificate) {
            (Some(certificates), _) => options.ssl_client_cert_from_pem(certificates),
            (None, Some(certificate)) => options.ssl_client_cert(certificate),
            (None, None) => return Err(Error::config("sslkey needs the key's certificate in sslcert")),
        };
        options = options.ssl_client_key_from_pem(own.key);
    }
    Ok(options)
}

fn mode<'a>(property: &impl Fn(&str) -> Option<&'a str>) -> Result<PgSslMode> {
    Ok(match property("sslmode").map(str::to_ascii_lowercase).as_deref() {
        Some("disable") => PgSslMode::Disable,
        // The driver has no "plain first"; encrypting where the server can is never weaker.
        Some("allow" | "prefer") => PgSslMode::Prefer,
        Some("require") => PgSslMode::Require,
        Some("verify-ca") => PgSslMode::VerifyCa,
        Some("verify-full") => PgSslMode::VerifyFull,
        Some(other) => {
            return Err(Error::config(format!(
                "sslmode \"{other}\" is unknown: use disable, allow, prefer, require, verify-ca or verify-full"
            )));
        }
        None => match property("ssl") {
            Some("" | "true") if property("sslfactory").is_some_and(|name| name.ends_with("NonValidatingFactory")) => {
                PgSslMode::Require
            }
            Some("" | "true") => PgSslMode::VerifyFull,
            Some(other) if other != "false" => {
                tracing::warn!(ssl = other, "ssl takes true or false; set sslmode=require to enforce encryption");
                PgSslMode::Prefer
            }
            _ if property("sslfactory").is_some_and(|name| name.ends_with("NonValidatingFactory")) => {
                PgSslMode::Require
            }
            _ => PgSslMode::Prefer,
        },
    })
}

/// What a failed handshake means, if it is one that will fail again.
pub(super) fn explain(said: &str) -> Option<&'static str> {
    let said = said.to_ascii_lowercase();
    Some(if said.contains("does not support tls") {
        "the server offers no TLS: set ssl=on there, or sslmode=prefer or disable"
    } else if said.contains("notvalidforname") || said.contains("not valid for name") {
        "the server's certificate is for another host name: connect by that name, or use sslmode=verify-ca"
    } else if said.contains("causedasendentity") {
        "the server's certificate says that it is an authority, and its own: make it with basicConstraints=CA:FALSE, or let \
         another authority sign it; sslmode=require encrypts without checking"
    } else if said.contains("unknownissuer") || said.contains("unknown issuer") || said.contains("certificate") {
        "the server's certificate is not trusted: name the authority's certificate in sslrootcert, or use sslmode=require \
         to encrypt without checking"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&'static str, &'static str)]) -> PgSslMode {
        mode(&|key: &str| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)).unwrap()
    }

    #[test]
    fn failures_say_what_to_do() {
        for (said, part) in [
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("invalid peer certificate: UnknownIssuer", "sslrootcert"),
            ("invalid peer certificate: certificate not valid for name \"h\"", "another host name"),
            ("server does not support TLS", "offers no TLS"),
        ] {
            assert!(explain(said).unwrap().contains(part), "{said}");
        }
        assert_eq!(explain("connection reset by peer"), None);
    }

    #[test]
    fn modes_as_the_driver() {
        assert!(matches!(of(&[]), PgSslMode::Prefer));
        assert!(matches!(of(&[("sslmode", "REQUIRE")]), PgSslMode::Require));
        assert!(matches!(of(&[("ssl", "")]), PgSslMode::VerifyFull));
        assert!(matches!(of(&[("ssl", "require")]), PgSslMode::Prefer));
        assert!(matches!(
            of(&[("ssl", "true"), ("sslfactory", "org.postgresql.ssl.NonValidatingFactory")]),
            PgSslMode::Require
        ));
        assert!(matches!(of(&[("ssl", "true"), ("sslmode", "disable")]), PgSslMode::Disable));
    }
}
