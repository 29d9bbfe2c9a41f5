/** Durations in definitions. */
import { z } from "zod";

/** The longest a timer of JavaScript can wait, about 24.8 days; beyond it timers fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

const EXPECTED = `expected a whole number of milliseconds from 1 to ${LONGEST_TIMER_MS}`;

/** The schema of a duration in milliseconds. */
export const durationSchema = z
  .number({ error: EXPECTED })
  .int({ error: EXPECTED })
  .min(1, { error: EXPECTED })
  .max(LONGEST_TIMER_MS, { error: EXPECTED });
