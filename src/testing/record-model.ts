/**
 * Writes down what a model is asked and what it answers, for `replayModel`.
 *
 * 1. A file is of one recording: the first call of a model replaces what was there.
 * 2. Calls stand in the order in which they were made, whenever their answers came.
 * 3. An answer is in the file before it is given, so a process that dies has not lost any.
 * 4. A call that was stopped from outside says nothing about the model and is left out.
 */
import type { Model, ModelReply } from "../actors/model.ts";
import { type ErrorRecord, toErrorRecord } from "../errors.ts";
import { type CassetteCall, type CassetteOptions, plainWith, writeCassette } from "./cassette.ts";

/**
 * The same model, with every call recorded in `file`: JSON where its name ends in `.json`, else YAML. Secrets are left out.
 *
 * ```ts
 * const file = "test/tea.cassette.yaml";
 * const model = process.env.RECORD ? recordModel(openaiModel(), file) : replayModel(file);
 * ```
 */
export function recordModel(model: Model, file: string, options: CassetteOptions = {}): Model {
  const { provider } = model;
  const plain = plainWith(options);
  const calls: (CassetteCall | undefined)[] = [];
  return {
    provider,
    ...(model.server && { server: model.server }),
    async call(request, context) {
      const asked = plain({ agent: context.agent, request });
      // 2
      const place = calls.push(undefined) - 1;
      const note = (answer: { reply: ModelReply } | { error: ErrorRecord }) => {
        calls[place] = { ...asked, ...plain(answer) };
        const made = calls.filter((call) => call !== undefined);
        writeCassette(file, { cassette: 1, provider, calls: made });
      };
      let reply: ModelReply;
      try {
        reply = await model.call(request, context);
      } catch (error) {
        // 4
        if (!context.signal.aborted) note({ error: toErrorRecord(error, "model_failed") });
        throw error;
      }
      // 3
      note({ reply });
      return reply;
    },
  };
}
