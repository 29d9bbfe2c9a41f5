/** `troupe agents` and `troupe workflows`: what the living daemons offer. */
import type { Command } from "commander";
import type { StepDefinition, WorkflowDefinition } from "../workflows/definition.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { addWorkflowGraphCommand } from "./graph-commands.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { bold, dim, yellow } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";
import { cut } from "./terminal-text.ts";
import { inline } from "./words.ts";
import { addWorkflowCommands } from "./workflow-commands.ts";

type Asked = Given & { json?: boolean };

/** Adds the commands to the program. */
export function addCatalogCommands(program: Command): void {
  does(asksDaemon(program.command("agents").description("List the agents and who hosts them.")), listAgents);
  const workflows = program
    .command("workflows")
    .enablePositionalOptions()
    .description("List, show, draw and store workflows.")
    .argument("[name]", "the one to show; a command goes before a workflow of its name");
  does(asksDaemon(workflows), showWorkflows);
  does(asksDaemon(workflows.command("list").description("List the workflows.")), (given: Asked) =>
    showWorkflows(given, undefined),
  );
  const get = workflows
    .command("get")
    .description("Show a workflow.")
    .argument("<name>")
    .option("--workflow-version <version>", "A label, a hash, or a number as in #3. (default: the current one)");
  does(asksDaemon(get), showWorkflows);
  addWorkflowCommands(workflows);
  addWorkflowGraphCommand(workflows);
}

async function listAgents(given: Asked): Promise<void> {
  const agents = await withClient(given, (client) => client.agents());
  if (given.json) return printJson(agents);
  if (agents.length === 0) return print("No agents.");
  const rows = agents.map(({ name, model, hosts, tools, mcp = [], handoffs, remote, description, tripped }) => [
    bold(name),
    model ?? "",
    hosts.length > 0
      ? hosts.map((host) => (tripped?.includes(host) ? `${host} ${yellow("(tripped)")}` : host)).join(", ")
      : remote
        ? dim("a worker of its own")
        : yellow("nobody"),
    [...(tools ?? []), ...mcp.map((reference) => `${reference} (MCP)`)].join(", "),
    handoffs?.join(", ") ?? "",
    cut(inline(description ?? ""), 60),
  ]);
  print(renderTable(["AGENT", "MODEL", "HOSTED BY", "TOOLS", "HANDS OVER TO", "WHAT IT DOES"], rows));
}

async function showWorkflows(given: Asked & { workflowVersion?: string }, name: string | undefined): Promise<void> {
  if (name !== undefined) {
    const workflow = await withClient(given, (client) => client.workflow(name, given.workflowVersion));
    return given.json ? printJson(workflow) : print(describeWorkflow(workflow));
  }
  const workflows = await withClient(given, (client) => client.workflows());
  if (given.json) return printJson(workflows);
  if (workflows.length === 0) return print("No workflows.");
  const rows = workflows.map(({ name, kind, version, number, agents, description }) => [
    bold(name),
    kind,
    `${version}${number === undefined ? "" : dim(` #${number}`)}`,
    agents.join(", "),
    cut(inline(description ?? ""), 60),
  ]);
  print(renderTable(["WORKFLOW", "KIND", "VERSION", "AGENTS", "WHAT IT DOES"], rows));
}

function describeWorkflow(workflow: WorkflowDefinition): string {
  const { name, kind, version, hash, description, timeoutMs } = workflow;
  const facts = renderFacts([
    ["workflow", bold(name)],
    ["what it does", description],
    ["kind", kind],
    ["version", `${version} (${hash})`],
    ["timeout", timeoutMs === undefined ? undefined : `${timeoutMs} ms`],
    ["input", workflow.input && JSON.stringify(workflow.input)],
    ...(workflow.kind === "handoff"
      ? ([
          ["entry", workflow.entry],
          ["handoffs", `at most ${workflow.maxHandoffs}, ${workflow.maxVisits} visits of one agent`],
        ] as const)
      : []),
  ]);
  return `${facts}\n\n${describeParts(workflow)}`;
}

function describeParts(workflow: WorkflowDefinition): string {
  if (workflow.kind === "handoff") {
    const rows = Object.entries(workflow.agents).map(([agent, options]) => [
      agent,
      options.map(({ to }) => to).join(", "),
    ]);
    return renderTable(["AGENT", "HANDS OVER TO"], rows);
  }
  const rows = workflow.steps.flatMap((step) => rowsOf(step, 0));
  return renderTable(["STEP", "DOES", "AFTER", "WHEN", "ON ERROR", "RETRY", "TIMEOUT"], rows);
}

/** A step, and below it those it holds. */
function rowsOf(step: StepDefinition, depth: number): string[][] {
  const { id, after, needs, when, onError, retry, timeoutMs } = step;
  const own = [
    `${"  ".repeat(depth)}${id}`,
    [...doneBy(step), ...timesOf(step)].join(" "),
    `${after.join(", ")}${needs === undefined ? "" : ` (${needs})`}`,
    when === undefined ? "" : cut(inline(when), 60),
    onError ?? "",
    retry.maxAttempts > 1 ? `${retry.maxAttempts} attempts` : "",
    timeoutMs === undefined ? "" : `${timeoutMs} ms`,
  ];
  return [own, ...(step.kind === "group" ? step.steps.flatMap((inner) => rowsOf(inner, depth + 1)) : [])];
}

/** What a step does, in a few words; a group is the steps below it. */
function doneBy(step: StepDefinition): string[] {
  switch (step.kind) {
    case "agent":
      return [step.agent];
    case "tool":
      return [`tool ${step.tool}`];
    case "workflow":
      return [`workflow ${step.workflow}`];
    case "approval":
      return [cut(`approval: ${inline(step.approval.title)}`, 40)];
    case "wait": {
      const { forMs, until, signal } = step.wait;
      return [
        forMs !== undefined ? `wait ${forMs} ms` : until !== undefined ? `wait until ${until}` : `signal ${signal}`,
      ];
    }
    case "group":
      return [];
  }
}

function timesOf({ forEach, repeat }: StepDefinition): string[] {
  return [
    ...(forEach === undefined ? [] : [dim(`for each of ${cut(inline(forEach), 40)}`)]),
    ...(repeat ? [dim(`until ${cut(inline(repeat.until), 40)}, at most ${repeat.max} times`)] : []),
  ];
}
