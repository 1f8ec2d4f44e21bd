//! The settings as sentences: precedence, defaults, faults, and that no secret is ever said.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::*;
use crate::domain::TaskStatus;

/// Loads from flags, an env file's text and an environment; `/key` holds `from-file`, `/empty` a
/// newline, every other file is missing.
fn load_all(flags: &ServeFlags, file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env: BTreeMap<_, _> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(flags, Some((Path::new("/etc/b.env"), file)), &env, &|path| match path
        .to_str()
        .unwrap()
    {
        "/key" => Ok("from-file\r\n".to_owned()),
        "/empty" => Ok("\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_all(&ServeFlags::default(), file, env)
}

fn fault(file: &str) -> String {
    load(file, &[]).unwrap_err().to_string()
}

#[test]
fn nothing_set_gives_a_server_on_loopback_without_authentication() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.listen_address().to_string(), "127.0.0.1:5000");
    assert_eq!(config.membridge_server_url.as_str(), "http://127.0.0.1:8000");
    assert_eq!(config.membridge_sync_seconds, Some(10));
    assert_eq!(load("MEMBRIDGE_SYNC_SECONDS=0", &[]).unwrap().membridge_sync_seconds, None);
    assert_eq!(config.data_dir, Path::new("/var/lib/bloom-runtime"));
    assert_eq!((config.rate_limit_per_minute, config.rate_limit_authenticated), (100, 6000));
    assert_eq!(config.log_level, LevelFilter::Info);
    assert_eq!(config.trusted_proxies, Network::loopback());
    assert!(config.runtime_api_key.is_none() && config.minio.is_none());
    assert!(config.keeping.tasks.is_empty() && !config.redirects_to_https());
    assert!(config.notes()[0].starts_with("authentication is off, listening on loopback only"));
}

#[test]
fn an_env_file_of_the_system_we_replace_starts_the_server() {
    let file = "PORT=5000\nDATABASE_URL=postgres://bloom:p%40$s@127.0.0.1/bloom\n\
                SESSION_SECRET='x y'\nRUNTIME_API_KEY=k\nMEMBRIDGE_ADMIN_KEY=a\nNODE_ENV=production\n\
                MINIO_ENDPOINT=127.0.0.1\nMINIO_PORT=9000\nMINIO_ACCESS_KEY=m\nMINIO_SECRET_KEY=n\n\
                MINIO_USE_SSL=false\n";
    let config = load(file, &[]).unwrap();
    assert_eq!(config.listen_address().to_string(), "0.0.0.0:5000");
    assert!(config.redirects_to_https());
    assert_eq!(config.minio.as_ref().unwrap().endpoint.as_str(), "http://127.0.0.1:9000");
    let notes = config.notes();
    assert!(notes.iter().any(|note| note.starts_with("DATABASE_URL is ignored")), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("artifacts go to S3")), "{notes:?}");
    assert!(!format!("{config:?}").contains("p%40$s"));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "PORT=1\nHOST=10.0.0.1\nDATA_DIR=/file\nLOG_LEVEL=debug";
    let flags = ServeFlags { port: Some("3".into()), ..ServeFlags::default() };
    let config = load_all(&flags, file, &[("PORT", "2"), ("HOST", "::1")]).unwrap();
    assert_eq!(config.listen_address().to_string(), "[::1]:3");
    assert_eq!(config.data_dir, Path::new("/file"));
    assert_eq!(config.log_level, LevelFilter::Debug);
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let config = load("PORT=7\nRUNTIME_API_KEY=\nBLOOM_RUNTIME_PORT=8", &[("PORT", " ")]).unwrap();
    assert_eq!(config.port, 7);
    assert!(config.runtime_api_key.is_none());
    assert_eq!(load("BLOOM_RUNTIME_PORT=8\nPORT=", &[]).unwrap().port, 8);
}

#[test]
fn a_secret_can_stand_in_a_file_and_the_stronger_source_wins() {
    let key = |file: &str, env: &[(&str, &str)]| {
        let config = load(file, env).unwrap();
        (config.runtime_api_key.as_ref().unwrap().expose().to_owned(), config.notes())
    };
    assert_eq!(key("RUNTIME_API_KEY_FILE=/key", &[]).0, "from-file");
    // The process environment wins over the env file, whichever form it uses.
    assert_eq!(key("RUNTIME_API_KEY=old", &[("RUNTIME_API_KEY_FILE", "/key")]).0, "from-file");
    // Side by side the direct one wins, and the start says so.
    let (direct, notes) = key("RUNTIME_API_KEY=direct\nRUNTIME_API_KEY_FILE=/key", &[]);
    assert_eq!(direct, "direct");
    assert_eq!(
        notes.last().unwrap(),
        "RUNTIME_API_KEY_FILE is ignored: RUNTIME_API_KEY is set too"
    );
}

#[test]
fn a_key_file_that_gives_no_key_stops_the_start() {
    let missing = fault("RUNTIME_API_KEY_FILE=/nope");
    assert!(missing.starts_with(r#"RUNTIME_API_KEY_FILE (/etc/b.env:1): the file "/nope" cannot"#));
    assert!(fault("RUNTIME_API_KEY_FILE=/empty").contains(r#"the file "/empty" is empty"#));
}

#[test]
fn a_key_that_no_header_can_carry_stops_the_start_and_is_not_repeated() {
    for file in ["RUNTIME_API_KEY=\"hunter2\t\"", "MEMBRIDGE_ADMIN_KEY=' hunter2'"] {
        let text = fault(file);
        assert!(text.contains("HTTP header") && !text.contains("hunter2"), "{text}");
    }
    assert!(load("RUNTIME_API_KEY=ключ", &[]).is_ok());
}

#[test]
fn a_value_that_cannot_be_used_is_one_line_with_name_fault_and_example() {
    for (line, starts, ends) in [
        ("PORT=80x", r#"PORT (/etc/b.env:1): "80x" is not a number from 0"#, "PORT=5000"),
        ("PORT=+80", "PORT (/etc/b.env:1)", "PORT=5000"),
        ("PORT=65536", "PORT (/etc/b.env:1)", "PORT=5000"),
        ("BLOOM_RUNTIME_PORT=-1", "BLOOM_RUNTIME_PORT (/etc/b.env:1)", "BLOOM_RUNTIME_PORT=5000"),
        ("HOST=pi.lan", r#"HOST (/etc/b.env:1): "pi.lan" is not an IP address"#, "HOST=0.0.0.0"),
        ("MEMBRIDGE_SERVER_URL=h:8000", "MEMBRIDGE_SERVER_URL (", "=http://127.0.0.1:8000"),
        ("PUBLIC_URL=bloom", "PUBLIC_URL (", "PUBLIC_URL=https://bloom.example"),
        ("MINIO_ENDPOINT=a_b/c?d", "MINIO_ENDPOINT (", "MINIO_ENDPOINT=http://127.0.0.1:9000"),
        ("MINIO_PORT=0", "MINIO_PORT (", "MINIO_PORT=9000"),
        ("MINIO_USE_SSL=maybe", "MINIO_USE_SSL (", "MINIO_USE_SSL=true"),
        ("MINIO_ARTIFACT_BUCKET=A", "MINIO_ARTIFACT_BUCKET (", "=bloom-artifacts"),
        ("MINIO_PATH_STYLE=0\nMINIO_ENDPOINT=10.0.0.1", "MINIO_PATH_STYLE (", "MINIO_PATH_STYLE=1"),
        ("MINIO_REGION=a/b", "MINIO_REGION (", "=us-east-1"),
        ("MEMBRIDGE_BUCKET=..", "MEMBRIDGE_BUCKET (", "=claude-memory"),
        ("ARCHIVE_AFTER_SECONDS=1h", "ARCHIVE_AFTER_SECONDS (", "=30"),
        ("ARTIFACT_INLINE=no", "ARTIFACT_INLINE (", "=until_uploaded"),
        ("RETENTION_S3=2", "RETENTION_S3 (", "RETENTION_S3=1"),
        ("FORCE_HTTPS=2", "FORCE_HTTPS (", "FORCE_HTTPS=1"),
        ("TRUSTED_PROXIES=proxy", "TRUSTED_PROXIES (", "=127.0.0.1,10.0.0.0/8"),
        ("ALLOWED_HOSTS=http://h", "ALLOWED_HOSTS (", "=bloom.example,192.168.1.10"),
        ("RATE_LIMIT_PER_MINUTE=1.5", "RATE_LIMIT_PER_MINUTE (", "=100"),
        ("RATE_LIMIT_AUTHENTICATED=x", "RATE_LIMIT_AUTHENTICATED (", "=6000"),
        ("RETENTION_DAYS=-7", "RETENTION_DAYS (", "RETENTION_DAYS=90"),
        ("AGENT_LIMITS=reviewer", "AGENT_LIMITS (", "AGENT_LIMITS=reviewer=2,writer=1"),
        ("MEMBRIDGE_SYNC_SECONDS=1.5", "MEMBRIDGE_SYNC_SECONDS (", "MEMBRIDGE_SYNC_SECONDS=10"),
        ("AGENT_LIMITS=a=1,a=2", "AGENT_LIMITS (", "AGENT_LIMITS=reviewer=2,writer=1"),
        ("AGENT_LIMITS=a=0", "AGENT_LIMITS (", "AGENT_LIMITS=reviewer=2,writer=1"),
        ("LOG_LEVEL=loud", "LOG_LEVEL (", "LOG_LEVEL=info"),
    ] {
        let text = fault(line);
        assert!(text.starts_with(starts) && text.ends_with(ends), "{text}");
        assert!(text.contains("; write for example ") && !text.contains('\n'), "{text}");
    }
    let flags = ServeFlags { port: Some("x".into()), ..ServeFlags::default() };
    let text = load_all(&flags, "", &[]).unwrap_err().to_string();
    assert_eq!(
        text,
        r#"--port: "x" is not a number from 0 to 65535; write for example --port 5000"#
    );
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    for name in ["MEMBRIDGE_SERVER_URL", "PUBLIC_URL", "MINIO_ENDPOINT"] {
        let text = fault(&format!("{name}=http://u:hunter2@h"));
        assert!(text.contains("user name or password") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_listen_address_may_be_of_either_family_and_any_port() {
    for (host, listens) in [
        ("[::]", "[::]:0"),
        ("::1", "[::1]:0"),
        ("localhost", "127.0.0.1:0"),
        ("0.0.0.0", "0.0.0.0:0"),
    ] {
        let config = load(&format!("HOST={host}\nPORT=0"), &[]).unwrap();
        assert_eq!(config.listen_address().to_string(), listens);
    }
}

#[test]
fn an_open_server_without_a_key_is_warned_about() {
    let notes = load("HOST=0.0.0.0\nHTTP_PORT=80\nRATE_LIMIT_PER_MINUTE=0", &[]).unwrap().notes();
    assert!(notes[0].contains("authentication is off and the server listens on 0.0.0.0"));
    assert!(notes.iter().any(|note| note.starts_with("HTTP_PORT is ignored")));
    assert!(notes.iter().any(|note| note.contains("rate limits are off")));
}

#[test]
fn lists_take_commas_and_blanks() {
    let config =
        load("TRUSTED_PROXIES=10.0.0.0/8, ::1\nALLOWED_HOSTS=Pi.LAN [fd00::1]", &[]).unwrap();
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.allowed_hosts, ["pi.lan", "fd00::1"]);
    assert!(load("TRUSTED_PROXIES=none", &[]).unwrap().trusted_proxies.is_empty());
    let notes = load("TRUSTED_PROXIES=0.0.0.0/0", &[]).unwrap().notes();
    assert!(notes.iter().any(|note| note.contains("trusts everyone")), "{notes:?}");
    assert!(load("RETENTION_DAYS=0", &[]).unwrap().keeping.retention().keeps_everything());
    let per_status = load("RETENTION_DAYS=completed=30,failed=90", &[]).unwrap().keeping;
    assert_eq!(per_status.tasks, [(TaskStatus::Completed, 30), (TaskStatus::Failed, 90)]);
    let idle = |file: &str| load(file, &[]).unwrap().keeping.compact_idle_seconds;
    assert_eq!((idle(""), idle("COMPACT_IDLE_SECONDS=0")), (Some(300), None));
}

#[test]
fn minio_is_a_host_a_host_with_a_port_or_a_url() {
    for (lines, endpoint) in [
        ("MINIO_ENDPOINT=minio", "http://minio:9000"),
        ("MINIO_ENDPOINT=minio\nMINIO_USE_SSL=true\nMINIO_PORT=9443", "https://minio:9443"),
        ("MINIO_ENDPOINT=minio:1", "http://minio:1"),
        ("MINIO_ENDPOINT=https://s3.example/", "https://s3.example"),
    ] {
        let lines = format!("{lines}\nMINIO_ACCESS_KEY=a\nMINIO_SECRET_KEY=s");
        let minio = load(&lines, &[]).unwrap().minio.unwrap();
        assert_eq!(minio.endpoint.as_str(), endpoint);
        assert_eq!((minio.region.as_str(), minio.path_style), ("us-east-1", true));
        assert!(!minio.keeps_inline && !minio.retention_removes);
    }
}

#[test]
fn s3_without_one_of_its_three_settings_is_off_and_a_note_names_the_missing_one() {
    let config = load("MINIO_ENDPOINT=minio\nMINIO_SECRET_KEY=hunter2", &[]).unwrap();
    assert!(config.minio.is_none());
    let notes = config.notes();
    let words = "MINIO_ENDPOINT and MINIO_SECRET_KEY without MINIO_ACCESS_KEY";
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
    assert!(!format!("{config:?}").contains("hunter2"));
}
