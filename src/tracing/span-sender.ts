/** What the span queue ships its batches with. */
import { context, ROOT_CONTEXT } from "@opentelemetry/api";
import { ExportResultCode, suppressTracing } from "@opentelemetry/core";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";

/** How one attempt to send a batch ended; it is the whole policy of what happens to the batch. */
export type SendResult =
  /** The collector has it; it may have thrown some spans away, which sending again would not change. */
  | { type: "accepted"; rejected: number; message?: string }
  /** The collector will never take this batch. */
  | { type: "refused"; reason: string }
  /** Nobody there, or not now: try again. */
  | { type: "unavailable"; reason: string; retryAfterMs?: number };

export type SpanSender = {
  /** Where spans go, for people to read. */
  readonly destination: string;
  /** One attempt; never rejects. */
  send(spans: readonly ReadableSpan[]): Promise<SendResult>;
  /** Gives up attempts in flight and lets go of everything that could keep the process alive. */
  close(): void;
};

/** The context exports run in: telemetry must not trace itself. */
const UNTRACED = suppressTracing(ROOT_CONTEXT);

/** Runs `work` outside of every trace. */
export function untraced<T>(work: () => T): T {
  return context.with(UNTRACED, work);
}

/** A sender over one of OpenTelemetry's own exporters, which is loaded when the first batch goes out. */
export function exporterSender(destination: string, load: () => Promise<SpanExporter>): SpanSender {
  let exporter: Promise<SpanExporter> | undefined;
  return {
    destination,
    async send(spans) {
      try {
        exporter ??= load();
        return await exportOnce(await exporter, spans);
      } catch (error) {
        return { type: "unavailable", reason: error instanceof Error ? error.message : String(error) };
      }
    },
    close() {
      // What it still holds is lost either way; its failure interests nobody any more.
      exporter?.then((open) => open.shutdown()).catch(() => {});
    },
  };
}

function exportOnce(exporter: SpanExporter, spans: readonly ReadableSpan[]): Promise<SendResult> {
  return new Promise((resolve) => {
    exporter.export([...spans], ({ code, error }) => {
      if (code === ExportResultCode.SUCCESS) resolve({ type: "accepted", rejected: 0 });
      else resolve({ type: "unavailable", reason: error?.message ?? "the exporter gave no reason" });
    });
  });
}
