/** The section `mcpServers`: which servers there are, how they are reached, and what their tools may do. */
import { resolve } from "node:path";
import { z } from "zod";
import { durationSchema } from "../../actors/durations.ts";
import { problemOfServerName } from "../../actors/mcp-reference.ts";
import { nameSchema } from "../../actors/names.ts";
import { joinPath, type Place, problemAt, problemsOf, showValue } from "../../actors/schema-problems.ts";
import { strict } from "../../actors/strict.ts";
import type { ExecutableTool, ToolRetry } from "../../actors/tool.ts";
import { executionShape, ONLY_ONCE } from "../../actors/tool-schema.ts";
import type { Problem } from "../../errors.ts";

/** What tools of a server are given in addition to what it says of them. */
export type McpToolSettings = Pick<ExecutableTool, "timeoutMs" | "maxResultBytes" | "effect" | "onUnknown"> & {
  readonly retry?: Partial<ToolRetry>;
};

type Common = {
  /** The tools to take, by the names the server gives them; `*` stands for any letters. @default all */
  allow?: readonly string[];
  /** Those of them to leave out. @default none */
  deny?: readonly string[];
  /** How long one call may take, in milliseconds. @default the agent's `toolTimeoutMs` */
  timeoutMs?: number;
  /** How long the server may take to start, in milliseconds, and a task waits for it. @default 30000 */
  startTimeoutMs?: number;
  /** Settings by name or pattern; the first that fits a tool counts. */
  tools?: { readonly [pattern: string]: McpToolSettings };
};

/** A server that the daemon runs as a process and talks to over its stdin and stdout. */
export type McpProcessOptions = Common & {
  command: string;
  args?: readonly string[];
  /** Its variables, beside HOME, LOGNAME, PATH, SHELL, TERM and USER. */
  env?: { readonly [variable: string]: string };
  /** More variables that it gets from the daemon's own. */
  inheritEnv?: readonly string[];
  /** Where it starts. @default where relative paths of the configuration start */
  cwd?: string;
};

/** A server that is reached over streamable HTTP. */
export type McpHttpOptions = Common & {
  url: string;
  headers?: { readonly [header: string]: string };
  /** Headers whose values are in variables. */
  headersEnv?: { readonly [header: string]: string };
};

export type McpServerOptions = McpProcessOptions | McpHttpOptions;

/** A server with every default resolved. */
export type McpServerConfig = {
  readonly name: string;
  readonly reach:
    | { readonly by: "process"; command: string; args: string[]; env: Words; inheritEnv: string[]; cwd: string }
    | { readonly by: "http"; url: URL; headers: Words; headersEnv: Words };
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly timeoutMs?: number;
  readonly startTimeoutMs: number;
  /** In the order in which they are looked through. */
  readonly tools: readonly (readonly [
    pattern: string,
    settings: Omit<McpToolSettings, "retry"> & { retry?: ToolRetry },
  ])[];
};

type Words = { readonly [name: string]: string };

const words = z.record(z.string(), z.string());
const patterns = z.array(z.string().min(1));

const common = {
  allow: patterns.default(["*"]),
  deny: patterns.default([]),
  timeoutMs: durationSchema.optional(),
  startTimeoutMs: durationSchema.default(30_000),
  tools: z
    .record(
      z.string(),
      // Whether it is executed once may be what the server says of it.
      strict(executionShape).refine(
        ({ effect, onUnknown }) => onUnknown === undefined || (effect ?? "once") === "once",
        ONLY_ONCE,
      ),
    )
    .default({}),
};

export const processSchema = strict({
  command: z.string().min(1),
  args: z.array(z.string()).default([]),
  env: words.default({}),
  inheritEnv: z.array(z.string()).default([]),
  cwd: z.string().optional(),
  ...common,
});

export const httpSchema = strict({
  url: z.url({ protocol: /^https?$/, error: "expected an http(s) URL" }),
  headers: words.default({}),
  headersEnv: words.default({}),
  ...common,
});

/** Reads the section; relative paths start at `dir`, and what is wrong goes into `problems`. */
export function readMcpServers(
  section: { readonly [name: string]: unknown },
  { file, dir, problems }: { file: string; dir: string; problems: Problem[] },
): Map<string, McpServerConfig> {
  const servers = new Map<string, McpServerConfig>();
  const names = Object.keys(section);
  for (const name of names) {
    const place = { file, path: joinPath("mcpServers", [name]) };
    const wrong = problemOfName(name, names, place);
    if (wrong) problems.push(wrong);
    else {
      const server = readServer(name, section[name], dir, place);
      if ("problems" in server) problems.push(...server.problems);
      else servers.set(name, server);
    }
  }
  return servers;
}

function problemOfName(name: string, names: readonly string[], place: Place): Problem | undefined {
  const named = nameSchema.safeParse(name);
  if (!named.success) return problemsOf(named.error.issues, name, place)[0];
  const expected = problemOfServerName(name, names);
  return expected === undefined ? undefined : problemAt(place, expected, showValue(name));
}

function readServer(name: string, raw: unknown, dir: string, place: Place): McpServerConfig | { problems: Problem[] } {
  const keys = typeof raw === "object" && raw !== null ? Object.keys(raw) : [];
  const [isProcess, isHttp] = [keys.includes("command"), keys.includes("url")];
  if (isProcess === isHttp) {
    const got = isProcess ? "both" : keys.join(", ") || showValue(raw);
    return { problems: [problemAt(place, "either `command`, for a process, or `url`, for HTTP", got)] };
  }
  if (isProcess) {
    const parsed = processSchema.safeParse(raw);
    if (!parsed.success) return { problems: problemsIn(parsed.error, raw, place) };
    const { command, args, env, inheritEnv, cwd = "." } = parsed.data;
    return resolved(name, parsed.data, { by: "process", command, args, env, inheritEnv, cwd: resolve(dir, cwd) });
  }
  const parsed = httpSchema.safeParse(raw);
  if (!parsed.success) return { problems: problemsIn(parsed.error, raw, place) };
  const { url, headers, headersEnv } = parsed.data;
  return resolved(name, parsed.data, { by: "http", url: new URL(url), headers, headersEnv });
}

/** Headers and variables may hold secrets, and so are nothing to show. */
function problemsIn(error: z.ZodError, raw: unknown, place: Place): Problem[] {
  return problemsOf(error.issues, raw, place).map((problem) => {
    const isSecret = problem.got.startsWith("{") || /\.(headers|env)\b/.test(problem.path);
    return isSecret ? { ...problem, got: "something else" } : problem;
  });
}

type Draft = Pick<z.output<typeof processSchema>, keyof typeof common>;

function resolved(name: string, draft: Draft, reach: McpServerConfig["reach"]): McpServerConfig {
  const { allow, deny, timeoutMs, startTimeoutMs, tools } = draft;
  const settings = Object.entries(tools).map(([pattern, given]) => {
    const present = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    return [pattern, present as McpServerConfig["tools"][number][1]] as const;
  });
  return {
    name,
    reach,
    allow,
    deny,
    startTimeoutMs,
    tools: settings,
    ...(timeoutMs !== undefined && { timeoutMs }),
  };
}
