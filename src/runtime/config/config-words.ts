/** What editors say about the keys of a file. `docs/configuration.md` says more. */

type Words = { readonly [key: string]: string };

export const SECTION_WORDS: Words = {
  agents: "Who works here, by name.",
  tools: "Functions the agents may call, by name.",
  mcpServers: "MCP servers whose tools the agents may have, by name.",
  providers: "Where models are, by name.",
  prices: "What a million tokens of a model cost, by its name.",
  workflows: "How agents share a run, by name.",
  schedules: "When runs of workflows start by themselves, by name.",
  daemon: "Options of the daemon.",
};

export const AGENT_WORDS: Words = {
  instructions: "The system message.",
  model: "The model's name as its provider knows it, or several in the order in which they are asked.",
  description: "What the agent is for; told to models that may hand over to it.",
  provider: "A name from `providers`; `openai` is always there.",
  baseURL: "An OpenAI-compatible endpoint for this agent alone.",
  apiKey: "The key for `baseURL`.",
  settings: "`temperature`, `maxTokens`, `reasoningEffort` and the like, passed to the provider.",
  tools: "Names from `tools`.",
  mcp: "Tools of `mcpServers`: `files`, `files.read`, `files.read_*`.",
  maxParallelTools: "Tools of one task that are executed at once.",
  handoffs: "Agents it may hand over to.",
  output: "The JSON Schema its answer must fit.",
  maxTurns: "Model turns one task may take.",
  timeoutMs: "How long one task may take, in milliseconds.",
  toolTimeoutMs: "How long one execution of a tool may take, in milliseconds.",
  maxModelAttempts: "Tries of one model call while the provider's errors are worth another.",
  concurrency: "Tasks at work at once on one daemon.",
  maxWaiting: "Tasks one daemon lets wait beyond those before it answers `busy`.",
  remote: "Served by a worker in another program or language.",
};

export const WORKFLOW_WORDS: Words = {
  kind: "May be left out where the shape tells it.",
  version: "A label; each change is a version, whatever this says.",
  description: "What it is for.",
  input: "The JSON Schema a request's input must fit.",
  timeoutMs: "How long a run may take, in milliseconds.",
  agents: "The agents, one after the other; in a handoff workflow those that may have the run.",
  steps: "The steps; those without `after` start at once.",
  entry: "The agent that has the run first.",
  maxHandoffs: "Handoffs in one run.",
  maxVisits: "How often one agent may have the run.",
  schedule: "When it starts by itself.",
  concurrency: "Tasks of a run that are open at once.",
  output: "The JSON Schema the run's output must fit.",
  defaults: "`retry` and `timeoutMs` of steps that do not say otherwise.",
  onFailure: "Steps that run when a run fails.",
};

export const STEP_WORDS: Words = {
  id: "What the step is called.",
  agent: "The agent that is asked.",
  tool: "The tool that is run, without a model.",
  approval: "What a person is to decide.",
  wait: "What is waited for: a duration, an instant or a signal.",
  workflow: "The workflow of which a run is started and waited for.",
  after: "The steps that must have ended before.",
  when: "A condition in CEL; where it is false the step is skipped.",
  needs: "What the steps in `after` must have come to.",
  onError: "What a failure for good leads to: `fail`, `continue`, or the id of a step.",
  switch: "Which step comes next, by the value of an expression.",
  input: "A template; expressions in CEL stand in {{ }}.",
  output: "The JSON Schema the output must fit.",
  retry: "How failed attempts are repeated.",
  compensate: "What undoes the step when the run fails later.",
  timeoutMs: "How long one attempt may take, in milliseconds.",
  steps: "A group: a graph of steps of its own.",
  forEach: "A list in CEL: the step is done once for each item.",
  concurrency: "Items of `forEach` that are at work at once.",
  repeat: "The step is done again until a condition in CEL holds, at most `max` times.",
};

export const SCHEDULE_WORDS: Words = {
  workflow: "What it starts.",
  cron: "Five fields, or six with seconds first.",
  timezone: "An IANA name, beside `cron` only.",
  at: "Once, at an ISO 8601 instant with `Z` or an offset.",
  everyMs: "At every multiple of so many milliseconds since 1970 UTC, at least 1000.",
  input: "The input of its runs.",
  missed: "What becomes of instants for which no daemon was there.",
  overlap: "Whether a run starts while the schedule's last one goes on.",
  paused: "Whether it does not fire.",
};
