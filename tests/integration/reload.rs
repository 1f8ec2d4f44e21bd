//! SIGHUP and `health`: what a supervisor asks of a running server.

use crate::harness::{Server, Setup, TASKS, run};

fn limit(server: &Server) -> Option<String> {
    server.client().get(TASKS).header("ratelimit-limit").map(str::to_owned)
}

#[test]
fn a_reload_applies_what_can_change_and_names_the_rest() {
    let setup = Setup::default().stock_limits();
    let server = setup.env_file("RATE_LIMIT_PER_MINUTE=50\nSESSION_SECRET=before\n").start();
    let file = server.dir().path().join("runtime.env");
    assert_eq!(limit(&server).as_deref(), Some("50"));
    let edit =
        "RATE_LIMIT_PER_MINUTE=70\nLOG_LEVEL=warn\nSESSION_SECRET=after\nDATA_DIR=/elsewhere\n";
    std::fs::write(&file, edit).unwrap();
    server.hang_up();
    let said = server.wait_until_said("after a restart");
    assert!(said.contains("reload: LOG_LEVEL, RATE_LIMIT_PER_MINUTE: in effect now"), "{said}");
    assert!(said.contains("reload: SESSION_SECRET: changed, in effect after a restart"), "{said}");
    assert!(!said.contains("before") && !said.contains("DATA_DIR: "), "{said}");
    assert_eq!(limit(&server).as_deref(), Some("70"));
    assert_eq!(said.matches("[access]").count(), server.said().matches("[access]").count());

    std::fs::write(&file, "RATE_LIMIT_PER_MINUTE=many\n").unwrap();
    server.hang_up();
    let said = server.wait_until_said("nothing has changed: RATE_LIMIT_PER_MINUTE");
    assert!(said.contains("runtime.env:1"), "{said}");
    assert_eq!(limit(&server).as_deref(), Some("70"));
}

#[test]
fn health_tells_a_server_that_is_well_from_silence() {
    let mut server = Server::start();
    let port = server.address().port().to_string();
    let file = server.dir().path().join("runtime.env").display().to_string();
    let asked = ["health", "--host", "0.0.0.0", "--port", &port, "--env-file", &file];
    let well = run(&asked, &[]);
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    assert!(well.stdout.starts_with("well at http://127.0.0.1:"), "{}", well.stdout);
    server.terminate();
    let silent = run(&asked, &[]);
    assert_eq!(silent.code, Some(69), "{}", silent.stderr);
    assert!(silent.stderr.contains("no server answers at http://127.0.0.1:"), "{}", silent.stderr);
}
