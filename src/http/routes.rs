//! Every route of the server, and the pure function from a request's method and path to one of them.
//!
//! ```text
//! GET    /api/runtime/health
//! GET    /api/runtime/config
//! POST   /api/runtime/config
//! DELETE /api/runtime/config
//! POST   /api/runtime/test-connection
//! GET    /api/runtime/workers
//! POST   /api/runtime/workers
//! GET    /api/runtime/workers/:id
//! DELETE /api/runtime/workers/:id
//! POST   /api/runtime/workers/:id/drain
//! POST   /api/runtime/workers/:id/undrain
//! POST   /api/runtime/workers/:id/claim
//! GET    /api/runtime/llm-tasks
//! POST   /api/runtime/llm-tasks
//! POST   /api/runtime/llm-tasks/requeue
//! POST   /api/runtime/llm-tasks/cancel
//! GET    /api/runtime/llm-tasks/:id
//! GET    /api/runtime/llm-tasks/:id/result
//! GET    /api/runtime/llm-tasks/:id/attempts
//! GET    /api/runtime/llm-tasks/:id/waiting
//! GET    /api/runtime/llm-tasks/:id/log
//! POST   /api/runtime/llm-tasks/:id/lease
//! POST   /api/runtime/llm-tasks/:id/heartbeat
//! POST   /api/runtime/llm-tasks/:id/complete
//! POST   /api/runtime/llm-tasks/:id/release
//! POST   /api/runtime/llm-tasks/:id/dispatch
//! POST   /api/runtime/llm-tasks/:id/requeue
//! POST   /api/runtime/llm-tasks/:id/cancel
//! GET    /api/runtime/leases
//! GET    /api/runtime/runs
//! POST   /api/runtime/llm-tasks/:id/artifacts
//! GET    /api/runtime/artifacts
//! GET    /api/runtime/artifacts/:id
//! GET    /api/runtime/artifacts/:id/content
//! GET    /api/runtime/audit
//! GET    /api/runtime/stats
//! GET    /api/runtime/retention
//! GET    /api/runtime/events
//! GET    /api/membridge/health
//! GET    /api/membridge/projects
//! GET    /api/membridge/projects/:cid/leadership
//! GET    /api/membridge/projects/:cid/nodes
//! POST   /api/membridge/projects/:cid/leadership/select
//! GET    /api/session
//! POST   /api/session
//! DELETE /api/session
//! GET    /
//! GET    /tasks
//! GET    /tasks/:id
//! GET    /workers
//! GET    /workers/:name
//! GET    /membridge
//! GET    /activity
//! GET    /settings
//! GET    /ui/:hash/:file
//! ```
//!
//! Those of `/api/runtime` also behind `/l/<lease_id>`, which names the lease for clients that can only
//! be given a base URL. Must stay true: paths match without regard to case, one trailing slash is tolerated, an
//! id is one percent-decoded segment (`CONTRACT §1`); `docs/API.md` lists the same, a test compares.

use super::form::{DecodeFault, decode_segment};
use hyper::Method;

/// What a route does, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Health,
    Config,
    SetConfig,
    ClearConfig,
    TestConnection,
    Workers,
    Register,
    Worker,
    RemoveWorker,
    Claim,
    Drain,
    Undrain,
    Tasks,
    Create,
    Task,
    TaskResult,
    TaskLog,
    Lease,
    Heartbeat,
    Complete,
    Attempts,
    Waiting,
    HandBack,
    Dispatch,
    Requeue,
    RequeueMany,
    CancelMany,
    Cancel,
    Leases,
    Runs,
    Artifacts,
    Artifact,
    ArtifactContent,
    AddFile,
    Audit,
    Stats,
    Retention,
    Events,
    MembridgeHealth,
    Projects,
    Leadership,
    Nodes,
    SelectPrimary,
    Session,
    SignIn,
    SignOut,
    /// A view of the page.
    Page,
    /// A file of the page.
    PageFile,
}

impl Endpoint {
    /// Whether it may be called without a key (`CONTRACT §1`): health, the test of the connection, what
    /// gives and ends a session, the page's own files; nothing else.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Endpoint::Health
                | Endpoint::TestConnection
                | Endpoint::Session
                | Endpoint::SignIn
                | Endpoint::SignOut
                | Endpoint::Page
                | Endpoint::PageFile
        )
    }
}

/// A path below `/api/runtime`, `/api/membridge`, `/api` or `/`, `:` for the segment that is an id, and what each method does there.
type Row = (&'static [&'static str], &'static [(Method, Endpoint)]);

const ROWS: &[Row] = &[
    (&["health"], &[(Method::GET, Endpoint::Health)]),
    (
        &["config"],
        &[
            (Method::GET, Endpoint::Config),
            (Method::POST, Endpoint::SetConfig),
            (Method::DELETE, Endpoint::ClearConfig),
        ],
    ),
    (&["test-connection"], &[(Method::POST, Endpoint::TestConnection)]),
    (&["workers"], &[(Method::GET, Endpoint::Workers), (Method::POST, Endpoint::Register)]),
    (
        &["workers", ":"],
        &[(Method::GET, Endpoint::Worker), (Method::DELETE, Endpoint::RemoveWorker)],
    ),
    (&["workers", ":", "drain"], &[(Method::POST, Endpoint::Drain)]),
    (&["workers", ":", "undrain"], &[(Method::POST, Endpoint::Undrain)]),
    (&["workers", ":", "claim"], &[(Method::POST, Endpoint::Claim)]),
    (&["llm-tasks"], &[(Method::GET, Endpoint::Tasks), (Method::POST, Endpoint::Create)]),
    (&["llm-tasks", "requeue"], &[(Method::POST, Endpoint::RequeueMany)]),
    (&["llm-tasks", "cancel"], &[(Method::POST, Endpoint::CancelMany)]),
    (&["llm-tasks", ":"], &[(Method::GET, Endpoint::Task)]),
    (&["llm-tasks", ":", "result"], &[(Method::GET, Endpoint::TaskResult)]),
    (&["llm-tasks", ":", "attempts"], &[(Method::GET, Endpoint::Attempts)]),
    (&["llm-tasks", ":", "waiting"], &[(Method::GET, Endpoint::Waiting)]),
    (&["llm-tasks", ":", "log"], &[(Method::GET, Endpoint::TaskLog)]),
    (&["llm-tasks", ":", "lease"], &[(Method::POST, Endpoint::Lease)]),
    (&["llm-tasks", ":", "heartbeat"], &[(Method::POST, Endpoint::Heartbeat)]),
    (&["llm-tasks", ":", "complete"], &[(Method::POST, Endpoint::Complete)]),
    (&["llm-tasks", ":", "artifacts"], &[(Method::POST, Endpoint::AddFile)]),
    (&["llm-tasks", ":", "release"], &[(Method::POST, Endpoint::HandBack)]),
    (&["llm-tasks", ":", "dispatch"], &[(Method::POST, Endpoint::Dispatch)]),
    (&["llm-tasks", ":", "requeue"], &[(Method::POST, Endpoint::Requeue)]),
    (&["llm-tasks", ":", "cancel"], &[(Method::POST, Endpoint::Cancel)]),
    (&["leases"], &[(Method::GET, Endpoint::Leases)]),
    (&["runs"], &[(Method::GET, Endpoint::Runs)]),
    (&["artifacts"], &[(Method::GET, Endpoint::Artifacts)]),
    (&["artifacts", ":"], &[(Method::GET, Endpoint::Artifact)]),
    (&["artifacts", ":", "content"], &[(Method::GET, Endpoint::ArtifactContent)]),
    (&["audit"], &[(Method::GET, Endpoint::Audit)]),
    (&["stats"], &[(Method::GET, Endpoint::Stats)]),
    (&["retention"], &[(Method::GET, Endpoint::Retention)]),
    (&["events"], &[(Method::GET, Endpoint::Events)]),
];

const MEMBRIDGE_ROWS: &[Row] = &[
    (&["health"], &[(Method::GET, Endpoint::MembridgeHealth)]),
    (&["projects"], &[(Method::GET, Endpoint::Projects)]),
    (&["projects", ":", "leadership"], &[(Method::GET, Endpoint::Leadership)]),
    (&["projects", ":", "nodes"], &[(Method::GET, Endpoint::Nodes)]),
    (&["projects", ":", "leadership", "select"], &[(Method::POST, Endpoint::SelectPrimary)]),
];

const API_ROWS: &[Row] = &[(
    &["session"],
    &[
        (Method::GET, Endpoint::Session),
        (Method::POST, Endpoint::SignIn),
        (Method::DELETE, Endpoint::SignOut),
    ],
)];

/// The page's views: their addresses can be kept and shared.
const PAGE_ROWS: &[Row] = &[
    (&[], &[(Method::GET, Endpoint::Page)]),
    (&["tasks"], &[(Method::GET, Endpoint::Page)]),
    (&["tasks", ":"], &[(Method::GET, Endpoint::Page)]),
    (&["workers"], &[(Method::GET, Endpoint::Page)]),
    (&["workers", ":"], &[(Method::GET, Endpoint::Page)]),
    (&["membridge"], &[(Method::GET, Endpoint::Page)]),
    (&["activity"], &[(Method::GET, Endpoint::Page)]),
    (&["settings"], &[(Method::GET, Endpoint::Page)]),
];

const FILE_METHODS: &[(Method, Endpoint)] = &[(Method::GET, Endpoint::PageFile)];

/// A request's way, once it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub endpoint: Endpoint,
    /// The id in the path, or of a file of the page what stands behind `/ui/`; empty where there is none.
    pub id: String,
    /// The lease that the base path names.
    pub lease: Option<String>,
}

/// What a method and a path lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    To(Route),
    /// `OPTIONS` of a known path, or a wrong method: what it allows, as the `Allow` header has it.
    Options(String),
    WrongMethod(String),
    NotFound,
    /// A percent escape in an id that cannot be decoded.
    BadEscape,
}

/// Whether a path belongs to the API, known or not: it is authenticated and rate limited.
pub fn is_api(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or("");
    first.eq_ignore_ascii_case("api") || first.eq_ignore_ascii_case("l")
}

/// Finds the route of a request; `path` as it was sent, without its query.
pub fn route(method: &Method, path: &str) -> Routed {
    if let Some(file) = path.strip_prefix("/ui/") {
        return chosen(method, FILE_METHODS, Ok(file.to_owned()), None);
    }
    if !path.starts_with('/') {
        return Routed::NotFound;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut lease = None;
    if segments.len() > 2 && segments[0].eq_ignore_ascii_case("l") {
        match decode_segment(segments[1]) {
            Ok(id) => lease = Some(id),
            Err(_) => return Routed::BadEscape,
        }
        segments.drain(..2);
    }
    let is = |place: usize, word: &str| {
        segments.get(place).is_some_and(|segment| segment.eq_ignore_ascii_case(word))
    };
    let (rows, behind) = match is(0, "api") {
        true if is(1, "runtime") => (ROWS, 2),
        true if is(1, "membridge") && lease.is_none() => (MEMBRIDGE_ROWS, 2),
        true if lease.is_none() => (API_ROWS, 1),
        false if lease.is_none() => (PAGE_ROWS, 0),
        _ => return Routed::NotFound,
    };
    let Some((_, methods)) = rows.iter().find(|(row, _)| matches(row, &segments[behind..])) else {
        return Routed::NotFound;
    };
    let id = segments.get(3).map_or(Ok(String::new()), |id| decode_segment(id));
    chosen(method, methods, id, lease)
}

fn chosen(
    method: &Method,
    methods: &[(Method, Endpoint)],
    id: Result<String, DecodeFault>,
    lease: Option<String>,
) -> Routed {
    let as_get = if method == Method::HEAD { &Method::GET } else { method };
    let Some((_, endpoint)) = methods.iter().find(|(known, _)| known == as_get) else {
        let allow = allow(methods);
        return if method == Method::OPTIONS {
            Routed::Options(allow)
        } else {
            Routed::WrongMethod(allow)
        };
    };
    match id {
        Ok(id) => Routed::To(Route { endpoint: *endpoint, id, lease }),
        Err(_) => Routed::BadEscape,
    }
}

fn matches(row: &[&str], segments: &[&str]) -> bool {
    let fits = |(known, given): (&&str, &&str)| match *known {
        ":" => !given.is_empty(),
        word => word.eq_ignore_ascii_case(given),
    };
    row.len() == segments.len() && row.iter().zip(segments).all(fits)
}

fn allow(methods: &[(Method, Endpoint)]) -> String {
    let mut names = Vec::new();
    for (method, _) in methods {
        names.push(method.as_str());
        if method == Method::GET {
            names.push("HEAD");
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(endpoint: Endpoint, id: &str, lease: Option<&str>) -> Routed {
        Routed::To(Route { endpoint, id: id.into(), lease: lease.map(Into::into) })
    }

    #[test]
    fn a_path_matches_without_regard_to_case_and_with_one_trailing_slash() {
        for path in ["/api/runtime/stats", "/API/Runtime/STATS", "/api/runtime/stats/"] {
            assert_eq!(route(&Method::GET, path), to(Endpoint::Stats, "", None), "{path}");
        }
        for path in ["/api/runtime/stats//", "//api/runtime/stats", "/api/runtime", "//", "", "*"] {
            assert_eq!(route(&Method::GET, path), Routed::NotFound, "{path}");
        }
    }

    #[test]
    fn every_view_is_the_page_and_a_file_of_it_keeps_its_case() {
        let views = ["/", "/tasks", "/Tasks/", "/tasks/00-1", "/workers/a%2Fb", "/settings"];
        for path in views {
            assert_eq!(route(&Method::GET, path), to(Endpoint::Page, "", None), "{path}");
        }
        for path in ["/nope", "/tasks/a/b", "/tasks//", "/l/x/tasks", "/l/x/", "/ui", "/api"] {
            assert_eq!(route(&Method::GET, path), Routed::NotFound, "{path}");
        }
        let file = route(&Method::HEAD, "/ui/Ab/js/X.js");
        assert_eq!(file, to(Endpoint::PageFile, "Ab/js/X.js", None));
        assert_eq!(route(&Method::POST, "/"), Routed::WrongMethod("GET, HEAD".into()));
        assert_eq!(route(&Method::DELETE, "/api/session/"), to(Endpoint::SignOut, "", None));
    }

    #[test]
    fn an_id_is_one_decoded_segment() {
        let found = route(&Method::GET, "/api/runtime/workers/a%2Fb%20%D1%86");
        assert_eq!(found, to(Endpoint::Worker, "a/b ц", None));
        assert_eq!(route(&Method::GET, "/api/runtime/workers/a%2"), Routed::BadEscape);
        assert_eq!(route(&Method::GET, "/api/runtime/workers/%FF"), Routed::BadEscape);
        assert_eq!(route(&Method::GET, "/api/runtime/workers/a/b"), Routed::NotFound);
    }

    #[test]
    fn the_base_path_of_a_lease_names_it_on_every_route() {
        let found = route(&Method::POST, "/l/abc/api/runtime/llm-tasks/t/heartbeat");
        assert_eq!(found, to(Endpoint::Heartbeat, "t", Some("abc")));
        assert_eq!(route(&Method::GET, "/l/abc/other"), Routed::NotFound);
        assert_eq!(route(&Method::GET, "/l/abc/l/abc/api/runtime/stats"), Routed::NotFound);
        assert_eq!(route(&Method::GET, "/l/abc/api/membridge/projects"), Routed::NotFound);
    }

    #[test]
    fn a_known_path_says_what_it_allows() {
        let allow = |method| route(&method, "/api/runtime/config");
        assert_eq!(allow(Method::PUT), Routed::WrongMethod("GET, HEAD, POST, DELETE".into()));
        assert_eq!(allow(Method::OPTIONS), Routed::Options("GET, HEAD, POST, DELETE".into()));
        let found = route(&Method::HEAD, "/api/runtime/health");
        assert_eq!(found, to(Endpoint::Health, "", None));
    }
}
