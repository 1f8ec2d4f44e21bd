//! CONTRACT §1 and "Where we are better": order, filters, pages.

use crate::harness::{Server, Setup, TASKS, column, id, rows, success};
use crate::http::{Answer, Client};
use serde_json::{Value, json};

/// The path of the next page, from `Link: <…>; rel="next"`.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    assert!(link.contains("rel=\"next\""), "{link}");
    let (_, rest) = link.split_once('<')?;
    let (target, _) = rest.split_once('>')?;
    let path = target.find("/api/").map(|start| &target[start..]);
    Some(path.unwrap_or_else(|| panic!("{link}: no path")).to_owned())
}

/// All rows, page by page, and the sizes of the pages.
fn pages(client: &mut Client, path: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut sizes, mut at) = (Vec::new(), Vec::new(), Some(path.to_owned()));
    while let Some(path) = at {
        let answer = client.get(&path);
        let page = rows(&answer);
        sizes.push(page.len());
        all.extend(page);
        at = next(&answer);
        assert!(sizes.len() < 2000, "{path}: pages without end");
    }
    (all, sizes)
}

/// Nine tasks: three completed, one leased, five queued; oldest first.
fn some_tasks(client: &mut Client) -> Vec<String> {
    client.register("w", 8);
    let tasks: Vec<_> = (0..9).map(|_| client.new_task()).collect();
    for task in &tasks[..3] {
        client.lease(task, "w", 60);
        client.act(task, "complete", success("out")).ok(200);
    }
    client.lease(&tasks[3], "w", 60);
    tasks
}

#[test]
fn tasks_are_listed_newest_first_and_filtered_by_status() {
    let server = Server::start();
    let mut client = server.client();
    let mut tasks = some_tasks(&mut client);
    tasks.reverse();
    let mut listed = |query: &str| column(&rows(&client.get(&format!("{TASKS}{query}"))), "id");
    assert_eq!(listed(""), tasks);
    assert_eq!(listed("?status="), tasks, "an empty filter is none");
    assert_eq!(listed("?status=completed"), tasks[6..]);
    assert_eq!(listed("?status=leased"), tasks[5..6]);
    assert_eq!(listed("?status=queued&unknown=1"), tasks[..5]);
    for unknown in ["bogus", "QUEUED", "queued,leased", "%00"] {
        assert_eq!(listed(&format!("?status={unknown}")), [""; 0], "{unknown}");
    }
    let mut leases = |query: &str| rows(&client.get(&format!("/api/runtime/leases{query}"))).len();
    assert_eq!([leases(""), leases("?status=active"), leases("?status=released")], [4, 1, 3]);
    assert_eq!([leases("?status=expired"), leases("?status=bogus")], [0, 0]);
}

#[test]
fn every_list_gives_the_same_rows_page_by_page() {
    let server = Server::start();
    let mut client = server.client();
    some_tasks(&mut client);
    (0..5).for_each(|n| drop(client.register(&format!("more-{n}"), 1)));
    let lists = [
        "llm-tasks",
        "llm-tasks?status=queued",
        "llm-tasks?status=completed",
        "leases",
        "leases?status=released",
        "workers",
        "artifacts",
        "audit",
    ];
    for list in lists {
        let path = format!("/api/runtime/{list}");
        let whole = rows(&client.get(&path));
        let join = if list.contains('?') { '&' } else { '?' };
        for limit in [1, 2, 3, 100] {
            let (all, sizes) = pages(&mut client, &format!("{path}{join}limit={limit}"));
            assert_eq!(column(&all, "id"), column(&whole, "id"), "{list} in pages of {limit}");
            assert!(sizes.iter().all(|size| *size <= limit), "{list}: {sizes:?}");
        }
        assert!(next(&client.get(&path)).is_none(), "{list}: a whole list has no next page");
    }
}

#[test]
fn a_page_is_not_disturbed_by_what_arrives_meanwhile() {
    let server = Server::start();
    let mut client = server.client();
    let mut made: Vec<_> = (0..6).map(|_| client.new_task()).collect();
    made.reverse();
    let first = client.get(&format!("{TASKS}?limit=3"));
    (0..3).for_each(|_| drop(client.new_task()));
    let second = client.get(&next(&first).expect("a next page"));
    assert_eq!([column(&rows(&first), "id"), column(&rows(&second), "id")].concat(), made);
}

#[test]
fn a_limit_that_is_no_number_is_no_error_for_todays_clients() {
    let server = Server::start();
    let mut client = server.client();
    (0..3).for_each(|_| drop(client.new_task()));
    for limit in ["", "0", "abc", "-1", "99999999999999999999999"] {
        assert_eq!(rows(&client.get(&format!("{TASKS}?limit={limit}"))).len(), 3, "limit={limit}");
    }
}

#[test]
fn a_list_without_a_limit_ends_at_a_thousand_rows_and_names_the_rest() {
    let server = Server::start();
    let mut client = server.client();
    let mut made = Vec::new();
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    (0..64)
                        .map({
                            let mut client = server.client();
                            move |_| client.new_task()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        made.extend(makers.into_iter().flat_map(|maker| maker.join().unwrap()));
    });
    assert_eq!(made.len(), 1024);
    let first = client.get(TASKS);
    assert_eq!(rows(&first).len(), 1000);
    let second = client.get(&next(&first).expect("a next page"));
    assert_eq!(rows(&second).len(), 24);
    let mut seen = [column(&rows(&first), "id"), column(&rows(&second), "id")].concat();
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
    assert_eq!(rows(&client.get(&format!("{TASKS}?limit=5000"))).len(), 1000);
}

#[test]
fn a_list_without_a_limit_ends_at_four_mebibytes() {
    let server = Server::start();
    let mut client = server.client();
    let prompt = "p".repeat(1024 * 1024);
    let mut made: Vec<_> = (0..6).map(|_| id(&client.create(json!({"prompt": prompt})))).collect();
    made.reverse();
    let first = client.get(TASKS);
    assert!(first.body.len() < 5 * 1024 * 1024, "{} bytes", first.body.len());
    let (all, sizes) = pages(&mut client, TASKS);
    assert_eq!(column(&all, "id"), made);
    assert!(sizes.len() >= 2, "{sizes:?}");
    // One row larger than a page is still shown, alone.
    let large = id(&client.create(json!({"prompt": "p".repeat(6 * 1024 * 1024)})));
    assert_eq!(column(&rows(&client.get(&format!("{TASKS}?limit=1"))), "id"), [large]);
}

#[test]
fn lists_survive_a_restart_in_their_order() {
    let mut server = Setup::default().start();
    some_tasks(&mut server.client());
    let lists = ["llm-tasks", "leases", "artifacts", "workers", "audit"];
    let read = |client: &mut Client| {
        lists.map(|list| column(&rows(&client.get(&format!("/api/runtime/{list}"))), "id"))
    };
    let before = read(&mut server.client());
    server.kill9();
    server.restart();
    assert_eq!(read(&mut server.client()), before);
}
