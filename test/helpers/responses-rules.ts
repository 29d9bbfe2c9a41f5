/** What OpenAI refuses in a request to the Responses API, as rules: each problem is one sentence with its place. */
import { checkSchema, isObject, NAME } from "./openai-rules.ts";

const PARAMETERS = new Set(
  (
    "model input instructions stream stream_options store tools tool_choice parallel_tool_calls text temperature top_p " +
    "max_output_tokens reasoning include metadata user truncation service_tier"
  ).split(" "),
);

/** Every reason why OpenAI would answer this body with 400. */
export function checkResponsesRequest(body: unknown): string[] {
  const problems: string[] = [];
  if (!isObject(body)) return ["body: expected a JSON object"];
  for (const key of Object.keys(body)) if (!PARAMETERS.has(key)) problems.push(`Unknown parameter: ${key}`);
  if (typeof body.model !== "string" || body.model === "") problems.push("model: expected a name");
  if (!Array.isArray(body.input) || body.input.length === 0) problems.push("input: expected at least one item");
  else checkItems(body.input, body.store === false, problems);
  if (body.tools !== undefined) checkTools(body.tools, problems);
  if (body.include !== undefined && body.reasoning === undefined) {
    problems.push("include: Encrypted content is not supported with this model");
  }
  if (isObject(body.text) && isObject(body.text.format)) checkFormat(body.text.format, problems);
  return problems;
}

function checkItems(items: unknown[], keepsNothing: boolean, problems: string[]): void {
  const open = new Set<string>();
  const seen = new Set<string>();
  for (const [i, item] of items.entries()) {
    const path = `input[${i}]`;
    if (!isObject(item)) {
      problems.push(`${path}: expected an object`);
      continue;
    }
    const { type = "message", call_id: callId } = item;
    if (type === "message") {
      if (!["user", "assistant", "system", "developer"].includes(String(item.role)))
        problems.push(`${path}.role: unknown`);
      if (typeof item.content !== "string") problems.push(`${path}.content: expected text`);
    } else if (type === "function_call") {
      if (typeof callId !== "string" || callId === "" || callId.length > 64)
        problems.push(`${path}.call_id: not legal`);
      if (seen.has(String(callId))) problems.push(`${path}.call_id: used twice (${String(callId)})`);
      if (!NAME.test(String(item.name))) problems.push(`${path}.name: not a legal name`);
      if (typeof item.arguments !== "string") problems.push(`${path}.arguments: expected text`);
      open.add(String(callId));
      seen.add(String(callId));
    } else if (type === "function_call_output") {
      if (!open.delete(String(callId))) problems.push(`${path}: No tool call found for call_id ${String(callId)}`);
      if (typeof item.output !== "string") problems.push(`${path}.output: expected text`);
    } else if (type === "reasoning") {
      if (!Array.isArray(item.summary)) problems.push(`${path}.summary: expected a list`);
      if (keepsNothing && !item.encrypted_content) problems.push(`${path}: Item ${String(item.id)} not found`);
    } else problems.push(`${path}.type: unknown (${String(type)})`);
  }
  for (const callId of open) problems.push(`input: No tool output found for function call ${callId}`);
}

function checkTools(tools: unknown, problems: string[]): void {
  if (!Array.isArray(tools) || tools.length === 0) {
    problems.push("tools: expected at least one tool");
    return;
  }
  for (const [i, tool] of tools.entries()) {
    const path = `tools[${i}]`;
    const { type, name, parameters, strict } = tool as { [key: string]: unknown };
    if (type !== "function") problems.push(`${path}.type: expected function`);
    if (!NAME.test(String(name))) problems.push(`${path}.name: not a legal name (${String(name)})`);
    if (typeof strict !== "boolean") problems.push(`${path}.strict: expected true or false`);
    if (!isObject(parameters) || parameters.type !== "object")
      problems.push(`${path}.parameters: expected an object schema`);
    else checkSchema(parameters, `${path}.parameters`, strict === true, problems);
  }
}

function checkFormat(format: { [key: string]: unknown }, problems: string[]): void {
  if (format.type === "text") return;
  if (format.type !== "json_schema") problems.push("text.format.type: expected text or json_schema");
  if (!NAME.test(String(format.name))) problems.push("text.format.name: not a legal name");
  const { schema } = format;
  if (!isObject(schema) || schema.type !== "object")
    problems.push("text.format.schema: expected type object at the root");
  else checkSchema(schema, "text.format.schema", format.strict === true, problems);
}
