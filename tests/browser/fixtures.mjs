// A fleet with something of everything in it, for the pictures and for axe.

export const SCRIPT = "<script>window.hacked = 1</script><img src=x onerror=\"window.hacked = 1\">";

export async function furnish(fleet) {
  await fleet.addWorker("rpi4b", "--max-concurrency", "2", "--label", "arm64", "--label", "home");
  const done = await fleet.task({ prompt: "SAY Water the tomatoes early in the morning, at the root, about two litres each.\nWhen should I water tomatoes in July?", context_hints: ["garden/beds.md", "garden/weather.md"], priority: 5 });
  const json = await fleet.task({ prompt: "SAY {\"tomatoes\": [\"Stupice\", \"Glacier\"], \"days\": 55}\nName two early tomatoes as JSON.", desired_format: "json", agent_slug: "planner" });
  const failed = await fleet.task({ prompt: "EXIT 3 Summarise the harvest diary of the last ten years.", agent_slug: "summariser", context_id: "diary" });
  const script = await fleet.task({ prompt: `SAY ${SCRIPT}`, agent_slug: "<b>bold</b>", context_id: "hostile" });
  await fleet.until(done.id, "completed");
  await fleet.until(json.id, "completed");
  await fleet.until(failed.id, "failed");
  await fleet.until(script.id, "completed");
  const running = await fleet.task({ prompt: "CHATTER 12 SLEEP 600 Read all seed catalogues and compare their prices.", agent_slug: "researcher", context_id: "catalogues", policy: { timeout_sec: 900, budget: 2.5, retry: { on_error: true } } });
  await fleet.until(running.id, "running");
  const waiting = await fleet.task({ prompt: "Render the plan of the beds as an image.", labels: ["gpu"], agent_slug: "painter", context_id: "beds", priority: 9 });
  const cancelled = await fleet.task({ prompt: "Translate the letter to the neighbours.", labels: ["gpu"], context_id: "letters" });
  await fleet.api("POST", `/llm-tasks/${cancelled.id}/cancel`);
  await fleet.api("POST", "/workers", { name: "orangepi", status: "online", capabilities: { max_concurrency: 4, labels: ["arm64", "heavy"] }, agent_version: "0.4.0", os_info: "Linux 6.6 aarch64", ip_addrs: ["192.168.3.162"] });
  const heavy = (fields) => fleet.task({ labels: ["heavy"], ...fields });
  const hold = async (id, ttl_seconds) => (await fleet.api("POST", `/llm-tasks/${id}/lease`, { worker_id: "orangepi", ttl_seconds })).lease;
  const dead = await heavy({ prompt: "Count every leaf in the orchard.", max_attempts: 1, context_id: "orchard" });
  await hold(dead.id, 1);
  const limited = await heavy({ prompt: "Ask the provider for more than it gives.", context_id: "limits" });
  const lease = await hold(limited.id);
  await fleet.api("POST", `/llm-tasks/${limited.id}/release`, { lease_id: lease.id, code: "usage_limit", error_message: "5-hour limit reached", retry_after_seconds: 5400 });
  await fleet.until(dead.id, "dead");
  await fleet.api("POST", "/workers", { name: "old-laptop", status: "offline", capabilities: { max_concurrency: 1 } });
  return { done: done.id, json: json.id, failed: failed.id, script: script.id, running: running.id, waiting: waiting.id, dead: dead.id };
}
