//! What Membridge says and is told (`ECOSYSTEM §1`).
//!
//! Must stay true: one bad agent spoils no list; an answer that is passed on keeps its bytes, and what we
//! add stands behind them. Not here: the calls (`membridge`), what a list changes (`domain`, `engine`).

use super::fields::{Fields, Invalid, Payload};
use crate::artifacts::{Lease, Reading};
use crate::clock::WallMs;
use crate::config::parse_base_url;
use crate::domain::{ListedAgent, WorkerId, WorkerStatus};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// As for a worker that registers itself.
const NAME_CHARS_MAX: usize = 128;
const NODE_CHARS_MAX: usize = 128;
const LEASE_SECONDS: (u64, u64) = (60, 86_400);
/// Agents of a list that are looked at: as many as workers may be registered.
const AGENTS_MAX: usize = 10_000;
/// Of a name that is told of.
const SHOWN_CHARS: usize = 64;
/// Larger times are milliseconds already; in seconds this is the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// A list of agents: those that can be used, and what is wrong with the others.
#[derive(Debug, Default, PartialEq)]
pub struct Agents {
    pub good: Vec<ListedAgent>,
    pub bad: Vec<String>,
}

/// `GET /agents`; None when it is no list.
pub fn agents(body: &[u8]) -> Option<Agents> {
    let listed: Vec<Value> = serde_json::from_slice(body).ok()?;
    let mut agents = Agents::default();
    let mut names = HashSet::new();
    if listed.len() > AGENTS_MAX {
        agents.bad.push(format!("{} agents: only the first {AGENTS_MAX} count", listed.len()));
    }
    for value in listed.iter().take(AGENTS_MAX) {
        match agent(value) {
            Ok(agent) if names.insert(agent.id.clone()) => agents.good.push(agent),
            Ok(agent) => agents.bad.push(format!("agent {}: listed twice", shown(&agent.id.0))),
            Err(fault) => agents.bad.push(fault),
        }
    }
    Some(agents)
}

fn agent(value: &Value) -> Result<ListedAgent, String> {
    if !value.is_object() {
        return Err("an agent that is no object".into());
    }
    let Some(name) = value["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err("an agent without a name".into());
    };
    if name.encode_utf16().count() > NAME_CHARS_MAX {
        return Err(format!("agent {}: its name is too long", shown(name)));
    }
    let url = match &value["url"] {
        Value::Null => String::new(),
        url => match url.as_str().map(parse_base_url) {
            Some(Ok(url)) => url.as_str().to_owned(),
            Some(Err(fault)) => return Err(format!("agent {}: its url {fault}", shown(name))),
            None => return Err(format!("agent {}: its url is no text", shown(name))),
        },
    };
    let status = value["status"].as_str();
    let status = WorkerStatus::ALL.into_iter().find(|known| Some(known.as_str()) == status);
    Ok(ListedAgent {
        id: WorkerId(name.to_owned()),
        url,
        status: status.unwrap_or(WorkerStatus::Unknown),
        registered_at: millis(&value["registered_at"]),
        last_seen: millis(&value["last_seen"]),
    })
}

/// Seconds with a fraction, as whole milliseconds.
fn millis(value: &Value) -> Option<i64> {
    let time = value.as_f64().filter(|time| time.is_finite() && *time >= 0.0)?;
    let ms = if time < SECONDS_MAX { time * 1000.0 } else { time };
    (ms < SECONDS_MAX * 1000.0).then(|| ms.round() as i64)
}

/// A name from outside as a log line can carry it.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(SHOWN_CHARS).collect::<String>())
}

/// The choice of a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Selection {
    pub primary_node_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
}

/// `POST /projects/:cid/leadership/select`
pub fn selection(payload: &Payload) -> Result<Selection, Invalid> {
    let mut fields = Fields::required(payload)?;
    let primary_node_id = fields.text("primary_node_id", 1, NODE_CHARS_MAX);
    let (min, max) = LEASE_SECONDS;
    let lease_seconds = fields.nullable_whole("lease_seconds", "lease_seconds", min, max);
    fields.finish(Selection { primary_node_id, lease_seconds })
}

/// The leadership of a project with `primary_node_id`, a warning when nobody knows that node, and, where S3
/// is set up, what its record there says or why there is none; all other bytes as they came.
pub fn leadership(mut body: Vec<u8>, lease: Option<&Reading>, now: WallMs) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Leadership {
        preferred_primary: Option<Value>,
        #[serde(default)]
        nodes: Value,
    }
    // A map besides, since a null is not an absence, and no field of theirs is replaced.
    let Ok(keys) = serde_json::from_slice::<HashMap<String, IgnoredAny>>(&body) else {
        return body;
    };
    let Ok(said) = serde_json::from_slice::<Leadership>(&body) else { return body };
    let mut added = String::new();
    let mut add = |key: &str, value: Value| {
        if !keys.contains_key(key) {
            added += &format!(",{}:{value}", json!(key));
        }
    };
    if keys.contains_key("preferred_primary") {
        let primary = said.preferred_primary.unwrap_or_default();
        let is_known = said
            .nodes
            .as_array()
            .is_none_or(|nodes| nodes.iter().any(|node| node["node_id"] == primary));
        add("primary_node_id", primary.clone());
        if let Some(node) = primary.as_str().filter(|_| !is_known) {
            let text = format!("The preferred primary {node} is not a known node of this project");
            add("warning", text.into());
        }
    }
    match lease {
        None => {}
        Some(Ok(lease)) => add("lease", lease_record(lease, now)),
        Some(Err(why)) => {
            add("lease", Value::Null);
            add("lease_note", why.as_str().into());
        }
    }
    let end = body.iter().rposition(|byte| *byte == b'}').unwrap_or(body.len());
    body.splice(end..end, added.into_bytes());
    body
}

fn lease_record(lease: &Lease, now: WallMs) -> Value {
    json!({
        "source": "s3",
        "epoch": lease.epoch,
        "issued_at": lease.issued_at,
        "expires_at": lease.expires_at,
        "lease_seconds": lease.lease_seconds,
        "policy": lease.policy,
        "issued_by": lease.issued_by,
        "primary_node_id": lease.primary_node_id,
        "expired": lease.expires_at <= now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_agent_is_told_of_and_the_others_count() {
        let long = "x".repeat(129);
        let listed = json!([
            {"name": "good", "url": "http://a:8001/", "status": "online",
             "registered_at": 1795229275.4111383, "last_seen": null, "more": [1]},
            {"name": "bare"},
            {"name": "good", "url": "http://b"},
            {"url": "http://a"}, {"name": ""}, {"name": 7}, 5, null, [],
            {"name": long}, {"name": "js", "url": "javascript:1"}, {"name": "n", "url": 5},
            {"name": "odd", "status": ["x"], "registered_at": "soon", "last_seen": -1.5},
            {"name": "ms", "last_seen": 1740000000123.0, "registered_at": 1e300},
        ]);
        let agents = agents(listed.to_string().as_bytes()).unwrap();
        let names: Vec<_> = agents.good.iter().map(|agent| agent.id.0.as_str()).collect();
        assert_eq!(names, ["good", "bare", "odd", "ms"]);
        assert_eq!(agents.bad.len(), 10, "{:#?}", agents.bad);
        let good = &agents.good[0];
        assert_eq!((good.url.as_str(), good.status), ("http://a:8001", WorkerStatus::Online));
        assert_eq!((good.registered_at, good.last_seen), (Some(1_795_229_275_411), None));
        assert_eq!(agents.good[2].status, WorkerStatus::Unknown);
        assert_eq!((agents.good[2].registered_at, agents.good[2].last_seen), (None, None));
        assert_eq!(agents.good[3].last_seen, Some(1_740_000_000_123));
        assert_eq!(agents.good[3].registered_at, None);
    }

    #[test]
    fn what_is_no_list_is_none() {
        for body in ["{}", "null", "", "[1", "\"x\"", "{\"detail\":\"x\"}"] {
            assert_eq!(agents(body.as_bytes()), None, "{body}");
        }
        assert_eq!(agents(b"[]"), Some(Agents::default()));
    }

    #[test]
    fn leadership_keeps_its_bytes_and_says_more() {
        let enriched = |body: &str| String::from_utf8(leadership(body.into(), None, 0)).unwrap();
        for (body, expected) in [
            (
                r#"{"preferred_primary": "a",  "nodes": [{"node_id":"a","at":1.50}]} "#,
                r#"{"preferred_primary": "a",  "nodes": [{"node_id":"a","at":1.50}],"primary_node_id":"a"} "#,
            ),
            (
                r#"{"preferred_primary":null,"nodes":[]}"#,
                r#"{"preferred_primary":null,"nodes":[],"primary_node_id":null}"#,
            ),
            (
                r#"{"preferred_primary":"g","nodes":[]}"#,
                r#"{"preferred_primary":"g","nodes":[],"primary_node_id":"g","warning":"The preferred primary g is not a known node of this project"}"#,
            ),
            (
                r#"{"preferred_primary":"g","primary_node_id":"theirs"}"#,
                r#"{"preferred_primary":"g","primary_node_id":"theirs"}"#,
            ),
            (
                r#"{"preferred_primary":7,"nodes":5}"#,
                r#"{"preferred_primary":7,"nodes":5,"primary_node_id":7}"#,
            ),
            ("{}", "{}"),
            ("[]", "[]"),
            ("7", "7"),
        ] {
            assert_eq!(enriched(body), expected);
        }
    }
}
