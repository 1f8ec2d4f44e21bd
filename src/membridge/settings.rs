//! Which address and key are used: what was saved, else the environment's.
//!
//! Must stay true: a key is used for the origin (scheme, host, port) that it was entered for and for no
//! other; what is shown of it is masked (P10). Not here: where settings are stored (`engine`).

use crate::config::{BaseUrl, Secret, parse_base_url};
use crate::engine::Settings;

#[derive(Clone, Debug)]
pub struct Connection {
    pub url: BaseUrl,
    pub key: Option<Secret>,
}

impl Connection {
    /// Saved settings win over the environment's.
    pub fn in_effect(saved: &Settings, environment: &Connection) -> Connection {
        let url = saved.membridge_server_url.as_deref().and_then(|url| parse_base_url(url).ok());
        let Some(url) = url else { return environment.clone() };
        let key = saved.membridge_admin_key.clone().map(Secret::new);
        let key = key.or_else(|| environment.key_for(&url));
        Connection { url, key }
    }

    pub fn is_same(&self, other: &Connection) -> bool {
        let [key, other_key] = [self, other].map(|one| one.key.as_ref().map(Secret::expose));
        self.url == other.url && key == other_key
    }

    fn key_for(&self, url: &BaseUrl) -> Option<Secret> {
        self.key.clone().filter(|_| url.origin() == self.url.origin())
    }
}

/// The settings with this address and key. Without a key the one that is known for the same origin stays;
/// None when there is none.
pub fn changed(
    saved: &Settings,
    environment: &Connection,
    url: &BaseUrl,
    key: Option<String>,
) -> Option<Settings> {
    let saved_for = saved.membridge_server_url.as_deref().and_then(|url| parse_base_url(url).ok());
    let same_origin = saved_for.is_some_and(|saved| saved.origin() == url.origin());
    let key = key.or_else(|| saved.membridge_admin_key.clone().filter(|_| same_origin));
    if key.is_none() && environment.key_for(url).is_none() {
        return None;
    }
    let membridge_server_url = Some(url.as_str().to_owned());
    Some(Settings { membridge_server_url, membridge_admin_key: key })
}

/// As much of a key as tells it from another (`CONTRACT §3`): of a short one very little.
pub fn masked(key: Option<&Secret>) -> String {
    let chars: Vec<char> = key.map_or("", Secret::expose).chars().collect();
    let shown = match chars.len() {
        0 => return String::new(),
        1..=8 => 0,
        9..=15 => 2,
        _ => 4,
    };
    chars[..shown].iter().chain(&['*'; 4]).chain(&chars[chars.len() - shown..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BaseUrl {
        parse_base_url(text).unwrap()
    }

    fn saved(url: &str, key: Option<&str>) -> Settings {
        Settings {
            membridge_server_url: Some(url.into()),
            membridge_admin_key: key.map(Into::into),
        }
    }

    fn environment() -> Connection {
        Connection { url: url("http://env:8000"), key: Some(Secret::new("env-key")) }
    }

    #[test]
    fn a_key_is_shown_by_its_ends_at_most() {
        for (key, shown) in [
            ("", ""),
            ("12345678", "****"),
            ("123456789", "12****89"),
            ("123456789abcdef", "12****ef"),
            ("abcdefghijklmnop", "abcd****mnop"),
        ] {
            assert_eq!(masked(Some(&Secret::new(key))), shown);
        }
        assert_eq!(masked(None), "");
    }

    #[test]
    fn a_key_is_used_for_the_origin_it_was_entered_for_and_no_other() {
        let used = |settings: &Settings| {
            let connection = Connection::in_effect(settings, &environment());
            connection.key.map(|key| key.expose().to_owned())
        };
        let env = || Some("env-key".to_owned());
        assert_eq!(used(&Settings::default()), env());
        assert_eq!(used(&saved("http://env:8000/prefix", None)), env());
        assert_eq!(used(&saved("http://ENV:8000", None)), env(), "names have no case");
        for other in ["http://other:8000", "http://env:8001", "http://env", "https://env:8000"] {
            assert_eq!(used(&saved(other, None)), None, "{other}");
        }
        assert_eq!(used(&saved("http://other", Some("own"))), Some("own".into()));
        // What cannot be read is not half used.
        assert_eq!(used(&saved("nonsense", Some("own"))), env());
    }

    #[test]
    fn an_address_saved_without_a_key_keeps_the_key_of_its_origin_alone() {
        let before = saved("http://saved:80", Some("saved-key"));
        let change = |to: &str, key: Option<&str>| {
            changed(&before, &environment(), &url(to), key.map(Into::into))
        };
        let kept = saved("http://saved/deeper", Some("saved-key"));
        assert_eq!(change("http://saved/deeper", None), Some(kept), "80 is http's own port");
        assert_eq!(change("http://env:8000", None), Some(saved("http://env:8000", None)));
        assert_eq!(change("http://thief:80", None), None);
        assert_eq!(change("https://saved:80", None), None);
        assert_eq!(change("http://new", Some("k")), Some(saved("http://new", Some("k"))));
    }
}
