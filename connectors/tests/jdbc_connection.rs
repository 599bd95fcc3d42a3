//! How connections are made: TLS, several hosts, files with passwords and services, settings of the session.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use towline_connectors::api::{ErrorKind, Props};
use towline_connectors::postgres::connection::{ConnectionSettings, Session};

use crate::jdbc_harness::{Sink, Source, props, until};
use crate::postgres_server::{PostgresServer, run, shared};

async fn connect(entries: &[(&str, &str)]) -> Result<Session, towline_connectors::api::Error> {
    let props: Props = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let given = props.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    ConnectionSettings::from_keys(given).unwrap().connect().await
}

async fn shown(session: &mut Session, sql: &'static str) -> String {
    let value: Option<String> = sqlx::query_scalar(sql).fetch_one(&mut session.connection).await.unwrap();
    value.unwrap_or_default()
}

/// A certificate authority and a certificate for `localhost`, made by it; `other.crt` is of another authority.
fn make_certificates(folder: &Path) {
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |arguments: &[&str]| run(Command::new("openssl").args(arguments));
    for (name, subject) in [("ca", "/CN=test authority"), ("other", "/CN=other authority")] {
        let (key, certificate) = (file(&format!("{name}.key")), file(&format!("{name}.crt")));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
    }
    for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=postgres")] {
        let (key, request, certificate) =
            (file(&format!("{name}.key")), file(&format!("{name}.csr")), file(&format!("{name}.crt")));
        openssl(&["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &request]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &file("ca.crt"),
            "-CAkey",
            &file("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &file("names"),
            "-out",
            &certificate,
        ]);
    }
    openssl(&[
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-outform",
        "DER",
        "-in",
        &file("client.key"),
        "-out",
        &file("client.pk8"),
    ]);
    // Under a password: the driver's forms, and those of older tools.
    let (key, certificate) = (file("client.key"), file("client.crt"));
    let sealed = ["-in", &key, "-passout", "pass:open sesame"];
    openssl(&[&["pkcs8", "-topk8", "-outform", "DER", "-out", &file("sealed.pk8")], &sealed[..]].concat());
    openssl(&[&["pkcs8", "-topk8", "-out", &file("sealed.pem")], &sealed[..]].concat());
    let store = ["pkcs12", "-export", "-inkey", &key, "-in", &certificate, "-passout", "pass:open sesame"];
    openssl(&[&store[..], &["-name", "user", "-out", &file("client.p12")]].concat());
    let old = ["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"];
    openssl(&[&store[..], &old[..], &["-out", &file("old.pfx")]].concat());
    run(Command::new("chmod").arg("600").arg(folder.join("server.key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_required_and_verified_as_asked() {
    let files = tempfile::tempdir().unwrap();
    make_certificates(files.path());
    let server = PostgresServer::start_with(|data| {
        for name in ["server.key", "server.crt", "ca.crt"] {
            fs::copy(files.path().join(name), data.join(name)).unwrap();
        }
        run(Command::new("chmod").arg("600").arg(data.join("server.key")));
        fs::write(
            data.join("pg_hba.conf"),
            "hostssl certs all all cert\nhostssl all all all scram-sha-256\nhost plain all all scram-sha-256\n",
        )
        .unwrap();
        "ssl=on\nssl_ca_file='ca.crt'".to_owned()
    });
    // The administrator's own connections are encrypted too.
    let db = server.database().await;
    db.run("CREATE DATABASE certs").await;
    let url = |host: &str, database: &str, rest: &str| format!("jdbc:postgresql://{host}:{}/{database}{rest}", db.port);
    let (authority, other) = (files.path().join("ca.crt"), files.path().join("other.crt"));
    let (authority, other) = (authority.to_str().unwrap(), other.to_str().unwrap());
    let with = async |host: &str, rest: &str, entries: &[(&str, &str)]| {
        let url = url(host, &db.name, rest);
        let own =
            [("connection.url", url.as_str()), ("connection.user", "postgres"), ("connection.password", "sesame")];
        connect(&[&own[..], entries].concat()).await
    };
    const ENCRYPTED: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (host, rest, entries) in [
        ("127.0.0.1", "", &[][..]),
        ("127.0.0.1", "?sslmode=require", &[]),
        ("127.0.0.1", "", &[("connection.sslmode", "verify-ca"), ("connection.sslrootcert", authority)]),
        ("localhost", "?ssl=true", &[("connection.sslrootcert", authority)]),
        ("localhost", "", &[("connection.sslmode", "verify-full"), ("connection.sslrootcert", authority)]),
        ("127.0.0.1", "?ssl&sslfactory=org.postgresql.ssl.NonValidatingFactory", &[]),
    ] {
        let mut session = with(host, rest, entries).await.unwrap_or_else(|error| panic!("{host} {rest}: {error}"));
        assert_eq!(shown(&mut session, ENCRYPTED).await, "true", "{host} {rest}");
    }
    for (host, rest, entries, part) in [
        ("localhost", "?sslmode=verify-ca", &[("connection.sslrootcert", other)][..], "is not trusted"),
        ("localhost", "?sslmode=verify-full", &[], "is not trusted"),
        ("127.0.0.1", "?sslmode=verify-full", &[("connection.sslrootcert", authority)], "another host name"),
        ("localhost", "?sslmode=verify-full&sslrootcert=/nowhere", &[], "/nowhere"),
        ("localhost", "?sslmode=sometimes", &[], "sometimes"),
        ("127.0.0.1", "?sslmode=disable", &[], "pg_hba.conf"),
    ] {
        let error = with(host, rest, entries).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    // A client's certificate stands for its password; the key may have the driver's form.
    let url = url("localhost", "certs", "?sslmode=verify-full");
    for key in ["client.key", "client.pk8"] {
        let (certificate, key) = (files.path().join("client.crt"), files.path().join(key));
        let entries = [
            ("connection.url", url.as_str()),
            ("connection.user", "postgres"),
            ("connection.sslrootcert", authority),
            ("connection.sslcert", certificate.to_str().unwrap()),
            ("connection.sslkey", key.to_str().unwrap()),
        ];
        assert_eq!(shown(&mut connect(&entries).await.unwrap(), ENCRYPTED).await, "true");
    }
    // PKCS#12 holds the certificate too.
    for (key, password, expected) in [
        ("sealed.pk8", Some("open sesame"), Ok(())),
        ("sealed.pem", Some("open sesame"), Ok(())),
        ("client.p12", Some("open sesame"), Ok(())),
        ("old.pfx", Some("open sesame"), Ok(())),
        ("sealed.pk8", Some("wrong"), Err("sslpassword is wrong")),
        ("sealed.pem", None, Err("give its password in sslpassword")),
        ("client.p12", Some("wrong"), Err("no PKCS#12 that sslpassword opens")),
        ("client.p12", None, Err("give it in sslpassword")),
        ("nowhere", None, Err("can't be read")),
    ] {
        let (certificate, key) = (files.path().join("client.crt"), files.path().join(key));
        let mut entries = vec![
            ("connection.url", url.as_str()),
            ("connection.user", "postgres"),
            ("connection.sslrootcert", authority),
            ("connection.sslkey", key.to_str().unwrap()),
        ];
        if expected.is_err() || key.extension().is_some_and(|end| end != "p12" && end != "pfx") {
            entries.push(("connection.sslcert", certificate.to_str().unwrap()));
        }
        entries.extend(password.map(|password| ("connection.sslpassword", password)));
        match (connect(&entries).await, expected) {
            (Ok(mut session), Ok(())) => assert_eq!(shown(&mut session, ENCRYPTED).await, "true"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part) && !error.to_string().contains("open sesame"), "{error}");
                assert_eq!(error.kind(), ErrorKind::Config);
            }
            (other, _) => panic!("{} {password:?}: {other:?}", key.display()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_told() {
    let db = shared().database().await;
    let url = format!("{}?sslmode=require", db.jdbc_url());
    let error = connect(&[("connection.url", &url), ("connection.user", "postgres")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("offers no TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_with_the_wanted_role_is_found() {
    let server = PostgresServer::start();
    let db = server.database().await;
    let standby = server.standby();
    let copy = standby.copy_of(&db);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let hosts = [nobody, copy.port, db.port].map(|port| format!("127.0.0.1:{port}")).join(",");
    let at = async |wanted: &str, hosts: &str| {
        let url = format!("jdbc:postgresql://{hosts}/{}?targetServerType={wanted}", db.name);
        let mut session =
            connect(&[("connection.url", &url), ("connection.user", "postgres"), ("connection.password", "sesame")])
                .await?;
        Ok::<_, towline_connectors::api::Error>(shown(&mut session, "SELECT current_setting('port')").await)
    };
    let (primary, secondary) = (db.port.to_string(), copy.port.to_string());
    for (wanted, port) in [
        ("any", &secondary),
        ("primary", &primary),
        ("master", &primary),
        ("secondary", &secondary),
        ("preferPrimary", &primary),
        ("preferSecondary", &secondary),
    ] {
        assert_eq!(at(wanted, &hosts).await.unwrap(), *port, "{wanted}");
    }
    let only = |port: u16| format!("127.0.0.1:{port}");
    assert_eq!(at("preferSecondary", &only(db.port)).await.unwrap(), primary);
    let error = at("primary", &only(copy.port)).await.unwrap_err();
    assert!(
        error.to_string().contains("not a server of type primary") && error.kind() == ErrorKind::Retriable,
        "{error}"
    );
    assert_eq!(at("any&loadBalanceHosts=true", &hosts).await.map(|port| port.len()).unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_settings_come_from_where_clients_keep_them() {
    let db = shared().database().await;
    db.run("CREATE SCHEMA s; CREATE SCHEMA t").await;
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("pass");
    fs::write(&passwords, format!("other:*:*:*:wrong\n127.0.0.1:{}:*:postgres:sesame\n", db.port)).unwrap();
    let url = format!(
        "{}?currentSchema=s,t&queryTimeout=7&ApplicationName=mine&options=-c%20work_mem=1234kB%20--TimeZone=Asia/Seoul&unknown=x",
        db.jdbc_url()
    );
    let entries = [
        ("connection.url", url.as_str()),
        ("connection.user", "postgres"),
        ("connection.passfile", passwords.to_str().unwrap()),
        ("connection.readOnly", "true"),
    ];
    let mut session = connect(&entries).await.unwrap();
    let settings = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('statement_timeout'), \
                    current_setting('application_name'), current_setting('work_mem'), current_setting('TimeZone'), \
                    current_setting('transaction_read_only'))";
    assert_eq!(shown(&mut session, settings).await, "s,t 7s mine 1234kB Asia/Seoul on");
}

/// A way to a database that can fall silent, as a network does that drops packets.
struct Relay {
    port: u16,
    silent: Arc<AtomicBool>,
    /// Whether connections fall silent as soon as the server has let the client in.
    silent_after_login: Arc<AtomicBool>,
}

impl Relay {
    async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            silent: Arc::default(),
            silent_after_login: Arc::default(),
        };
        let silent = Arc::clone(&relay.silent);
        let after_login = Arc::clone(&relay.silent_after_login);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pass(near_in, far_out, Arc::clone(&silent), Arc::default()));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&silent), Arc::clone(&after_login)));
            }
        });
        relay
    }
}

/// Passes bytes on; once silent, a connection stays open and silent for ever.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silent: Arc<AtomicBool>, after_login: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        // "Ready for query".
        if after_login.load(Ordering::SeqCst) && buffer[..count].ends_with(b"Z\0\0\0\x05I") {
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_falls_silent_is_left_after_socket_timeout() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE TABLE u (id int, v text); INSERT INTO t (v) VALUES ('a')").await;
    let relay = Relay::to(db.port).await;
    let url = format!("jdbc:postgresql://127.0.0.1:{}/{}?socketTimeout=1", relay.port, db.name);
    let with = |entries: &[(&str, &str)]| props(&db, &[&[("connection.url", url.as_str())], entries].concat());
    let mut source =
        Source::open(&with(&[("mode", "incrementing"), ("table.whitelist", "t")]), Vec::new()).await.unwrap();
    let records = source.take(1).await;
    let mut sink = Sink::open(&with(&[("table.name.format", "u")])).await.unwrap();
    assert!(sink.put(&records).await.unwrap().is_empty());
    relay.silent.store(true, Ordering::SeqCst);
    assert_eq!(sink.put(&records).await.unwrap_err().kind(), ErrorKind::Retriable);
    until("the source notices", async || {
        assert!(source.task.poll().await.unwrap().is_empty());
        source.health.message().is_some_and(|message| message.contains("socketTimeout"))
    })
    .await;
    relay.silent.store(false, Ordering::SeqCst);
    db.run("INSERT INTO t (v) VALUES ('b')").await;
    assert_eq!(source.take(1).await.len(), 1);
    assert!(sink.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) FROM u").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_takes_no_longer_than_is_allowed() {
    let db = shared().database().await;
    let relay = Relay::to(db.port).await;
    let at = |hosts: usize, rest: &str| {
        let hosts = vec![format!("127.0.0.1:{}", relay.port); hosts].join(",");
        format!("jdbc:postgresql://{hosts}/{}?user=postgres&password=sesame&{rest}", db.name)
    };
    for after_login in [false, true] {
        relay.silent.store(!after_login, Ordering::SeqCst);
        relay.silent_after_login.store(after_login, Ordering::SeqCst);
        for (hosts, rest, part) in [
            (1, "connectTimeout=1", "no answer within 1 s"),
            (1, "connectTimeout=0&loginTimeout=1", "loginTimeout=1 s"),
            (9, "connectTimeout=60&loginTimeout=1", "loginTimeout=1 s"),
            (2, "connectTimeout=1&targetServerType=primary", "no answer within 1 s"),
        ] {
            let error = connect(&[("connection.url", &at(hosts, rest))]).await.unwrap_err();
            assert!(error.to_string().contains(part), "{rest}: {error}");
            assert_eq!(error.kind(), ErrorKind::Retriable);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demands_that_cannot_be_met_are_refused() {
    let db = shared().database().await;
    for (rest, part) in [
        ("channelBinding=require", "channelBinding=require can't be met"),
        ("requireAuth=scram-sha-256", "requireAuth can't be met"),
        ("gssEncMode=require", "gssEncMode=require"),
        ("targetServerType=leader", "targetServerType=leader is unknown"),
    ] {
        let url = format!("{}?user=postgres&password=sesame&{rest}", db.jdbc_url());
        let error = connect(&[("connection.url", &url)]).await.unwrap_err();
        assert!(error.to_string().contains(part) && error.kind() == ErrorKind::Config, "{error}");
    }
    let url = format!("{}?user=postgres&password=sesame&channelBinding=prefer&gssEncMode=prefer", db.jdbc_url());
    connect(&[("connection.url", &url)]).await.unwrap();
}
