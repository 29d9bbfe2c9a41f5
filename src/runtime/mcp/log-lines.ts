/** What another process writes, line by line. */

/** A line beyond this is cut: what never ends must not fill the memory. */
const LONGEST_LINE = 8_192;

/** Gives each line that has something in it to `log`. */
export function logLines(stream: NodeJS.EventEmitter, log: (line: string) => void): void {
  const decoder = new TextDecoder();
  let rest = "";
  stream.on("data", (chunk: Uint8Array) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/);
    rest = (lines.pop() ?? "").slice(0, LONGEST_LINE);
    for (const line of lines) if (line.trim() !== "") log(line.slice(0, LONGEST_LINE));
  });
  stream.on("end", () => {
    if (rest.trim() !== "") log(rest);
  });
}
