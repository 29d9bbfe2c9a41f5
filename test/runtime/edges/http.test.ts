import { expect, test } from "vitest";
import { startHttp } from "../../../src/runtime/edges/http.ts";

test("health and readiness are told apart, with the reasons for not being ready", async () => {
  let reasons: string[] = ["NATS is away"];
  await using http = await startHttp({ port: 0, health: () => ({ live: true, ready: reasons.length === 0, reasons }) });
  expect((await fetch(`${http.url}/healthz`)).status).toBe(200);
  const notReady = await fetch(`${http.url}/readyz`);
  expect(notReady.status).toBe(503);
  expect(await notReady.json()).toEqual({ ready: false, reasons: ["NATS is away"] });
  reasons = [];
  expect((await fetch(`${http.url}/readyz`)).status).toBe(200);
});

test("a process that does not work any more is not healthy", async () => {
  await using http = await startHttp({ port: 0, health: () => ({ live: false, ready: false, reasons: [] }) });
  expect((await fetch(`${http.url}/healthz`)).status).toBe(503);
});

test("metrics are served where there are any, as Prometheus reads them", async () => {
  const health = () => ({ live: true, ready: true, reasons: [] });
  await using without = await startHttp({ port: 0, health });
  expect((await fetch(`${without.url}/metrics`)).status).toBe(404);
  await using http = await startHttp({ port: 0, health, metrics: async () => "workflow_active_count 3\n" });
  const page = await fetch(`${http.url}/metrics`);
  expect(page.headers.get("content-type")).toMatch("text/plain; version=0.0.4");
  expect(await page.text()).toBe("workflow_active_count 3\n");
});

test("a page that cannot be made is an error, not a crash", async () => {
  const health = () => ({ live: true, ready: true, reasons: [] });
  const metrics = () => Promise.reject(new Error("no exporter"));
  await using http = await startHttp({ port: 0, health, metrics });
  expect((await fetch(`${http.url}/metrics`)).status).toBe(500);
  expect((await fetch(`${http.url}/healthz`)).status).toBe(200);
});

test("anything else is not found, and only reading is allowed", async () => {
  await using http = await startHttp({ port: 0, health: () => ({ live: true, ready: true, reasons: [] }) });
  expect((await fetch(`${http.url}/nope`)).status).toBe(404);
  expect((await fetch(`${http.url}/healthz`, { method: "POST" })).status).toBe(405);
  expect((await fetch(`${http.url}/healthz`, { method: "HEAD" })).status).toBe(200);
});

test("it closes although a client keeps its connection open, and a taken port is an error", async () => {
  const health = () => ({ live: true, ready: true, reasons: [] });
  const http = await startHttp({ port: 0, health });
  await expect(startHttp({ port: http.port, health })).rejects.toThrow(/--http-port: expected a free port.*in use/);
  // fetch keeps connections alive.
  await fetch(`${http.url}/healthz`);
  await http.close();
  await expect(fetch(`${http.url}/healthz`)).rejects.toThrow();
});
