import { expect, test } from "vitest";
import { type McpContent, textOfResult } from "../../../src/runtime/mcp/mcp-result.ts";

const text = (words: string): McpContent => ({ type: "text", text: words });

test("text stays as it is, several parts are paragraphs, and nothing is nothing", () => {
  expect(textOfResult({ content: [text(" one\n")] })).toBe(" one\n");
  expect(textOfResult({ content: [text("one"), text("two")] })).toBe("one\n\ntwo");
  expect(textOfResult({ content: [] })).toBe("");
});

test("structured content comes as JSON, once", () => {
  const structuredContent = { sum: 3, of: [1, 2] };
  expect(textOfResult({ content: [], structuredContent })).toBe(`{"sum":3,"of":[1,2]}`);
  expect(textOfResult({ content: [text(`{ "sum": 3, "of": [1, 2] }`)], structuredContent })).toBe(
    `{ "sum": 3, "of": [1, 2] }`,
  );
  expect(textOfResult({ content: [text("It is three.")], structuredContent })).toBe(
    `It is three.\n\n{"sum":3,"of":[1,2]}`,
  );
});

test("what a model cannot read is described, also what only a later version of the protocol knows", () => {
  const data = Buffer.alloc(1_000).toString("base64");
  const content: McpContent[] = [
    { type: "audio", data, mimeType: "audio/wav" },
    { type: "resource", resource: { uri: "file:///a.bin", blob: data } },
    { type: "resource", resource: { uri: "file:///b.pdf", mimeType: "application/pdf", blob: data } },
    { type: "hologram" } as unknown as McpContent,
  ];
  expect(textOfResult({ content }).split("\n\n")).toEqual([
    "[audio: audio/wav, 1000 bytes]",
    "[resource: file:///a.bin, of no known type, 1000 bytes]",
    "[resource: file:///b.pdf, application/pdf, 1000 bytes]",
    "[hologram]",
  ]);
});
