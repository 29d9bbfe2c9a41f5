import { expect, test } from "vitest";
import {
  asText,
  checkConversation,
  closeOpenCalls,
  type Message,
  renderConversation,
} from "../../src/actors/conversation.ts";

const user: Message = { role: "user", content: "hi" };
const words: Message = { role: "assistant", content: "hello", name: "triage" };
const calls = (...ids: string[]): Message => ({
  role: "assistant",
  content: null,
  toolCalls: ids.map((id) => ({ id, name: "echo", arguments: "{}" })),
});
const answer = (toolCallId: string): Message => ({ role: "tool", toolCallId, content: "done" });

test("a conversation in which every call is answered directly is legal", () => {
  expect(checkConversation([user, calls("a", "b"), answer("b"), answer("a"), words, user, words])).toBeUndefined();
});

test.each([
  ["nothing at all", []],
  ["an assistant that begins", [words]],
  ["an unanswered call", [user, calls("a")]],
  ["a call answered after somebody else spoke", [user, calls("a"), user, answer("a")]],
  ["one of two calls unanswered", [user, calls("a", "b"), answer("a"), words]],
  ["an answer without a call", [user, answer("a")]],
  ["a call answered twice", [user, calls("a"), answer("a"), answer("a")]],
  ["two calls with one id", [user, calls("a", "a"), answer("a")]],
  ["an assistant that says nothing", [user, { role: "assistant", content: null }]],
] satisfies [string, Message[]][])("%s is illegal", (_, messages) => {
  expect(checkConversation(messages)).toMatch(/expected/);
});

test("open calls are closed where they stand, and what is closed already stays", () => {
  const closed = closeOpenCalls([user, calls("a", "b"), answer("b"), user, calls("c")], "interrupted");
  expect(checkConversation(closed)).toBeUndefined();
  expect(closed.filter((message) => message.role === "tool")).toEqual([
    answer("b"),
    { role: "tool", toolCallId: "a", content: "interrupted" },
    { role: "tool", toolCallId: "c", content: "interrupted" },
  ]);
  const legal = [user, calls("a"), answer("a"), words];
  expect(closeOpenCalls(legal, "interrupted")).toEqual(legal);
});

test("a conversation renders with who said what", () => {
  expect(renderConversation([user, calls("a"), answer("a"), words])).toBe(
    "user: hi\n\nassistant: calls echo (a): {}\n\ntool (a): done\n\ntriage: hello",
  );
});

test("text stays as it is and anything else is shown as JSON", () => {
  expect([asText("x"), asText({ a: 1 }), asText(null), asText(undefined)]).toEqual(["x", '{"a":1}', "null", ""]);
});
