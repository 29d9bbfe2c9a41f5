import { expect, test } from "vitest";
import { checkChatRequest } from "./openai-rules.ts";
import { startOpenAIServer } from "./openai-server.ts";

const user = { role: "user", content: "hi" };
const call = (id: string) => ({ id, type: "function", function: { name: "f", arguments: "{}" } });
const calls = (...ids: string[]) => ({ role: "assistant", content: null, tool_calls: ids.map(call) });
const result = (id: string) => ({ role: "tool", tool_call_id: id, content: "r" });
const tool = (name: string, parameters: object = { type: "object", properties: {} }) => ({
  type: "function",
  function: { name, parameters },
});

test.each<[string, object]>([
  ["a conversation with answered calls", { messages: [user, calls("a", "b"), result("b"), result("a"), user] }],
  ["tools", { messages: [user], tools: [tool("f"), tool("g")] }],
])("%s is legal", (_, body) => {
  expect(checkChatRequest({ model: "m", ...body })).toEqual([]);
});

test.each<[string, object, RegExp]>([
  [
    "a call without an answer",
    { messages: [user, calls("a", "b"), result("a"), user] },
    /without an answer before it: b/,
  ],
  ["a call without an answer at the end", { messages: [user, calls("a")] }, /without an answer at the end: a/],
  ["a call answered twice", { messages: [user, calls("a"), result("a"), result("a")] }, /answers no open call/],
  ["an orphan tool message", { messages: [user, result("a")] }, /answers no open call/],
  ["an answer that comes late", { messages: [user, calls("a"), user, result("a")] }, /without an answer before it: a/],
  ["one id for two calls", { messages: [user, calls("a", "a"), result("a")] }, /used twice/],
  ["an empty list of calls", { messages: [user, { role: "assistant", content: "x", tool_calls: [] }] }, /at least one/],
  [
    "an assistant that says nothing",
    { messages: [user, { role: "assistant", content: null }] },
    /null without tool_calls/,
  ],
  [
    "a system message in the middle",
    { messages: [user, { role: "system", content: "x" }] },
    /after the conversation began/,
  ],
  ["an unknown role", { messages: [{ role: "agent", content: "x" }] }, /role: expected/],
  ["no messages", { messages: [] }, /at least one/],
  ["a tool with a dotted name", { messages: [user], tools: [tool("a.b")] }, /not a legal name/],
  ["two tools with one name", { messages: [user], tools: [tool("a"), tool("a")] }, /used twice/],
  [
    "a tool whose parameters are no object",
    { messages: [user], tools: [tool("a", { type: "string" })] },
    /type object/,
  ],
  ["an unknown parameter", { messages: [user], colour: "red" }, /Unrecognized request argument: colour/],
])("%s is refused", (_, body, problem) => {
  expect(checkChatRequest({ model: "m", ...body }).join("; ")).toMatch(problem);
});

test("a request without streaming gets one document, and an illegal one a recorded 400", async () => {
  await using server = await startOpenAIServer({ reply: "hello" });
  const post = (body: object) =>
    fetch(`${server.url}/chat/completions`, {
      method: "POST",
      headers: { authorization: "Bearer k", traceparent: "00-1-2-01" },
      body: JSON.stringify(body),
    });
  const fine = (await (await post({ model: "m", messages: [user] })).json()) as { choices: unknown[] };
  expect(fine.choices[0]).toMatchObject({ message: { content: "hello" }, finish_reason: "stop" });
  expect(server.calls[0]?.headers.traceparent).toBe("00-1-2-01");
  const refused = await post({ model: "m", messages: [] });
  expect(refused.status).toBe(400);
  expect(await refused.json()).toMatchObject({ error: { type: "invalid_request_error" } });
  expect(server.violations).toEqual(["messages: expected at least one"]);
});
