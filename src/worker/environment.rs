//! What of our environment Claude may see: an allow-list, so that a new secret stays out by itself.
//!
//! Must stay true: RUNTIME_API_KEY and every Membridge, MinIO and database setting stay out, since
//! a prompt can make Claude print its environment (P10). Pure: the caller reads the environment.

use std::ffi::OsString;

const ALLOWED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TERM",
    "TMPDIR",
    "TZ",
    "XDG_CONFIG_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    // What Claude CLI asks for on Alpine, and where it may not replace itself.
    "USE_BUILTIN_RIPGREP",
    "DISABLE_AUTOUPDATER",
];
const ALLOWED_PREFIXES: [&str; 4] = ["ANTHROPIC_", "CLAUDE_", "LC_", "SSL_CERT_"];

/// Those of `all` that a child process gets.
pub fn child_environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    all.filter(|(name, _)| name.to_str().is_some_and(is_allowed)).collect()
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || ALLOWED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_gets_what_it_needs_and_none_of_our_secrets() {
        let kept = ["PATH", "HOME", "LC_ALL", "ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "TZ"];
        let withheld = [
            "RUNTIME_API_KEY",
            "MEMBRIDGE_ADMIN_KEY",
            "MEMBRIDGE_AGENT_KEY",
            "MINIO_SECRET_KEY",
            "DATABASE_URL",
            "SESSION_SECRET",
            "AWS_SECRET_ACCESS_KEY",
            "LD_PRELOAD",
            "path",
            "XPATH",
            "",
        ];
        let all = kept.iter().chain(&withheld).map(|name| (name.into(), "value".into()));
        let names: Vec<_> = child_environment(all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, kept);
    }
}
