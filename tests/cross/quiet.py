"""How small and quiet a program is: memory, threads, wake-ups and bytes written, in its states of rest.

    python3 tests/cross/quiet.py PROGRAM [--idle-seconds N] [NAME=VALUE...]
    python3 tests/cross/quiet.py PROGRAM --settings [--idle-seconds N]

NAME=VALUE are settings of the server. Prints a row a state, or with --settings a row for each setting that
could cost something, with its cost idle. Figures are for people: nothing here fails on one. Memory is the
kernel's VmRSS, the part of it that is no page of a file (RssAnon), and the peak VmHWM; wake-ups are voluntary
switches of all threads; bytes are those that reach the disk (write_bytes).
"""

import http.client
import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TASKS, WORKERS = 10_000, 1_000
# What could cost something while nothing happens; nothing listens on port 9.
SETTINGS = [
    {},
    {"MEMBRIDGE_SYNC_SECONDS": "0"},
    {"PUBLIC_URL": "http://127.0.0.1:9", "MEMBRIDGE_AGENT_KEY": "k"},
    {"RUNTIME_API_KEY": "k" * 32, "HOST": "127.0.0.1"},
    {"TLS_SELF_SIGNED": "1"},
    {"MINIO_ENDPOINT": "127.0.0.1:9", "MINIO_ACCESS_KEY": "k", "MINIO_SECRET_KEY": "k"},
    {"RETENTION_DAYS": "30", "AUDIT_RETENTION_DAYS": "365"},
    {"COMPACT_IDLE_SECONDS": "0"},
    {"LOG_LEVEL": "debug"},
]
HEAD = "| | memory / of its own / most | threads | wake-ups a second | written at rest |\n|---|---|---|---|---|"


class Server:
    def __init__(self, program, settings):
        self.work = tempfile.mkdtemp(dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.quick = tempfile.mkdtemp(dir="/dev/shm")  # in memory, since lines of the log are no work of the store
        self.program, self.env = program, {"RATE_LIMIT_PER_MINUTE": "0", **settings}
        open(f"{self.work}/env", "w").close()
        self.start()

    def start(self):
        began = time.monotonic()
        words = ["serve", "--env-file", f"{self.work}/env", "--data-dir", f"{self.work}/data", "--port", "0"]
        self.log = open(f"{self.quick}/log", "w+b")
        self.process = subprocess.Popen([self.program, *words], env=self.env, stderr=self.log)
        while True:
            said = open(f"{self.quick}/log").read()
            if found := re.search(r"listening on https?://[^:]*:(\d+)", said):
                break
            assert self.process.poll() is None, said
            time.sleep(0.0005)
        self.port = int(found[1])
        if "https" not in found[0]:
            self.ask("GET", "/api/runtime/health")
        self.started_ms = (time.monotonic() - began) * 1000

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, method, path, body=None, connection=None):
        connection = connection or self.connect()
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 300, (answer.status, content)
        return content

    def status(self, name):
        return int(re.search(rf"^{name}:\s+(\d+)", self.read("status"), re.M)[1])

    def read(self, name):
        with open(f"/proc/{self.process.pid}/{name}") as file:
            return file.read()

    def written(self):
        return int(re.search(r"^write_bytes: (\d+)", self.read("io"), re.M)[1])

    def wakeups(self):
        """Of each thread that there is."""
        tasks = f"/proc/{self.process.pid}/task"
        pattern = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.M)
        return {task: int(pattern.search(open(f"{tasks}/{task}/status").read())[1]) for task in os.listdir(tasks)}

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.work)
        shutil.rmtree(self.quick)


def at_rest(server, what, seconds):
    """A row about the state that it is in now, once what went before is over: the way to the archive after
    30 s, workers that are offline after 60."""
    written, since = server.written(), time.monotonic()
    while time.monotonic() - since < 65:
        time.sleep(1)
        if server.written() != written:
            written, since = server.written(), time.monotonic()
    wakeups, written, began = server.wakeups(), server.written(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    woken = sum(count - wakeups.get(task, 0) for task, count in server.wakeups().items())
    print(
        f"| {what} | {server.status('VmRSS') / 1024:.1f} / {server.status('RssAnon') / 1024:.1f} "
        f"/ {server.status('VmHWM') / 1024:.1f} MiB | {server.status('Threads')} | {woken / took:.2f} "
        f"| {server.written() - written} in {took:.0f} s |",
        flush=True,
    )


def create(server, count):
    connection = server.connect()
    for number in range(count):
        body = {"context_id": f"c{number % 100}", "agent_slug": "a", "prompt": f"{number} " + "x" * 500}
        server.ask("POST", "/api/runtime/llm-tasks", body, connection)
    connection.close()


def complete(server, count):
    connection = server.connect()
    body = {"name": "w", "capabilities": {"claude_cli": True, "max_concurrency": 32}}
    server.ask("POST", "/api/runtime/workers", body, connection)
    for _ in range(count):
        claimed = server.ask("POST", "/api/runtime/workers/w/claim", {}, connection)
        lease = json.loads(claimed)["lease"]
        done = {"lease_id": lease["id"], "status": "success", "output": "y" * 500, "metrics": {"duration_ms": 1}}
        server.ask("POST", f"/api/runtime/llm-tasks/{lease['task_id']}/complete", done, connection)
    connection.close()


def wait_for_tasks(server, count):
    """Claims that wait, each on a connection of its own, and ask again when they were answered that there is
    nothing. Goes on until the program ends."""
    connection = server.connect()
    answered = selectors.DefaultSelector()
    for number in range(count):
        server.ask("POST", "/api/runtime/workers", {"name": f"w{number}"}, connection)
        body = '{"wait_seconds":55}'
        head = f"POST /api/runtime/workers/w{number}/claim HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        socket_ = socket.create_connection(("127.0.0.1", server.port))
        socket_.sendall((head + body).encode())
        answered.register(socket_, selectors.EVENT_READ, (head + body).encode())

    def ask_again():
        while True:
            for ready, _ in answered.select():
                answer = ready.fileobj.recv(65536)
                if not answer:  # the server has ended
                    return
                assert answer.startswith(b"HTTP/1.1 20"), answer
                ready.fileobj.sendall(ready.data)

    threading.Thread(target=ask_again, daemon=True).start()


def main():
    program, words = sys.argv[1], sys.argv[2:]
    seconds = 60.0
    if "--idle-seconds" in words:
        at = words.index("--idle-seconds")
        seconds = float(words[at + 1])
        del words[at : at + 2]
    if "--settings" in words:
        print(HEAD)
        for settings in SETTINGS:
            server = Server(program, settings)
            at_rest(server, ", ".join(settings) or "none", seconds)
            server.end()
        return
    server = Server(program, dict(word.split("=", 1) for word in words))
    starts = [server.started_ms]
    print(HEAD)
    at_rest(server, "idle", seconds)
    before = server.written()
    create(server, TASKS)
    per_task = (server.written() - before) / TASKS
    at_rest(server, f"{TASKS:,} queued tasks", seconds)
    server.kill9()
    server.start()
    starts.append(server.started_ms)
    at_rest(server, "the same after a kill -9", seconds)
    before = server.written()
    complete(server, TASKS)
    at_rest(server, f"{TASKS:,} finished tasks", seconds)
    done = (server.written() - before) / TASKS
    wait_for_tasks(server, WORKERS)
    at_rest(server, f"{WORKERS:,} waiting workers beside them", seconds)
    print(f"start to the first answer: empty {starts[0]:.0f} ms, after kill -9 with {TASKS:,} tasks {starts[1]:.0f} ms")
    print(f"written for a task, one caller: created {per_task / 1024:.1f} KiB, claimed, done and archived {done / 1024:.1f} KiB")
    server.end()


main()
