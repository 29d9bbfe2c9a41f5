/** `troupe workflows graph` and `troupe runs graph`: a workflow as a picture, of a run with how far it is. */
import { type Command, Option } from "commander";
import { type NodeStanding, standingsIn } from "../workflows/graph-status.ts";
import { graphOf, type WorkflowGraph } from "../workflows/workflow-graph.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { renderMermaid } from "./graph-mermaid.ts";
import { renderTree } from "./graph-tree.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";

type GraphGiven = Given & { json?: boolean; format?: "tree" | "mermaid"; workflowVersion?: string };

const FORMAT = "A tree, or the text of a Mermaid flowchart. (default: tree on a terminal, else mermaid)";

/** Adds `graph` to `troupe workflows`. */
export function addWorkflowGraphCommand(workflows: Command): void {
  const graph = workflows
    .command("graph")
    .description("Draw a workflow.")
    .argument("<name>")
    .addOption(new Option("--format <format>", FORMAT).choices(["tree", "mermaid"]))
    .option("--workflow-version <version>", "A label, a hash, or a number as in #3. (default: the current one)");
  does(asksDaemon(graph, "Print nodes and edges as JSON."), drawWorkflow);
}

/** Adds `graph` to `troupe runs`. */
export function addRunGraphCommand(runs: Command): void {
  const graph = runs
    .command("graph")
    .description("Draw a run's workflow and how far the run is.")
    .argument("<run-id>")
    .addOption(new Option("--format <format>", FORMAT).choices(["tree", "mermaid"]));
  does(asksDaemon(graph, "Print nodes and edges as JSON."), drawRun);
}

async function drawWorkflow(given: GraphGiven, name: string): Promise<void> {
  const { file, version } = await withClient(given, (client) => client.workflowSource(name, given.workflowVersion));
  const graph = graphOf(file.workflows[name] ?? {}, file.agents);
  show(given, `${name} (version ${version})`, graph);
}

async function drawRun(given: GraphGiven, runId: string): Promise<void> {
  const { run, file } = await withClient(given, async (client) => {
    const found = await client.get(runId);
    return { run: found, file: (await client.workflowSource(found.workflow, found.hash)).file };
  });
  const graph = graphOf(file.workflows[run.workflow] ?? {}, file.agents);
  show(given, `${run.workflow} · run ${runId} · ${run.status}`, graph, standingsIn(run, graph));
}

function show(
  { json, format = process.stdout.isTTY ? "tree" : "mermaid" }: GraphGiven,
  title: string,
  graph: WorkflowGraph,
  standings?: ReadonlyMap<string, NodeStanding>,
): void {
  if (json) printJson({ ...graph, ...(standings && { standings: Object.fromEntries(standings) }) });
  else print(format === "tree" ? renderTree(title, graph, standings) : renderMermaid(graph, standings));
}
