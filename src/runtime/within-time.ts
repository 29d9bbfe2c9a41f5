/** Waits for something, but not longer than `ms` milliseconds. Rejects as it does while it is waited for. */
export async function withinTime(something: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    await Promise.race([something, late]);
  } finally {
    clearTimeout(timer);
  }
}
