//! The operator's own texts: the env file and the address of another server.

use crate::seeds::{config, mutated_text};
use bloom_runtime::cli::ServeFlags;
use bloom_runtime::config::{Config, ConfigError, parse_base_url};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const ENV_FILES: &str = include_str!("corpus/env_files.txt");
const URLS: &str = include_str!("corpus/urls.txt");

/// Stands in every secret of the corpus; no mutation makes it by chance.
const SECRET: &str = "hunter2";

fn load(text: &str) -> Result<Config, ConfigError> {
    let missing = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let file = Some((Path::new("/etc/x.env"), text));
    Config::load(&ServeFlags::default(), file, &BTreeMap::new(), &missing)
}

/// Variables whose values are secrets.
const SECRETS: [&str; 7] = [
    "RUNTIME_API_KEY=",
    "MEMBRIDGE_ADMIN_KEY=",
    "DATABASE_URL=",
    "SESSION_SECRET=",
    "MINIO_ACCESS_KEY=",
    "MINIO_SECRET_KEY=",
    "MEMBRIDGE_AGENT_KEY=",
];

/// Whether the secret stands where everybody sees that it is one: behind the name of a secret, or on a
/// line that is no setting at all.
fn is_recognizable(text: &str) -> bool {
    text.lines().filter_map(|line| line.split_once(SECRET)).all(|(before, _)| {
        SECRETS.iter().any(|name| before.contains(name)) || !before.contains('=')
    })
}

proptest! {
    #![proptest_config(config("tests/fuzz/found/settings.txt"))]

    #[test]
    fn an_env_file_gives_settings_or_one_line_that_repeats_no_secret(text in mutated_text(ENV_FILES)) {
        match load(&text) {
            Ok(config) => {
                let told = format!("{config:?} {:?}", config.notes());
                // One that is glued to a URL's path is a part of that path.
                let is_set = |line: &str| SECRETS.iter().any(|name| line.contains(name));
                let glued = text.lines().any(|line| line.contains(SECRET) && !is_set(line) || line.contains("SERVER_URL=") || line.contains("PUBLIC_URL="));
                prop_assert!(glued || !told.contains(SECRET), "{told}");
                // Without a key or a HOST nobody else is let in.
                let names_host = text.contains("HOST");
                if config.runtime_api_key.is_none() && !names_host {
                    prop_assert!(config.listen_address().ip().is_loopback());
                }
                if let Some(key) = &config.runtime_api_key {
                    prop_assert!(!key.expose().is_empty());
                }
            }
            Err(error) => {
                let line = error.to_string();
                prop_assert!(!is_recognizable(&text) || !line.contains(SECRET), "{line}");
                prop_assert!(!line.contains(['\n', '\r', '\0', '\u{1b}']), "{line:?}");
                prop_assert!(line.contains("write for example"), "{line}");
                prop_assert!(line.len() < 1_000, "{line}");
            }
        }
    }

    #[test]
    fn a_base_url_is_safe_to_call_or_refused(text in mutated_text(URLS)) {
        let Ok(url) = parse_base_url(&text) else { return Ok(()) };
        let kept = url.as_str();
        let rest = kept.strip_prefix("http://").or(kept.strip_prefix("https://"));
        let rest = rest.expect("http or https and nothing else");
        prop_assert_eq!(url.is_https(), kept.starts_with("https://"));
        prop_assert!(kept.len() <= 2048 && kept.bytes().all(|byte| byte.is_ascii_graphic()));
        let host = rest.split('/').next().expect("one part at least");
        prop_assert!(!host.is_empty() && !host.contains('@') && !kept.contains(['?', '#', '\\']));
        prop_assert!(!kept.ends_with('/'));
        // Read again, and by the library that will call it.
        prop_assert_eq!(&parse_base_url(kept).expect("it was accepted"), &url);
        let called: hyper::Uri = format!("{kept}/health").parse().expect("a URL");
        let called_host = called.authority().expect("a host").as_str();
        prop_assert!(called_host.eq_ignore_ascii_case(host), "{called_host} is not {host}");
    }
}
