//! SIGHUP: the settings are read again; what can change while the server runs does.
//!
//! Must stay true: settings that cannot be used change nothing; each changed name is said, with
//! whether it counts now or after a restart; no value is (P10). A SIGHUP from a terminal that closes
//! is a stop instead (`signals`). Not here: what the settings mean.

use super::say;
use super::signals::hangups;
use crate::api::App;
use crate::cli::ServeFlags;
use crate::config::Config;
use std::sync::Arc;

/// The settings that count from a reload on. All others are read by parts that were made from them.
const LIVE: [&str; 3] = ["LOG_LEVEL", "RATE_LIMIT_AUTHENTICATED", "RATE_LIMIT_PER_MINUTE"];

/// Waits for SIGHUP, again and again.
pub async fn run(flags: ServeFlags, config: Config, app: Arc<App>) {
    let Some(mut hangups) = hangups() else { return };
    let mut in_effect = config.values;
    while hangups.recv().await.is_some() {
        let now = match Config::from_process(&flags) {
            Ok(now) => now,
            Err(error) => {
                say(format!("reload: nothing has changed: {error}"));
                continue;
            }
        };
        log::set_max_level(now.log_level);
        app.set_rate_limits(now.rate_limit_per_minute, now.rate_limit_authenticated);
        let changed = in_effect.changed(&now.values);
        LIVE.iter().for_each(|name| in_effect.adopt(name, &now.values));
        lines(&changed).iter().for_each(say);
    }
}

fn lines(changed: &[String]) -> Vec<String> {
    let (live, later): (Vec<_>, Vec<_>) =
        changed.iter().map(String::as_str).partition(|name| LIVE.contains(name));
    let mut lines = Vec::new();
    if !live.is_empty() {
        lines.push(format!("reload: {}: in effect now", live.join(", ")));
    }
    if !later.is_empty() {
        lines.push(format!("reload: {}: changed, in effect after a restart", later.join(", ")));
    }
    if lines.is_empty() {
        lines.push("reload: no setting has changed".to_owned());
    }
    lines
}
