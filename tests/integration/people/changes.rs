//! Cancelling and requeueing: by id, each on its own, or all that match after a count.

use super::person::Person;
use crate::harness::Server;

#[test]
fn ids_are_changed_one_by_one_and_each_refusal_is_told() {
    let server = Server::start();
    let mut client = server.client();
    let (one, two) = (client.new_task(), client.new_task());
    let person = Person::at(&server);
    let ended = person.run(&["cancel", &one, "nope", &two]);
    assert_eq!(ended.code, Some(65), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("task {one} is cancelled\ntask {two} is cancelled\n"));
    assert!(ended.stderr.contains("task nope: Task not found"), "{}", ended.stderr);
    assert_eq!(person.says(&["requeue", &one]), format!("task {one} is back in the queue\n"));
    assert_eq!(client.task(&one)["status"], "queued");
    let ended = person.run(&["requeue", &one]);
    assert_eq!(ended.code, Some(65));
    assert!(ended.stderr.contains("Cannot requeue task with status 'queued'"), "{}", ended.stderr);
}
