/** `troupe`: define agents and workflows, serve them, and run them from any process. */

// Define
export type { Agent, HandoffContextInput, HandoffEdge } from "./actors/agent.ts";
export type { Message, ToolCall } from "./actors/conversation.ts";
export type { AgentOptions } from "./actors/define-agent.ts";
export { defineAgent } from "./actors/define-agent.ts";
export type { ToolOptions } from "./actors/define-tool.ts";
export { defineTool } from "./actors/define-tool.ts";
export type { HandoffOptions } from "./actors/handoff.ts";
export { handoff } from "./actors/handoff.ts";
export type {
  JsonSchema,
  Model,
  ModelCallContext,
  ModelName,
  ModelReply,
  ModelRequest,
  ModelSettings,
  ToolSpec,
  Usage,
} from "./actors/model.ts";
export type { ModelOptions, ModelsOption } from "./actors/model-choices.ts";
export type {
  FoundOut,
  Tool,
  ToolContext,
  ToolEffect,
  ToolLogger,
  ToolProgress,
  ToolRetry,
} from "./actors/tool.ts";
// Errors
export type { ErrorRecord, Problem } from "./errors.ts";
export {
  DefinitionError,
  FencedError,
  ModelError,
  NotFoundError,
  PayloadTooLargeError,
  PermissionError,
  RunFailedError,
  ToolError,
  TroupeError,
  UnavailableError,
  UsageError,
} from "./errors.ts";
// Serve
export type { CreateWorkflowOptions } from "./runtime/config/create-workflow.ts";
export { createWorkflow } from "./runtime/config/create-workflow.ts";
export type { TroupeConfig } from "./runtime/config/define-config.ts";
export { defineConfig } from "./runtime/config/define-config.ts";
export type { DefinitionFormat } from "./runtime/config/definition-text.ts";
export { toDefinitionFile } from "./runtime/config/definition-text.ts";
export type {
  CreatedWorkflow,
  FactoryResult,
  RegisteredWorkflow,
  WorkflowFactory,
  WorkflowMeta,
} from "./runtime/config/workflow-registry.ts";
export { registeredWorkflows, registerWorkflow } from "./runtime/config/workflow-registry.ts";
export type { AgentListing } from "./runtime/edges/api.ts";
// Run
export type {
  Client,
  ConnectOptions,
  DecideOptions,
  EventsOptions,
  FeedOptions,
  LogsOptions,
  ResultOptions,
  StartOptions,
} from "./runtime/edges/client.ts";
export { connect } from "./runtime/edges/client.ts";
export type { Daemon } from "./runtime/edges/daemon.ts";
export type { DeadLetterPage, DeadLetterSummary } from "./runtime/edges/dead-api.ts";
export type { DeadLetterRecord } from "./runtime/edges/dead-letter-record.ts";
export type { OpenApproval } from "./runtime/edges/open-approvals.ts";
export type { LiveEvent } from "./runtime/edges/run-feed.ts";
export type { ScheduleListing } from "./runtime/edges/schedule-api.ts";
export type { ServeOptions } from "./runtime/edges/serve.ts";
export { serve } from "./runtime/edges/serve.ts";
export type { WorkflowListing, WorkflowPut, WorkflowSource, WorkflowVersion } from "./runtime/edges/workflow-api.ts";
export type { DefinitionsToPut, PutOptions } from "./runtime/edges/workflow-calls.ts";
export type { RunListQuery, RunPage, RunSummary } from "./runtime/hosts/run-list.ts";
export type { LogLine } from "./runtime/hosts/run-logs.ts";
export type { McpHttpOptions, McpProcessOptions, McpServerOptions, McpToolSettings } from "./runtime/mcp/mcp-config.ts";
export type { OpenAIModelOptions } from "./runtime/models/openai.ts";
export { openaiModel } from "./runtime/models/openai.ts";
export type { Price, Prices } from "./runtime/models/prices.ts";
export type { EndpointConfig, ModelConfig, ModuleConfig, ProviderConfig } from "./runtime/models/provider-config.ts";
export { openaiProvider } from "./runtime/models/provider-config.ts";
export type {
  ApprovalOptions,
  DeterministicWorkflowOptions,
  HandoffWorkflowOptions,
  StepOptions,
  WaitOptions,
  WorkflowOptions,
} from "./workflows/define-workflow.ts";
export { defineWorkflow } from "./workflows/define-workflow.ts";
export type { WorkflowDefinition } from "./workflows/definition.ts";
export type { DefinitionFile } from "./workflows/export-definition.ts";
export { exportDefinition } from "./workflows/export-definition.ts";
export type { RunFailure, TaskFailure, WorkflowHooks } from "./workflows/hooks.ts";
export type { CompensationRecord } from "./workflows/record-compensations.ts";
export type { RunEvent, RunEventType } from "./workflows/run-events.ts";
export type { RunMetrics, StepMetrics } from "./workflows/run-metrics.ts";
export type { RunRecord, StepRecord } from "./workflows/run-record.ts";
export type { RunStatus } from "./workflows/run-status.ts";
export type { ScheduleOptions } from "./workflows/schedule.ts";
