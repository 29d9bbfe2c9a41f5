/**
 * The spans of work in progress: `chat` and `execute_tool`. Nobody else's parent, so they need not outlive their process.
 *
 * A chat is written down when it is over. A tool is a live span of the SDK, because the code inside may ask for the active
 * span and hang its own below it.
 */
import {
  type Attributes,
  type Context,
  context,
  createContextKey,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import { RandomIdGenerator, type ReadableSpan, type SpanProcessor } from "@opentelemetry/sdk-trace";
import { setContent, toParts, toReplyParts } from "./content.ts";
import { FinishedSpan, toHrTime } from "./finished-span.ts";
import type { HeldLeaves } from "./held-leaves.ts";
import * as name from "./semconv.ts";
import { setUsage } from "./set-usage.ts";
import type { ChatStart, Leaf, LeafResult, SegmentContext, ToolStart } from "./tracing.ts";

/** The id of the segment a span hangs in, however deep. */
const SEGMENT = createContextKey("troupe segment");
const ids = new RandomIdGenerator();

export type LeafOptions = {
  held: HeldLeaves;
  /** Says which process and host it was. */
  resource: Resource;
  captureContent: boolean;
};

/** Starts `chat <model>`. */
export function startChat(
  parent: SegmentContext,
  start: ChatStart,
  { held, resource, captureContent }: LeafOptions,
): Leaf {
  if (!parent.sampled) return passive(segmentContext(parent));
  const spanId = ids.generateSpanId();
  const startMs = Date.now();
  const startTick = performance.now();
  return {
    within: (work) => context.with(segmentContext(parent, spanId), work),
    end(result) {
      held.ended(
        new FinishedSpan({
          name: `chat ${start.model}`,
          kind: SpanKind.CLIENT,
          traceId: parent.traceId,
          spanId,
          parentSpanId: parent.spanId,
          remoteParent: true,
          start: toHrTime(startMs),
          end: toHrTime(startMs + performance.now() - startTick),
          attributes: chatAttributes(start, result, captureContent),
          ...(result.error ? { error: result.error.message } : {}),
          resource,
        }),
        parent.spanId,
      );
    },
  };
}

/** Starts `execute_tool <tool>`. */
export function startTool(tracer: Tracer, parent: SegmentContext, start: ToolStart, captureContent: boolean): Leaf {
  const under = segmentContext(parent);
  if (!parent.sampled) return passive(under);
  const attributes: Attributes = {
    [name.OPERATION]: "execute_tool",
    [name.TOOL_NAME]: start.tool,
    [name.TOOL_CALL_ID]: start.callId,
    [name.TOOL_TYPE]: "function",
    [name.AGENT_NAME]: start.agent,
    [name.RUN_ID]: start.runId,
    [name.TASK_ID]: start.taskId,
  };
  if (start.description !== undefined) attributes[name.TOOL_DESCRIPTION] = start.description;
  if (captureContent && start.arguments !== undefined) {
    setContent(attributes, name.TOOL_CALL_ARGUMENTS, start.arguments);
  }
  const span = tracer.startSpan(`execute_tool ${start.tool}`, { kind: SpanKind.INTERNAL, attributes }, under);
  return {
    within: (work) => context.with(trace.setSpan(under, span), work),
    end(result) {
      endTool(span, result, captureContent);
    },
  };
}

/** Passes spans of the SDK on to `held` with the segment they were started in. */
export function leafProcessor(held: HeldLeaves): SpanProcessor {
  const segments = new WeakMap<object, string>();
  return {
    onStart(span, parentContext) {
      const segment = parentContext.getValue(SEGMENT);
      if (typeof segment === "string") segments.set(span, segment);
    },
    onEnd(span: ReadableSpan) {
      if (span.spanContext().traceFlags & TraceFlags.SAMPLED) held.ended(span, segments.get(span));
    },
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  };
}

/** A leaf nobody records; what is made inside it still belongs to the run's trace, and so is not recorded either. */
function passive(under: Context): Leaf {
  return { within: (work) => context.with(under, work), end() {} };
}

function segmentContext({ traceId, spanId, sampled }: SegmentContext, activeSpanId = spanId): Context {
  const traceFlags = sampled ? TraceFlags.SAMPLED : TraceFlags.NONE;
  const parent = { traceId, spanId: activeSpanId, traceFlags, isRemote: true };
  return trace.setSpanContext(ROOT_CONTEXT, parent).setValue(SEGMENT, spanId);
}

function chatAttributes(start: ChatStart, result: LeafResult, captureContent: boolean): Attributes {
  const attributes: Attributes = {
    [name.OPERATION]: "chat",
    [name.PROVIDER]: start.provider,
    [name.REQUEST_MODEL]: start.model,
    [name.AGENT_NAME]: start.agent,
    [name.RUN_ID]: start.runId,
    [name.TASK_ID]: start.taskId,
    [name.TASK_TURN]: start.turn,
  };
  const { usage, responseModel, responseId, finishReason, firstChunkMs, error } = result;
  if (start.serverAddress !== undefined) attributes[name.SERVER_ADDRESS] = start.serverAddress;
  if (start.serverPort !== undefined) attributes[name.SERVER_PORT] = start.serverPort;
  if (responseModel !== undefined) attributes[name.RESPONSE_MODEL] = responseModel;
  if (responseId !== undefined) attributes[name.RESPONSE_ID] = responseId;
  if (finishReason !== undefined) attributes[name.FINISH_REASONS] = [finishReason];
  if (usage) setUsage(attributes, usage);
  if (firstChunkMs !== undefined) {
    attributes[name.REQUEST_STREAM] = true;
    attributes[name.TIME_TO_FIRST_CHUNK] = firstChunkMs / 1_000;
  }
  if (error) attributes[name.ERROR_TYPE] = error.code;
  if (captureContent) addChatContent(attributes, start, result);
  return attributes;
}

function addChatContent(attributes: Attributes, { instructions, messages }: ChatStart, { content }: LeafResult): void {
  if (instructions !== undefined) {
    setContent(attributes, name.SYSTEM_INSTRUCTIONS, [{ type: "text", content: instructions }]);
  }
  if (messages) setContent(attributes, name.INPUT_MESSAGES, toParts(messages));
  if (content !== undefined) setContent(attributes, name.OUTPUT_MESSAGES, toReplyParts(content));
}

function endTool(span: Span, { error, content }: LeafResult, captureContent: boolean): void {
  if (error) {
    span.setAttribute(name.ERROR_TYPE, error.code);
    span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
  }
  if (captureContent && content !== undefined) {
    const attributes: Attributes = {};
    setContent(attributes, name.TOOL_CALL_RESULT, content);
    span.setAttributes(attributes);
  }
  span.end();
}
