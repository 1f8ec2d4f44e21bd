//! A stand-in of the Membridge control plane 0.3.0 on loopback, and the socket under it that hostile ones
//! use too. Used by including this file as a module.
//!
//! It must answer as `tests/data/membridge.jsonl` has it: a test replays that recording against it. Its
//! state is memory, as the real one's: `restart` forgets all agents. Not here: jobs beyond what was
//! recorded, the page.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const KEY: &str = "test-admin-key";

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// The request line and the headers, byte for byte.
    pub head: String,
    pub body: String,
}

impl Asked {
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    fn has_key(&self) -> bool {
        self.headers("x-membridge-admin") == [KEY]
    }
}

type Handler = dyn Fn(&Asked, &mut TcpStream) + Send + Sync;

/// A listening socket that keeps what it was asked. Its threads end with the test process.
pub struct Upstream {
    address: SocketAddr,
    handler: Arc<Handler>,
    seen: Arc<(Mutex<Vec<Asked>>, Condvar)>,
    plugged: Arc<Mutex<bool>>,
}

impl Upstream {
    pub fn start(handler: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let upstream = Upstream {
            address,
            handler: Arc::new(handler),
            seen: Arc::default(),
            plugged: Arc::new(Mutex::new(true)),
        };
        upstream.listen(listener);
        upstream
    }

    fn listen(&self, listener: TcpListener) {
        let (handler, seen) = (self.handler.clone(), self.seen.clone());
        let plugged = self.plugged.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !*plugged.lock().unwrap() {
                    return;
                }
                let (handler, seen) = (handler.clone(), seen.clone());
                thread::spawn(move || {
                    let mut stream = stream;
                    let Some(asked) = read_request(&stream) else { return };
                    seen.0.lock().unwrap().push(asked.clone());
                    seen.1.notify_all();
                    handler(&asked, &mut stream);
                });
            }
        });
    }

    /// Closes the door: who connects is refused.
    pub fn unplug(&self) {
        *self.plugged.lock().unwrap() = false;
        // Wakes the listener, which then ends.
        drop(TcpStream::connect(self.address));
        while TcpStream::connect(self.address).is_ok() {}
    }

    pub fn plug_in(&self) {
        let listener = TcpListener::bind(self.address).expect("the port is still ours");
        *self.plugged.lock().unwrap() = true;
        self.listen(listener);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.0.lock().unwrap().clone()
    }

    /// Waits until something was asked that fits, and gives it.
    #[track_caller]
    pub fn wait_for(&self, what: &str, fits: impl Fn(&Asked) -> bool) -> Asked {
        let seen = self.seen.0.lock().unwrap();
        let none = |seen: &mut Vec<Asked>| !seen.iter().any(&fits);
        let (seen, waited) =
            self.seen.1.wait_timeout_while(seen, Duration::from_secs(30), none).unwrap();
        assert!(!waited.timed_out(), "never asked: {what}");
        seen.iter().find(|asked| fits(asked)).expect("found just now").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = Asked { method, path, head, body: String::new() };
    let length = asked.headers("content-length").first().map_or(Some(0), |n| n.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}

pub fn answer(stream: &mut TcpStream, status: u16, more: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nx-request-id: e6750db3c04d\r\n{more}\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all((head + body).as_bytes());
}

#[derive(Default)]
struct State {
    agents: Vec<Value>,
    projects: Vec<Value>,
    nodes: Vec<Value>,
    primaries: Vec<(String, String)>,
    jobs: Vec<Value>,
}

/// The honest one.
pub struct Membridge {
    pub upstream: Upstream,
    state: Arc<Mutex<State>>,
}

impl Membridge {
    pub fn start() -> Membridge {
        let state: Arc<Mutex<State>> = Arc::default();
        let served = state.clone();
        let upstream = Upstream::start(move |asked, stream| {
            let (status, more, body) = served.lock().unwrap().serve(asked);
            let body = if asked.method == "HEAD" || body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            answer(stream, status, &more, &body);
        });
        Membridge { upstream, state }
    }

    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// As a restart leaves it: it knows nobody.
    pub fn restart(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    pub fn add_agent(&self, name: &str, url: &str, status: &str) {
        let agent = agent(name, url, status);
        self.state.lock().unwrap().agents.push(agent);
    }

    /// Whatever stands in the list of agents, right or wrong.
    pub fn list(&self, agents: Value) {
        self.state.lock().unwrap().agents = agents.as_array().expect("a list").clone();
    }
}

pub fn agent(name: &str, url: &str, status: &str) -> Value {
    json!({"name": name, "url": url, "status": status, "registered_at": now(), "last_seen": null})
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

type Answer = (u16, String, Value);

fn say(status: u16, body: Value) -> Answer {
    (status, String::new(), body)
}

fn detail(status: u16, text: &str) -> Answer {
    say(status, json!({"detail": text}))
}

/// What its validation says of a body.
fn refuse(kind: &str, at: &[&str], msg: &str, input: Value, ctx: Option<Value>) -> Answer {
    let loc: Vec<Value> = at
        .iter()
        .map(|part| part.parse::<u64>().map_or_else(|_| json!(part), |number| json!(number)))
        .collect();
    let mut fault = json!({"type": kind, "loc": loc, "msg": msg, "input": input});
    if let Some(ctx) = ctx {
        fault["ctx"] = ctx;
    }
    say(422, json!({"detail": [fault]}))
}

/// The body as an object that has these fields.
fn body(asked: &Asked, required: &[&str]) -> Result<Value, Answer> {
    if asked.body.is_empty() {
        return Err(refuse("missing", &["body"], "Field required", Value::Null, None));
    }
    if asked.headers("content-type").is_empty() {
        let msg = "Input should be a valid dictionary or object to extract fields from";
        return Err(refuse("model_attributes_type", &["body"], msg, json!(asked.body), None));
    }
    let Ok(body) = serde_json::from_str::<Value>(&asked.body) else {
        let ctx = json!({"error": "Expecting property name enclosed in double quotes"});
        return Err(refuse(
            "json_invalid",
            &["body", "1"],
            "JSON decode error",
            json!({}),
            Some(ctx),
        ));
    };
    let missing = required.iter().filter(|field| body.get(**field).is_none());
    let faults: Vec<Value> = missing
        .map(|field| {
            json!({"type": "missing", "loc": ["body", field], "msg": "Field required", "input": body})
        })
        .collect();
    if faults.is_empty() { Ok(body) } else { Err(say(422, json!({"detail": faults}))) }
}

impl State {
    fn serve(&mut self, asked: &Asked) -> Answer {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let open = ["/health", "/docs", "/openapi.json", "/redoc", "/ui"].contains(&path);
        if !open && !asked.has_key() {
            return detail(401, "Unauthorized — invalid or missing X-MEMBRIDGE-ADMIN header");
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let answer = match (asked.method.as_str(), &parts[..]) {
            ("GET", ["health"]) => Ok(say(200, self.health())),
            ("GET", ["ui"]) => Ok((307, "location: /static/ui.html\r\n".into(), Value::Null)),
            ("GET", ["projects", ""]) => {
                let host = asked.headers("host")[0];
                Ok((307, format!("location: http://{host}/projects\r\n"), Value::Null))
            }
            ("GET", ["agents"]) => Ok(say(200, json!(self.agents))),
            ("POST", ["agents"]) => self.register(asked),
            ("DELETE", ["agents", name]) => Ok(self.delete(name)),
            ("GET", ["projects"]) => Ok(say(200, self.projects())),
            ("POST", ["projects"]) => self.project(asked),
            ("GET", ["projects", cid, "nodes"]) => Ok(say(200, json!(self.nodes_of(cid)))),
            ("GET", ["projects", cid, "leadership"]) => Ok(say(200, self.leadership(cid))),
            ("POST", ["projects", cid, "leadership", "select"]) => self.select(cid, asked),
            ("POST", ["agent", "heartbeat"]) => self.heartbeat(asked),
            ("POST", ["sync", "push"]) => self.push(asked),
            ("GET", ["jobs"]) => Ok(self.jobs(query)),
            ("GET", ["jobs", id]) => Ok(detail(404, &format!("Job '{id}' not found"))),
            (_, ["health" | "agents" | "projects"]) => Ok(detail(405, "Method Not Allowed")),
            _ => Ok(detail(404, "Not Found")),
        };
        answer.unwrap_or_else(|refused| refused)
    }

    fn health(&self) -> Value {
        let (projects, agents) = (self.projects.len(), self.agents.len());
        json!({"status": "ok", "service": "membridge-control-plane", "version": "0.3.0",
               "projects": projects, "agents": agents})
    }

    fn register(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let body = body(asked, &["name", "url"])?;
        let name = body["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            let msg = "String should have at least 1 character";
            let ctx = Some(json!({"min_length": 1}));
            return Err(refuse("string_too_short", &["body", "name"], msg, json!(name), ctx));
        }
        if self.agents.iter().any(|known| known["name"] == name) {
            return Err(detail(409, &format!("Agent '{name}' already registered")));
        }
        let url = body["url"].as_str().unwrap_or_default().trim_end_matches('/');
        self.agents.push(agent(name, url, "unknown"));
        Ok(say(201, self.agents[self.agents.len() - 1].clone()))
    }

    fn delete(&mut self, name: &str) -> Answer {
        let before = self.agents.len();
        self.agents.retain(|agent| agent["name"] != name);
        match self.agents.len() < before {
            true => say(204, Value::Null),
            false => detail(404, &format!("Agent '{name}' not found")),
        }
    }

    fn projects(&self) -> Value {
        let with_counts = self.projects.iter().map(|project| {
            let nodes = self.nodes_of(project["canonical_id"].as_str().unwrap_or_default());
            let mut project = project.clone();
            project["nodes_count"] = json!(nodes.len());
            let seen = nodes.iter().filter_map(|node| node["last_seen"].as_f64());
            project["last_seen"] =
                json!(seen.fold(None, |a: Option<f64>, b| Some(a.unwrap_or(b).min(b))));
            project
        });
        with_counts.collect()
    }

    fn project(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let body = body(asked, &["name"])?;
        let name = body["name"].as_str().unwrap_or_default();
        if self.projects.iter().any(|known| known["name"] == name) {
            return Err(detail(409, &format!("Project '{name}' already exists")));
        }
        // The first 16 digits of sha256("garden-seedling"); nothing else is recorded.
        let project = json!({"name": name, "canonical_id": "aeeafec3a5b5710f", "created_at": now(),
                             "last_seen": null, "nodes_count": 0, "source": "manual"});
        self.projects.push(project.clone());
        Ok(say(201, project))
    }

    fn primary(&self, cid: &str) -> Option<&str> {
        let mut chosen = self.primaries.iter().rev();
        chosen.find(|(of, _)| of == cid).map(|(_, node)| node.as_str())
    }

    fn role(&self, cid: &str, node: &Value) -> &'static str {
        match self.primary(cid) {
            None => "unknown",
            Some(primary) if node == primary => "primary",
            Some(_) => "secondary",
        }
    }

    fn nodes_of(&self, cid: &str) -> Vec<Value> {
        let nodes = self.nodes.iter().filter(|node| node["canonical_id"] == cid);
        let with_role = nodes.map(|node| {
            let mut node = node.clone();
            node["role"] = json!(self.role(cid, &node["node_id"]));
            node
        });
        with_role.collect()
    }

    fn leadership(&self, cid: &str) -> Value {
        let nodes = self.nodes_of(cid);
        json!({"canonical_id": cid, "preferred_primary": self.primary(cid),
               "node_count": nodes.len(), "nodes": nodes})
    }

    fn select(&mut self, cid: &str, asked: &Asked) -> Result<Answer, Answer> {
        let body = body(asked, &["primary_node_id"])?;
        let lease = body.get("lease_seconds").cloned().unwrap_or(json!(3600));
        if !lease.is_u64() {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            return Err(refuse("int_parsing", &["body", "lease_seconds"], msg, lease, None));
        }
        let node = body["primary_node_id"].as_str().unwrap_or_default();
        self.primaries.push((cid.into(), node.into()));
        let text = format!(
            "Leadership preference set: primary={node}. Nodes will adopt roles on next heartbeat or sync \
             operation. To persist to MinIO: run `sqlite_minio_sync.py leadership_info` on the primary \
             node with PRIMARY_NODE_ID={node}."
        );
        Ok(say(
            200,
            json!({"ok": true, "canonical_id": cid, "primary_node_id": node,
                           "lease_seconds": lease, "detail": text}),
        ))
    }

    fn heartbeat(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let body = body(asked, &["node_id", "canonical_id"])?;
        let cid = body["canonical_id"].as_str().unwrap_or_default();
        let (node, at) = (&body["node_id"], now());
        if !self.projects.iter().any(|project| project["canonical_id"] == cid) {
            self.projects.push(json!({"name": body["project_id"], "canonical_id": cid,
                                      "created_at": null, "source": "heartbeat"}));
        }
        if !self.nodes.iter().any(|known| known["node_id"] == *node && known["canonical_id"] == cid)
        {
            let addresses = body.get("ip_addrs").cloned().unwrap_or(json!([]));
            self.nodes.push(json!({"node_id": node, "canonical_id": cid, "role": "unknown",
                "obs_count": body["obs_count"], "db_sha": body["db_sha"], "last_seen": at,
                "ip_addrs": addresses, "registered_at": at, "project_id": body["project_id"]}));
        }
        Ok(say(200, json!({"ok": true, "role": self.role(cid, node), "canonical_id": cid})))
    }

    /// The agents of tests cannot be reached.
    fn push(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let body = body(asked, &["project", "agent"])?;
        let agent = self.agents.iter_mut().find(|agent| agent["name"] == body["agent"]);
        let agent = agent.ok_or_else(|| detail(404, "Agent not found"))?;
        agent["status"] = json!("offline");
        let (name, url) = (agent["name"].as_str().unwrap_or_default(), &agent["url"]);
        let text = format!("Agent '{name}' unreachable at {}", url.as_str().unwrap_or_default());
        self.jobs.push(json!({"id": "6d95c5376a1b44d9", "action": "push", "project": body["project"],
            "agent": name, "canonical_id": "aeeafec3a5b5710f", "status": "error",
            "detail": format!("502: {text}"), "stdout": null, "stderr": null, "returncode": null,
            "dryrun": false, "created_at": now(), "finished_at": now(), "request_id": "e6750db3c04d"}));
        Err(detail(502, &text))
    }

    fn jobs(&self, query: &str) -> Answer {
        let limit = query.strip_prefix("limit=").unwrap_or("50");
        if limit.parse::<u64>().is_ok_and(|limit| limit > 200) {
            let msg = "Input should be less than or equal to 200";
            let ctx = Some(json!({"le": 200}));
            return refuse("less_than_equal", &["query", "limit"], msg, json!(limit), ctx);
        }
        say(200, json!(self.jobs))
    }
}
