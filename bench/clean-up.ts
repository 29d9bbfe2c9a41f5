/** What has to be undone at the end. (`await using` is beyond the Node that runs these sources as they are.) */
export type CleanUp = {
  /** Takes note of one more thing to undo; gives back what it is about. */
  after<T>(made: T, undo: (made: T) => unknown): T;
};

/** Runs `work`, and whatever it noted, the last first, however it ends; what cannot be undone is said, not thrown. */
export async function withCleanUp<T>(work: (cleanUp: CleanUp) => Promise<T>): Promise<T> {
  const undoing: (() => unknown)[] = [];
  try {
    return await work({
      after(made, undo) {
        undoing.push(() => undo(made));
        return made;
      },
    });
  } finally {
    for (const undo of undoing.reverse()) {
      try {
        await undo();
      } catch (error) {
        console.error(`could not clean up: ${String(error)}`);
      }
    }
  }
}
