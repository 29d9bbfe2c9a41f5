/**
 * What OpenAI refuses in a chat completion request, as rules: each problem is one sentence with its place, none means the
 * request is legal.
 */
type Json = { [key: string]: unknown };

const PARAMETERS = new Set(
  (
    "model messages stream stream_options tools tool_choice parallel_tool_calls response_format temperature top_p n stop " +
    "max_tokens max_completion_tokens seed user metadata store reasoning_effort"
  ).split(" "),
);
export const NAME = /^[a-zA-Z0-9_-]{1,64}$/;
const SCHEMA_TYPES = new Set(["string", "number", "integer", "boolean", "object", "array", "null"]);

/** Every reason why OpenAI would answer this body with 400. */
export function checkChatRequest(body: unknown): string[] {
  const problems: string[] = [];
  if (!isObject(body)) return ["body: expected a JSON object"];
  for (const key of Object.keys(body)) if (!PARAMETERS.has(key)) problems.push(`Unrecognized request argument: ${key}`);
  if (typeof body.model !== "string" || body.model === "") problems.push("model: expected a name");
  if (body.stream_options !== undefined && body.stream !== true) problems.push("stream_options: only with stream");
  if (body.max_tokens !== undefined && body.max_completion_tokens !== undefined) {
    problems.push("max_tokens: not together with max_completion_tokens");
  }
  if (!Array.isArray(body.messages) || body.messages.length === 0) problems.push("messages: expected at least one");
  else checkMessages(body.messages, problems);
  if (body.tools !== undefined) checkTools(body.tools, problems);
  if (body.response_format !== undefined) checkResponseFormat(body.response_format, problems);
  return problems;
}

function checkMessages(messages: unknown[], problems: string[]): void {
  /** Calls of the last assistant message that are not answered yet. */
  let open = new Set<string>();
  let started = false;
  for (const [i, message] of messages.entries()) {
    const path = `messages[${i}]`;
    if (!isObject(message)) {
      problems.push(`${path}: expected an object`);
      continue;
    }
    const { role, content } = message;
    if (role === "tool") {
      const id = String(message.tool_call_id);
      if (!open.delete(id)) problems.push(`${path}: tool message answers no open call of the message before (${id})`);
      if (typeof content !== "string") problems.push(`${path}.content: expected text`);
      continue;
    }
    if (open.size > 0) problems.push(`${path}: tool calls without an answer before it: ${[...open].join(", ")}`);
    open = new Set();
    if (role === "system" || role === "developer") {
      if (started) problems.push(`${path}: a ${role} message after the conversation began`);
      if (typeof content !== "string") problems.push(`${path}.content: expected text`);
      continue;
    }
    started = true;
    if (message.name !== undefined && !NAME.test(String(message.name))) problems.push(`${path}.name: not a legal name`);
    if (role === "user") {
      if (typeof content !== "string") problems.push(`${path}.content: expected text`);
    } else if (role === "assistant") open = checkAssistant(message, path, problems);
    else problems.push(`${path}.role: expected system, user, assistant or tool, got ${String(role)}`);
  }
  if (open.size > 0) problems.push(`messages: tool calls without an answer at the end: ${[...open].join(", ")}`);
}

/** Gives back the ids of its calls. */
function checkAssistant(message: Json, path: string, problems: string[]): Set<string> {
  const { content, tool_calls: calls } = message;
  const ids = new Set<string>();
  if (content !== null && typeof content !== "string") problems.push(`${path}.content: expected text or null`);
  if (calls === undefined) {
    if (content === null) problems.push(`${path}.content: null without tool_calls`);
    return ids;
  }
  if (!Array.isArray(calls) || calls.length === 0) {
    problems.push(`${path}.tool_calls: expected at least one`);
    return ids;
  }
  for (const [i, call] of calls.entries()) {
    const where = `${path}.tool_calls[${i}]`;
    const { id, type, function: called } = call as { id: unknown; type: unknown; function?: Json };
    if (typeof id !== "string" || id === "" || id.length > 40)
      problems.push(`${where}.id: expected 1 to 40 characters`);
    if (ids.has(String(id))) problems.push(`${where}.id: used twice (${String(id)})`);
    ids.add(String(id));
    if (type !== "function") problems.push(`${where}.type: expected function`);
    if (!NAME.test(String(called?.name))) problems.push(`${where}.function.name: not a legal name`);
    if (typeof called?.arguments !== "string") problems.push(`${where}.function.arguments: expected text`);
  }
  return ids;
}

function checkTools(tools: unknown, problems: string[]): void {
  if (!Array.isArray(tools) || tools.length === 0 || tools.length > 128) {
    problems.push("tools: expected 1 to 128 tools");
    return;
  }
  const names = new Set<string>();
  for (const [i, tool] of tools.entries()) {
    const path = `tools[${i}]`;
    const { type, function: called } = tool as { type: unknown; function?: Json };
    const name = String(called?.name);
    if (type !== "function") problems.push(`${path}.type: expected function`);
    if (!NAME.test(name)) problems.push(`${path}.function.name: not a legal name (${name})`);
    if (names.has(name)) problems.push(`${path}.function.name: used twice (${name})`);
    names.add(name);
    const unknown = Object.keys(called ?? {}).filter((key) => !/^(name|description|parameters|strict)$/.test(key));
    if (unknown.length > 0) problems.push(`${path}.function: unknown keys ${unknown.join(", ")}`);
    const parameters = called?.parameters;
    if (parameters !== undefined && (!isObject(parameters) || parameters.type !== "object")) {
      problems.push(`${path}.function.parameters: expected a schema of type object`);
    } else if (parameters !== undefined) checkSchema(parameters, `${path}.function.parameters`, false, problems);
  }
}

function checkResponseFormat(format: unknown, problems: string[]): void {
  if (!isObject(format) || !["text", "json_object", "json_schema"].includes(String(format.type))) {
    problems.push("response_format.type: expected text, json_object or json_schema");
    return;
  }
  if (format.type !== "json_schema") return;
  const path = "response_format.json_schema";
  const described = format.json_schema;
  if (!isObject(described)) {
    problems.push(`${path}: expected an object`);
    return;
  }
  if (!NAME.test(String(described.name))) problems.push(`${path}.name: not a legal name`);
  const { schema } = described;
  if (!isObject(schema) || schema.type !== "object") problems.push(`${path}.schema: expected type object at the root`);
  else checkSchema(schema, `${path}.schema`, described.strict === true, problems);
}

export function checkSchema(schema: unknown, path: string, strict: boolean, problems: string[]): void {
  if (!isObject(schema)) {
    problems.push(`${path}: expected a schema`);
    return;
  }
  const types = [schema.type ?? []].flat();
  if (types.some((type) => !SCHEMA_TYPES.has(String(type)))) problems.push(`${path}.type: unknown type`);
  const properties = isObject(schema.properties) ? schema.properties : {};
  if (strict) {
    const required = new Set(Array.isArray(schema.required) ? schema.required : []);
    if (types.includes("object") && schema.additionalProperties !== false) {
      problems.push(`${path}.additionalProperties: has to be false in a strict schema`);
    }
    for (const name of Object.keys(properties)) {
      if (!required.has(name)) problems.push(`${path}.required: lacks ${name} in a strict schema`);
    }
    for (const keyword of ["default", "oneOf", "allOf", "not", "patternProperties", "minLength", "maxLength"]) {
      if (keyword in schema) problems.push(`${path}.${keyword}: not permitted in a strict schema`);
    }
  }
  for (const [name, child] of Object.entries(properties))
    checkSchema(child, `${path}.properties.${name}`, strict, problems);
  if (types.includes("array")) checkSchema(schema.items, `${path}.items`, strict, problems);
}

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
