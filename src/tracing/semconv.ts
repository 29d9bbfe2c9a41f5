/**
 * Every name telemetry uses, in one place.
 *
 * The GenAI names are those of the OpenTelemetry GenAI semantic conventions after they moved to their own repository
 * (https://github.com/open-telemetry/semantic-conventions-genai); all of them have the status "development", and the npm
 * package of conventions has only the older set. `troupe.*` is what no convention has a name for.
 */

/** The one instrumentation scope. It has no version: a span made again after an upgrade must not differ. */
export const SCOPE = { name: "troupe" } as const;

export const OPERATION = "gen_ai.operation.name";
export const PROVIDER = "gen_ai.provider.name";
export const REQUEST_MODEL = "gen_ai.request.model";
export const REQUEST_STREAM = "gen_ai.request.stream";
export const RESPONSE_MODEL = "gen_ai.response.model";
export const RESPONSE_ID = "gen_ai.response.id";
export const FINISH_REASONS = "gen_ai.response.finish_reasons";
export const TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";
export const INPUT_TOKENS = "gen_ai.usage.input_tokens";
export const OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
export const CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens";
export const REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens";
export const CONVERSATION_ID = "gen_ai.conversation.id";
export const AGENT_NAME = "gen_ai.agent.name";
export const WORKFLOW_NAME = "gen_ai.workflow.name";
export const TOOL_NAME = "gen_ai.tool.name";
export const TOOL_TYPE = "gen_ai.tool.type";
export const TOOL_DESCRIPTION = "gen_ai.tool.description";
export const TOOL_CALL_ID = "gen_ai.tool.call.id";
export const TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments";
export const TOOL_CALL_RESULT = "gen_ai.tool.call.result";
export const SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions";
export const INPUT_MESSAGES = "gen_ai.input.messages";
export const OUTPUT_MESSAGES = "gen_ai.output.messages";
export const SERVER_ADDRESS = "server.address";
export const SERVER_PORT = "server.port";
export const ERROR_TYPE = "error.type";
export const SERVICE_NAME = "service.name";
export const SERVICE_INSTANCE_ID = "service.instance.id";

export const RUN_ID = "troupe.run.id";
export const RUN_OUTCOME = "troupe.run.outcome";
export const RUN_HANDOFFS = "troupe.run.handoffs";
export const RUN_STEPS_SKIPPED = "troupe.run.steps_skipped";
export const RUN_MODEL_CALLS = "troupe.run.model_calls";
export const WORKFLOW_KIND = "troupe.workflow.kind";
export const WORKFLOW_VERSION = "troupe.workflow.version";
export const STEP_ID = "troupe.step.id";
export const STEP_KIND = "troupe.step.kind";
export const CHILD_RUN_ID = "troupe.child.run.id";
export const PARENT_RUN_ID = "troupe.parent.run.id";
export const APPROVAL_CHOICE = "troupe.approval.choice";
export const APPROVAL_BY = "troupe.approval.by";
export const SIGNAL_NAME = "troupe.signal.name";
export const TASK_ID = "troupe.task.id";
export const TASK_ATTEMPT = "troupe.task.attempt";
export const TASK_DELIVERY = "troupe.task.delivery";
export const TASK_TURN = "troupe.task.turn";
export const TASK_MODEL_CALLS = "troupe.task.model_calls";
export const WORKER = "troupe.worker";
export const USAGE_COST = "troupe.usage.cost";
export const HANDOFF_FROM = "troupe.handoff.from";
export const HANDOFF_TO = "troupe.handoff.to";
export const LINK_RELATION = "troupe.link.relation";
export const CONTENT_TRUNCATED = "troupe.content.truncated";

/** Values of `error.type` that no error code of Troupe stands for. */
export const WORKER_LOST = "worker_lost";
export const CANCELLED = "cancelled";
export const ABANDONED = "abandoned";
