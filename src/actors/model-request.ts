/** What an agent's model is asked, made from where its task stands. */
import type { Agent } from "./agent.ts";
import type { ModelRequest, ToolSpec } from "./model.ts";
import { modelsOf } from "./model-choices.ts";
import { toJsonSchema } from "./schemas.ts";
import type { TaskState } from "./task-state.ts";
import { transferTools } from "./transfer-tools.ts";

/** The parts that are the same in every call of an agent. */
type Fixed = { tools: readonly ToolSpec[]; rest: Pick<ModelRequest, "model" | "instructions" | "output" | "settings"> };

/** Turning schemas into JSON Schema costs more than all the rest of a call. */
const fixed = new WeakMap<Agent, Fixed>();

/** The request of the turn at work, to the agent's first model; `foreign` are the tools of MCP servers. */
export function modelRequest(state: TaskState, foreign: readonly ToolSpec[] = []): ModelRequest {
  const agent = state.agent();
  const { tools, rest } = fixedParts(agent);
  const { handoffs } = state.task;
  const more = handoffs.length === 0 ? foreign : [...foreign, ...transferTools(handoffs, state.refused)];
  return {
    ...rest,
    messages: [...state.opening, ...state.transcript],
    tools: more.length === 0 ? tools : [...tools, ...more],
  };
}

function fixedParts(agent: Agent): Fixed {
  let parts = fixed.get(agent);
  if (!parts) {
    const { instructions, output, name } = agent;
    const [{ model, settings }] = modelsOf(agent);
    parts = {
      tools: agent.tools.map((tool) => ({
        name: tool.name,
        description: tool.description,
        parameters: toJsonSchema(tool.parameters),
      })),
      rest: {
        model,
        instructions,
        ...(output && { output: { name, schema: toJsonSchema(output) } }),
        ...(Object.keys(settings).length > 0 && { settings }),
      },
    };
    fixed.set(agent, parts);
  }
  return parts;
}
