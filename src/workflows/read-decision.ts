/** What a signal that decides an approval says, or why it says nothing that can be decided by. */

/** A person's decision. */
export type ApprovalDecision = { step: string; choice: string; by?: string; comment?: string };

/** Reads the payload of a signal `approval`; without `step` it is about the only one that is `open`. */
export function readDecision(
  payload: unknown,
  open: readonly string[],
): ApprovalDecision | { code: string; message: string } {
  const wrong = (message: string) => ({ code: "invalid_payload", message });
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) {
    return wrong(`payload: expected {choice, step?, by?, comment?}, got ${JSON.stringify(payload)}`);
  }
  const { step, choice, by, comment } = payload as { [key: string]: unknown };
  for (const [key, value] of Object.entries({ step, by, comment })) {
    if (value !== undefined && typeof value !== "string") {
      return wrong(`payload.${key}: expected text, got ${JSON.stringify(value)}`);
    }
  }
  if (typeof choice !== "string") return wrong(`payload.choice: expected text, got ${JSON.stringify(choice ?? null)}`);
  const [only, ...others] = open;
  if (only === undefined || (step !== undefined && !open.includes(step as string))) {
    const message = `${step === undefined ? "the run" : `step ${String(step)}`} waits for no approval`;
    return { code: "not_waiting", message };
  }
  if (step === undefined && others.length > 0) {
    return wrong(`payload.step: expected one of ${open.join(", ")}, got none`);
  }
  return {
    step: (step as string | undefined) ?? only,
    choice,
    ...(by !== undefined && { by: by as string }),
    ...(comment !== undefined && { comment: comment as string }),
  };
}
