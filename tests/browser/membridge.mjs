// A stand-in of the Membridge control plane 0.3.0 for the browser tests, in the answers that
// `tests/data/membridge.jsonl` recorded. Not here: agents, sync, validation (see tests/standin/membridge.rs).

import { createServer } from "node:http";

export const KEY = "test-admin-key";
const seconds = () => Date.now() / 1000;

function node(node_id, canonical_id, obs_count, db_sha, ip) {
  return { node_id, canonical_id, role: "unknown", obs_count, db_sha, last_seen: seconds() - 40, ip_addrs: ip ? [ip] : [], registered_at: seconds() - 9000, project_id: null };
}

export async function startMembridge() {
  const project = (name, canonical_id, source) => ({ name, canonical_id, created_at: seconds() - 90_000, last_seen: seconds() - 40, source });
  const projects = [project("garden-seedling", "aeeafec3a5b5710f", "manual"), project("<img src=x onerror=alert(1)>", "aaaaaaaaaaaaaaaa", "heartbeat")];
  const nodes = [
    node("rpi4b", "aeeafec3a5b5710f", 42, "deadbeefcafebabe", "192.168.3.161"),
    node("orangepi", "aeeafec3a5b5710f", 38, "0badf00d0badf00d", "192.168.3.162"),
    node("nuc", "aeeafec3a5b5710f", 42, "deadbeefcafebabe", "192.168.3.20"),
  ];
  const primaries = new Map([["aaaaaaaaaaaaaaaa", "ghost-node"]]);
  const seen = [];
  const of = (cid) => nodes.filter((one) => one.canonical_id === cid).map((one) => ({ ...one, role: primaries.has(cid) ? (primaries.get(cid) === one.node_id ? "primary" : "secondary") : "unknown" }));

  function serve(method, path, body) {
    const [, first, cid, what, select] = path.split("/");
    if (path === "/projects") return projects.map((one) => ({ ...one, nodes_count: of(one.canonical_id).length }));
    if (path === "/agents") return [];
    if (first !== "projects") return null;
    if (what === "nodes") return of(cid);
    if (what === "leadership" && method === "GET") return { canonical_id: cid, preferred_primary: primaries.get(cid) ?? null, node_count: of(cid).length, nodes: of(cid) };
    if (select !== "select") return null;
    const { primary_node_id, lease_seconds } = JSON.parse(body);
    primaries.set(cid, primary_node_id);
    const detail = `Leadership preference set: primary=${primary_node_id}. Nodes will adopt roles on next heartbeat or sync operation.`;
    return { ok: true, canonical_id: cid, primary_node_id, lease_seconds, detail };
  }

  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => { body += piece; });
    request.on("end", () => {
      const path = request.url.split("?")[0];
      seen.push({ method: request.method, path, body });
      const say = (status, value) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
      if (path === "/health") return say(200, { status: "ok", service: "membridge-control-plane", version: "0.3.0", projects: projects.length, agents: 0 });
      if (request.headers["x-membridge-admin"] !== KEY) return say(401, { detail: "Unauthorized — invalid or missing X-MEMBRIDGE-ADMIN header" });
      const answer = serve(request.method, path, body);
      return answer ? say(200, answer) : say(404, { detail: "Not Found" });
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}`, seen, stop: () => server.close() };
}
