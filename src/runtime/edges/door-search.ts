/** Whether a request waits at the door. The queue can only be walked, so this is for the rare question about an unknown run. */

import type { Bus } from "../nats/connection.ts";
import { isToken, type Subjects } from "../subjects.ts";

type Stored = { message?: { seq: number; data?: string; hdrs?: string }; error?: { code: number } };

// About a quarter of a second of looking. A door that is longer than this is answered with "it may be there".
const MAX_LOOKS = 2_000;
const TIMEOUT_MS = 5_000;

/** Looks for the request of a run among those no daemon has taken yet. */
export async function mayWaitAtDoor(bus: Bus, subjects: Subjects, runId: string): Promise<boolean> {
  if (!isToken(runId)) return false;
  let seq = 1;
  for (let looks = 0; looks < MAX_LOOKS; looks += 1) {
    const { message, error } = await nextStored(bus, subjects, seq);
    if (!message || error) return false;
    const text = Buffer.from(message.data ?? "", "base64").toString("utf8");
    const headers = Buffer.from(message.hdrs ?? "", "base64").toString("utf8");
    // An id is long and random enough that a mention of it is the request; a wrong yes costs a signal nobody reads.
    if (text.includes(JSON.stringify(runId)) || headers.includes(runId)) return true;
    seq = message.seq + 1;
  }
  return true;
}

async function nextStored({ nc }: Bus, { streams, allRequests }: Subjects, seq: number): Promise<Stored> {
  const question = JSON.stringify({ seq, next_by_subj: allRequests });
  const reply = await nc.request(`$JS.API.STREAM.MSG.GET.${streams.requests}`, question, { timeout: TIMEOUT_MS });
  return JSON.parse(reply.string()) as Stored;
}
