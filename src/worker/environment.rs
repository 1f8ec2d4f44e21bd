//! What of our environment Claude may see: an allow-list, so that a new secret stays out by itself.
//!
//! Must stay true: without a tool and without asking, Claude CLI reads every file that a prompt names
//! as `@/path` (seen with 2.1.197): that is off, whatever the environment says. RUNTIME_API_KEY and every Membridge, MinIO and database setting stay out, since
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

/// What no environment can change.
const ALWAYS: [(&str, &str); 2] = [
    ("CLAUDE_CODE_DISABLE_ATTACHMENTS", "1"),
    // Else each scratch folder leaves one for memories in Claude CLI's own.
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
];
/// What holds unless the environment says otherwise.
const UNLESS_SET: [(&str, &str); 3] = [
    // Claude CLI itself would try 10 times, for minutes. A few tries carry a long conversation over a
    // hiccup; what lasts longer is the queue's to wait for, with the code that says why.
    ("CLAUDE_CODE_MAX_RETRIES", "4"),
    // No requests besides those of the task: titles, telemetry, 5 s more at each failure.
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
];

/// Those of `all` that a child process gets, and what is set for every child.
pub fn child_environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<_> = all.filter(|(name, _)| name.to_str().is_some_and(is_allowed)).collect();
    kept.retain(|(name, _)| ALWAYS.iter().all(|(fixed, _)| name != fixed));
    let unset = |name: &str| kept.iter().all(|(other, _)| other != name);
    let defaults: Vec<_> = UNLESS_SET.iter().filter(|(name, _)| unset(name)).collect();
    kept.extend(
        defaults.into_iter().chain(&ALWAYS).map(|(name, value)| (name.into(), value.into())),
    );
    kept
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
        assert_eq!(names[..kept.len()], kept);
        let ours: Vec<_> = UNLESS_SET.iter().chain(&ALWAYS).map(|(name, _)| *name).collect();
        assert_eq!(names[kept.len()..], ours);
    }

    #[test]
    fn what_keeps_prompts_from_reading_files_cannot_be_switched_off() {
        let all = [("CLAUDE_CODE_DISABLE_ATTACHMENTS", "0"), ("CLAUDE_CODE_MAX_RETRIES", "9")];
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let environment = child_environment(all.into_iter());
        let values = |wanted: &str| -> Vec<_> {
            let named = environment.iter().filter(|(name, _)| name == wanted);
            named.map(|(_, value)| value.to_str().unwrap()).collect()
        };
        assert_eq!(values("CLAUDE_CODE_DISABLE_ATTACHMENTS"), ["1"]);
        assert_eq!(values("CLAUDE_CODE_MAX_RETRIES"), ["9"], "the operator's own word");
    }
}
