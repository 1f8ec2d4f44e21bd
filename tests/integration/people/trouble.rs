//! What goes wrong, said in words with the way out, each with its own exit code.

use super::person::Person;
use crate::harness::{Server, Setup, run};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;

/// Answers one connection and gives back what was asked.
fn stranger(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    (url, asked)
}

/// A home with the person's own settings file.
fn home(text: &str, mode: u32) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".config/bloom-runtime.env");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    home
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

#[test]
fn no_server_is_code_69_with_the_address_and_another_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let person = Person::knowing(&[("BLOOM_SERVER", &address)]);
    for args in
        [&["submit", "p"][..], &["tasks"], &["result", "x", "--wait"], &["log", "x", "--follow"]]
    {
        let said = person.fails(69, args);
        assert!(said.contains(&format!("http://{address}")) && said.contains("--server"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_key_that_is_missing_or_wrong_is_code_77_and_tells_whose_it_was() {
    let server = Setup::default().env("RUNTIME_API_KEY", "right").start();
    let person = Person::at(&server);
    let said = person.fails(77, &["tasks"]);
    assert!(said.contains("RUNTIME_API_KEY is not set"), "{said}");
    assert!(said.contains("bloom-runtime.env"), "{said}");
    let wrong = person.clone().with("RUNTIME_API_KEY", "hunter2");
    let said = wrong.fails(77, &["tasks"]);
    assert!(said.contains("refuses the key from RUNTIME_API_KEY"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let home = home("RUNTIME_API_KEY=hunter2\n", 0o600);
    let said = person.with("HOME", path(home.path())).fails(77, &["tasks"]);
    assert!(said.contains(".config/bloom-runtime.env:1"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn ones_own_file_names_the_server_and_the_key() {
    let server = Setup::default().env("RUNTIME_API_KEY", "right").start();
    let text = format!("# mine\nBLOOM_SERVER={}\nRUNTIME_API_KEY='right'\n", server.url());
    let closed = home(&text, 0o600);
    let ended = Person::knowing(&[("HOME", path(closed.path()))]).run(&["stats"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let open = home(&text, 0o644);
    let ended = Person::knowing(&[("HOME", path(open.path()))]).run(&["stats"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
    let config = open.path().join(".config");
    let ended = Person::knowing(&[("XDG_CONFIG_HOME", path(&config))]).run(&["stats"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn the_key_of_a_file_is_not_sent_to_another_server() {
    let (url, asked) = stranger("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}");
    let home = home("BLOOM_SERVER=http://desk:5000\nRUNTIME_API_KEY=hunter2\n", 0o600);
    let person = Person::knowing(&[("HOME", path(home.path()))]);
    let said = person.fails(77, &["tasks", "--server", &url]);
    assert!(said.contains("is for another server"), "{said}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("GET ") && !asked.contains("hunter2"), "{asked}");
}

#[test]
fn what_is_no_server_of_ours_is_code_76() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        "HTTP/1.1 404 Nope\r\nContent-Length: 9\r\n\r\nNot\x1b[2J!!",
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (url, _asked) = stranger(answer);
        let said = Person::knowing(&[]).fails(76, &["tasks", "--server", &url]);
        assert!(said.contains(&url), "{said}");
        assert!(!said.trim_end().contains(char::is_control), "{said:?}");
    }
}

#[test]
fn a_busy_server_is_code_75_and_says_when() {
    let (url, _asked) = stranger(
        "HTTP/1.1 503 Busy\r\nRetry-After: 8\r\nContent-Length: 30\r\n\r\n\
         {\"error\":\"Full\",\"code\":\"busy\"}",
    );
    let said = Person::knowing(&[]).fails(75, &["tasks", "--server", &url]);
    assert!(said.contains("Full (try again in 8s)"), "{said}");
}

#[test]
fn an_unknown_task_or_worker_is_code_65_and_says_where_to_look() {
    let server = Server::start();
    let person = Person::at(&server);
    for args in [&["task", "../x y"][..], &["result", "nope"], &["result", "nope", "--wait"]] {
        let said = person.fails(65, args);
        assert!(said.contains("Task not found") && said.contains("bloom-runtime tasks"), "{said}");
    }
    let said = person.fails(65, &["workers", "nope"]);
    assert!(said.contains("Worker not found") && said.contains("bloom-runtime workers"), "{said}");
}

#[test]
fn a_wrong_command_line_is_code_64() {
    for args in [
        &["tasks", "--status", "nope"][..],
        &["tasks", "--limit", "0"],
        &["tasks", "--key", "hunter2"],
        &["task"],
        &["cancel"],
        &["cancel", "id", "--status", "queued"],
        &["completions", "powershell"],
        &["tasks", "--server", "http://me@desk"],
        &["tasks", "--server", "ftp://desk"],
    ] {
        let ended = run(args, &[]);
        assert_eq!(ended.code, Some(64), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {}", ended.stderr);
    }
}
