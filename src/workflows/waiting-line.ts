/**
 * A line that is never changed but copied: who comes last is served last. Plain data, of which adding and taking copy one chunk
 * and a reference for each other.
 */
export type WaitingLine = {
  /** How many at the head of the first chunk have been taken. */
  readonly taken: number;
  readonly chunks: readonly (readonly string[])[];
};

const CHUNK = 64;

/** Nobody waits. */
export const NO_LINE: WaitingLine = { taken: 0, chunks: [] };

/** Whether nobody waits. */
export function isEmptyLine({ chunks }: WaitingLine): boolean {
  return chunks.length === 0;
}

/** Who is next; undefined where nobody waits. */
export function headOf({ taken, chunks }: WaitingLine): string | undefined {
  return chunks[0]?.[taken];
}

/** The line without its head. */
export function withoutHead({ taken, chunks }: WaitingLine): WaitingLine {
  const left = taken + 1;
  return left < (chunks[0]?.length ?? 0) ? { taken: left, chunks } : { taken: 0, chunks: chunks.slice(1) };
}

/** The line with one more at its end. */
export function withLast({ taken, chunks }: WaitingLine, name: string): WaitingLine {
  const last = chunks.at(-1);
  if (last === undefined || last.length >= CHUNK) return { taken, chunks: [...chunks, [name]] };
  return { taken, chunks: [...chunks.slice(0, -1), [...last, name]] };
}
