//! Submitting: what the server is given, where the prompt comes from, what is printed.

use super::person::Person;
use crate::harness::{Server, TASKS, id, rows};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn a_task_is_what_its_flags_say() {
    let server = Server::start();
    let person = Person::at(&server);
    let flags = "--agent reviewer --context garden --priority 7 --label gpu --label arm64 --timeout 60 \
                 --budget 0.5 --json-answer --retry";
    let mut args = vec!["submit", "Name three tomatoes."];
    args.extend(flags.split_whitespace());
    let printed = person.says(&args);
    let task = server.client().task(printed.trim_end());
    assert_eq!(printed, format!("{}\n", id(&task)), "the id alone");
    assert_eq!(task["prompt"], "Name three tomatoes.");
    assert_eq!(task["agent_slug"], "reviewer");
    assert_eq!(task["context_id"], "garden");
    assert_eq!(task["priority"], 7);
    assert_eq!(task["labels"], json!(["gpu", "arm64"]));
    assert_eq!(task["policy"]["timeout_sec"], 60);
    assert_eq!(task["policy"]["budget"], 0.5);
    assert_eq!(task["policy"]["retry"]["on_error"], true);
    assert_eq!(task["desired_format"], "json");
}

#[test]
fn two_tasks_without_a_context_share_none() {
    let server = Server::start();
    let person = Person::at(&server);
    let contexts = ["a", "b"].map(|prompt| {
        let task = server.client().task(person.says(&["submit", prompt]).trim_end());
        assert_eq!(task["agent_slug"], "default");
        task["context_id"].as_str().unwrap().to_owned()
    });
    assert_ne!(contexts[0], contexts[1]);
}

#[test]
fn a_prompt_comes_from_an_argument_a_file_or_stdin() {
    let server = Server::start();
    let person = Person::at(&server);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.md");
    std::fs::write(&file, "from a file\nwith two lines\n").unwrap();
    let file = file.to_str().unwrap();
    let prompts: [(&[&str], &str, &str); 7] = [
        (&["submit", "from an argument"], "unread", "from an argument"),
        (&["submit", "--", "--json=x"], "", "--json=x"),
        (&["submit", "help"], "", "help"),
        (&["submit", "--file", file], "", "from a file\nwith two lines\n"),
        (&["submit", "-", "--priority", "1"], "from stdin\n", "from stdin\n"),
        (&["submit", "--file", "-"], "from stdin", "from stdin"),
        (&["submit"], "from a pipe, \u{1b}[2J קטן", "from a pipe, \u{1b}[2J קטן"),
    ];
    for (args, input, prompt) in prompts {
        let ended = person.run_with_input(args, input.as_bytes());
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        assert_eq!(server.client().task(ended.stdout.trim_end())["prompt"], prompt, "{args:?}");
    }
    assert_eq!(rows(&server.client().get(TASKS)).len(), prompts.len());
}

#[test]
fn a_prompt_that_is_none_is_refused_before_anyone_is_asked() {
    // Nobody listens there: who asked would end with 69.
    let person = Person::knowing(&[("BLOOM_SERVER", "http://127.0.0.1:9")]);
    let said = person.fails(64, &["submit"]);
    assert!(said.contains("The prompt is empty"), "{said}");
    let said = person.fails(64, &["submit", "a", "--file", "b"]);
    assert!(said.contains("Give the prompt once"), "{said}");
    let said = person.fails(66, &["submit", "--file", "/nowhere/prompt"]);
    assert!(said.contains("/nowhere/prompt: No such file"), "{said}");
    let said = person.run_with_input(&["submit", "-"], &[b'a', 0xff]);
    assert_eq!((said.code, said.stderr.contains("not UTF-8")), (Some(66), true), "{}", said.stderr);
    let much = vec![b'a'; 17 << 20];
    let said = person.run_with_input(&["submit", "-"], &much);
    assert_eq!((said.code, said.stderr.contains("16 MiB")), (Some(66), true), "{}", said.stderr);
    // As a prompt it fits, as the body of a request it does not.
    let said = person.run_with_input(&["submit", "-"], &much[..16 << 20]);
    assert_eq!((said.code, said.stderr.contains("too large")), (Some(66), true), "{}", said.stderr);
    let said = person.start_on_terminal(&["submit"], 80).end();
    assert_eq!((said.code, said.stdout.contains("What is the task?")), (Some(64), true));
}

#[test]
fn a_flag_out_of_its_range_is_named() {
    let person = Person::knowing(&[]);
    for (flag, value, words) in [
        ("--priority", "10", "from 0 to 9"),
        ("--timeout", "0", "from 1 to 3600"),
        ("--budget", "-1", "such as 0.50"),
        ("--budget", "nan", "such as 0.50"),
        ("--not-before", "tomorrow", "2027-01-31T06:00Z"),
    ] {
        let said = person.fails(64, &["submit", "p", flag, value]);
        assert!(said.contains(flag) && said.contains(words), "{said}");
    }
}

#[test]
fn the_servers_json_comes_as_it_is() {
    let server = Server::start();
    let printed = Person::at(&server).says(&["submit", "p", "--json"]);
    let task: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let stored = server.client().get(&format!("{TASKS}/{}", id(&task))).text();
    assert_eq!(printed, format!("{stored}\n"));
}

#[test]
fn a_create_whose_answer_is_lost_is_sent_again_under_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        [None, Some("HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n{\"id\":\"t-1\"}")].map(
            |answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut some) = (String::new(), [0; 4096]);
                while !request.ends_with('}') {
                    let read = stream.read(&mut some).unwrap();
                    request.push_str(std::str::from_utf8(&some[..read]).unwrap());
                }
                stream.write_all(answer.unwrap_or_default().as_bytes()).unwrap();
                request
            },
        )
    });
    assert_eq!(Person::knowing(&[]).says(&["submit", "p", "--server", &url]), "t-1\n");
    let [first, again] = asked.join().unwrap();
    assert!(first.contains("\r\nIdempotency-Key: "), "{first}");
    assert_eq!(first, again);
}
