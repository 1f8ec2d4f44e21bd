//! The page's files: who may have them, how long they may be kept, and under which policy.

use super::with_key;
use crate::harness::{Server, Setup};
use crate::http::{Answer, Client};
use std::io::Read;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const VIEWS: [&str; 10] = [
    "/",
    "/tasks",
    "/tasks?status=failed&q=x",
    "/tasks/00000000-0003-8325-8367-211c8fb67eee",
    "/workers",
    "/workers/rpi4b",
    "/workers/a%2Fb/",
    "/membridge",
    "/activity",
    "/Settings",
];

fn unpacked(answer: &Answer) -> String {
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(answer.body.as_slice());
    reader.read_to_string(&mut text).expect("gzip of a text");
    text
}

/// The first file that the page asks for.
fn asset(client: &mut Client) -> String {
    let page = client.get("/").text();
    let at = page.find("\"/ui/").expect("the page has files") + 1;
    page[at..].split('"').next().expect("it ends").to_owned()
}

#[track_caller]
fn is_protected(answer: &Answer) {
    assert_eq!(answer.header("content-security-policy"), Some(POLICY), "{answer}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{answer}");
    assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"), "{answer}");
    assert!(answer.header("permissions-policy").is_some(), "{answer}");
    if answer.status == 200 {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer}");
    }
}

#[test]
fn every_view_has_an_address_that_needs_no_key_and_the_api_behind_it_does() {
    let server = with_key().start();
    let mut client = server.client();
    for path in VIEWS {
        let page = client.get(path);
        assert_eq!(page.status, 200, "{page}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{page}");
        assert_eq!(page.header("cache-control"), Some("no-cache"), "{page}");
        is_protected(&page);
        assert!(page.text().starts_with("<!doctype html>"), "{page}");
    }
    client.get("/api/runtime/llm-tasks").refused(401, "Unauthorized");
    for path in ["/nope", "/tasks/a/b", "/ui", "/index.html", "/web/index.html", "/favicon.ico"] {
        client.get(path).refused(404, "Not found");
    }
    client.get("/api").refused(401, "Unauthorized");
}

#[test]
fn a_page_is_read_and_not_written_to() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/", "/tasks", &asset(&mut server.client())] {
        for method in ["POST", "PUT", "DELETE"] {
            let refused = client.send(method, path, &[], None);
            assert_eq!(refused.refused_somehow(405), "method_not_allowed");
            assert_eq!(refused.header("allow"), Some("GET, HEAD"));
        }
        let head = client.send("HEAD", path, &[], None);
        assert_eq!((head.status, head.body.len()), (200, 0), "{head}");
        let length = client.get(path).body.len().to_string();
        assert_eq!(head.header("content-length"), Some(length.as_str()), "{head}");
        is_protected(&head);
    }
}

#[test]
fn a_file_is_kept_for_ever_under_its_hash_and_is_nowhere_else() {
    let server = with_key().start();
    let mut client = server.client();
    let path = asset(&mut client);
    let file = client.get(&path);
    assert_eq!(file.status, 200, "{file}");
    assert_eq!(file.header("cache-control"), Some(FOR_EVER), "{file}");
    is_protected(&file);
    let hash = path.split('/').nth(2).unwrap();
    let name = path.rsplit_once(hash).unwrap().1;
    let other: String = hash.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    for elsewhere in [
        format!("/ui/{other}{name}"),
        format!("/ui/-{name}"),
        format!("/ui{name}"),
        format!("/ui/{hash}/nope.js"),
        format!("/ui/{hash}/README.md"),
        format!("/ui/{hash}/../{hash}{name}"),
        format!("/ui/{hash}/"),
        format!("/UI/{hash}{name}"),
    ] {
        client.get(&elsewhere).refused(404, "Not found");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/", "/workers", &asset(&mut server.client())] {
        let first = client.get(path);
        let tag = first.header("etag").expect("a tag").to_owned();
        let weak = format!("\"x\", W/{tag}");
        for known in [tag.as_str(), weak.as_str(), "*"] {
            let again = client.send("GET", path, &[("If-None-Match", known)], None);
            assert_eq!((again.status, again.body.len()), (304, 0), "{known}: {again}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
            assert_eq!(again.header("cache-control"), first.header("cache-control"));
            is_protected(&again);
        }
        let changed = client.send("GET", path, &[("If-None-Match", "\"other\"")], None);
        assert_eq!(changed.status, 200, "{changed}");
    }
}

#[test]
fn a_browser_that_takes_gzip_gets_it_and_others_the_same_text() {
    let server = Server::start();
    let mut client = server.client();
    let plain = client.get("/");
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    let accept = [("Accept-Encoding", "gzip, deflate, br, zstd")];
    let packed = client.send("GET", "/", &accept, None);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("accept-encoding"));
    assert!(packed.body.len() < plain.body.len());
    assert_eq!(unpacked(&packed), plain.text());
    assert_ne!(packed.header("etag"), plain.header("etag"), "two bodies, two tags");
    let none = client.send("GET", "/", &[("Accept-Encoding", "gzip;q=0")], None);
    assert_eq!(none.header("content-encoding"), None);
    let head = client.send("HEAD", "/", &accept, None);
    assert_eq!(head.header("content-length"), packed.header("content-length"));
}

#[test]
fn the_page_asks_for_nothing_elsewhere_and_runs_nothing_inline() {
    let server = Server::start();
    let page = server.client().get("/").text();
    for forbidden in ["<script>", "<style", "style=\"", " onclick", "http://", "https://", "/ui/-/"]
    {
        assert!(!page.contains(forbidden), "{forbidden} stands in the page");
    }
}

#[test]
fn while_the_page_is_made_it_comes_from_a_folder_and_is_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("web");
    std::fs::create_dir_all(folder.join("js")).unwrap();
    std::fs::write(folder.join("index.html"), "<!doctype html>one").unwrap();
    std::fs::write(folder.join("js/a.js"), "a()").unwrap();
    std::fs::write(dir.path().join("outside.js"), "no").unwrap();
    let server = Setup::default().flag("--ui-dir", folder.to_str().unwrap()).start();
    let mut client = server.client();
    assert_eq!(client.get("/tasks").text(), "<!doctype html>one");
    std::fs::write(folder.join("index.html"), "<!doctype html>two").unwrap();
    let page = client.get("/tasks");
    assert_eq!(page.text(), "<!doctype html>two");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    is_protected(&page);
    let file = client.get("/ui/-/js/a.js");
    assert_eq!((file.text().as_str(), file.header("cache-control")), ("a()", Some("no-store")));
    assert_eq!(file.header("content-type"), Some("text/javascript; charset=utf-8"));
    for outside in ["/ui/-/../outside.js", "/ui/-/js/../../outside.js", "/ui/-/nope.js"] {
        client.get(outside).refused(404, "Not found");
    }
}
