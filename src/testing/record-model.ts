/**
 * Writes down what a model is asked and what it answers, for `replayModel`.
 *
 * 1. The first call of a recording replaces what was in the file, unless it is to be added to.
 * 2. Calls stand in the order in which they were made, whenever their answers came.
 * 3. An answer is in the file before it is given, so a process that dies has not lost any.
 * 4. A call that was stopped from outside says nothing about the model and is left out.
 */
import { existsSync } from "node:fs";
import type { Model, ModelReply } from "../actors/model.ts";
import { ModelError, toErrorRecord } from "../errors.ts";
import {
  type CassetteCall,
  type CassetteError,
  type CassetteOptions,
  plainWith,
  readCassette,
  writeCassette,
} from "./cassette.ts";

export type RecordOptions = CassetteOptions & {
  /** Whether calls are added to those in the file, as where a daemon is killed while it records. @default false */
  add?: boolean;
};

/**
 * The same model, with every call recorded in `file`: JSON where its name ends in `.json`, else YAML. Secrets are left out.
 *
 * ```ts
 * const file = "test/tea.cassette.yaml";
 * const model = process.env.RECORD ? recordModel(openaiModel(), file) : replayModel(file);
 * ```
 */
export function recordModel(model: Model, file: string, options: RecordOptions = {}): Model {
  const { provider } = model;
  const plain = plainWith(options);
  // 1
  const calls: (CassetteCall | undefined)[] = options.add && existsSync(file) ? readCassette(file).calls : [];
  return {
    provider,
    ...(model.server && { server: model.server }),
    async call(request, context) {
      const asked = plain({ agent: context.agent, request });
      // 2
      const place = calls.push(undefined) - 1;
      const note = (answer: { reply: ModelReply } | { error: CassetteError }) => {
        calls[place] = { ...asked, ...plain(answer) };
        const made = calls.filter((call) => call !== undefined);
        writeCassette(file, { cassette: 1, provider, calls: made });
      };
      let reply: ModelReply;
      try {
        reply = await model.call(request, context);
      } catch (error) {
        // 4
        if (!context.signal.aborted) note({ error: errorOf(error) });
        throw error;
      }
      // 3
      note({ reply });
      return reply;
    },
  };
}

function errorOf(error: unknown): CassetteError {
  const retryAfterMs = error instanceof ModelError ? error.retryAfterMs : undefined;
  return { ...toErrorRecord(error, "model_failed"), ...(retryAfterMs !== undefined && { retryAfterMs }) };
}
