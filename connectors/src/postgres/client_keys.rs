//! Keys of clients for TLS, as PEM: from PEM, from the DER form of PKCS#8, under a password or not, and from PKCS#12,
//! which holds the certificates too. Never shows a password or a key.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};

use crate::api::{Error, Result};

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// A key and, if its file holds them, its certificates, both as PEM.
pub(super) struct ClientKey {
    pub(super) key: Vec<u8>,
    pub(super) certificates: Option<Vec<u8>>,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").finish_non_exhaustive()
    }
}

/// Reads the file that `sslkey` names, with the password of `sslpassword`.
///
/// # Errors
/// If there is no key in it, or it opens by another password.
pub(super) fn read(path: &Path, password: Option<&str>) -> Result<ClientKey> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::config(format!("sslkey {} can't be read", path.display())).caused_by(error))?;
    let refuse = |why: &str| Error::config(format!("sslkey {} {why}", path.display()));
    let is_pkcs12 =
        path.extension().is_some_and(|end| end.eq_ignore_ascii_case("p12") || end.eq_ignore_ascii_case("pfx"));
    let parsed = if is_pkcs12 { of_pkcs12(&bytes, password) } else { of_pkcs8(bytes, password) };
    parsed.map_err(|why| refuse(&why))
}

fn of_pkcs12(bytes: &[u8], password: Option<&str>) -> Result<ClientKey, String> {
    let opened = KeyStore::from_pkcs12(bytes, password.unwrap_or_default(), Pkcs12ImportPolicy::Strict);
    let store = opened.map_err(|_| match password {
        Some(_) => "is no PKCS#12 that sslpassword opens".to_owned(),
        None => "is no PKCS#12 without a password: give it in sslpassword".to_owned(),
    })?;
    let (_, chain) = store.private_key_chain().ok_or("holds no key together with its certificate")?;
    let certificates = chain.certs().iter().flat_map(|certificate| pem("CERTIFICATE", certificate.as_der())).collect();
    Ok(ClientKey { key: pem("PRIVATE KEY", chain.key().as_der()), certificates: Some(certificates) })
}

fn of_pkcs8(bytes: Vec<u8>, password: Option<&str>) -> Result<ClientKey, String> {
    let text = String::from_utf8_lossy(&bytes);
    let key = if let Some(at) = text.find(ENCRYPTED) {
        let (_, document) = SecretDocument::from_pem(&text[at..]).map_err(|_| "is no PEM that can be read")?;
        decrypted(document.as_bytes(), password)?
    } else if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("is encrypted in a form that the driver does not know either: openssl pkcs8 -topk8 makes another"
            .to_owned());
    } else if text.contains("-----BEGIN") {
        bytes
    } else if EncryptedPrivateKeyInfoRef::try_from(&*bytes).is_ok() {
        decrypted(&bytes, password)?
    } else {
        pem("PRIVATE KEY", &bytes)
    };
    Ok(ClientKey { key, certificates: None })
}

fn decrypted(der: &[u8], password: Option<&str>) -> Result<Vec<u8>, String> {
    let sealed = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| "is no encrypted key of PKCS#8")?;
    let password = password.ok_or("is encrypted: give its password in sslpassword")?;
    let key = sealed.decrypt(password).map_err(|_| {
        "can't be decrypted: sslpassword is wrong, or the cipher is an old one, which openssl pkcs8 -topk8 replaces"
    })?;
    Ok(pem("PRIVATE KEY", key.as_bytes()))
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0..3_usize) {
            let head: &[u8] = [&b""[..], ENCRYPTED.as_bytes(), b"\x30\x82\x01\x00"][head];
            let bytes = [head, &bytes].concat();
            let _ = of_pkcs12(&bytes, Some("x"));
            let _ = of_pkcs8(bytes, Some("x"));
        }
    }
}
