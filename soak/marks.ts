/**
 * The marks by which whatever stands in a conversation or a journal is traced back to the one call it came from. They are
 * plain characters, so that no quoting on the way changes them.
 */

/** The mark of the model's answer `n`. */
export const answerMark = (n: number): string => `#n${n}#`;
/** The mark of a tool's answer `n`. */
export const toolMark = (n: number): string => `#t${n}#`;
/** The id of a tool call in the model's answer `n`. */
export const callId = (n: number, i: number): string => `call_${n}_${i}`;

/** The numbers of the model's answers a text shows. */
export function answersIn(text: string): number[] {
  return numbersIn(text, /#n(\d+)#/g);
}

/** The numbers of the tools' answers a text shows. */
export function toolsIn(text: string): number[] {
  return numbersIn(text, /#t(\d+)#/g);
}

/** The runs whose request a text shows. */
export function runsIn(text: string): string[] {
  return [...new Set([...text.matchAll(/#run:([\w-]+)#/g)].map(([, runId]) => runId as string))];
}

/** The number of the answer that a tool call belongs to. */
export function answerOfCall(id: string): number {
  return Number(/^call_(\d+)_/.exec(id)?.[1]);
}

function numbersIn(text: string, pattern: RegExp): number[] {
  return [...new Set([...text.matchAll(pattern)].map(([, n]) => Number(n)))].sort((a, b) => a - b);
}
