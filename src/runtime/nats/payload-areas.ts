/** Whose large values are there, and deleting them: the objects of a run share an area (`payloads.ts`, P2). */
import { objectSubjects, type Subjects } from "../subjects.ts";
import type { Bus } from "./connection.ts";

export type PayloadAreas = {
  /** Deletes all objects of a run; one that has none is no error. */
  remove(runId: string): Promise<void>;
  /** The runs that have objects. */
  list(): Promise<ReadonlySet<string>>;
  /** When something of a run was stored last, in milliseconds since the epoch; undefined where it has nothing. */
  storedAt(runId: string): Promise<number | undefined>;
};

/** Opens the areas of all runs. */
export function openPayloadAreas(bus: Bus, { buckets, streams }: Subjects): PayloadAreas {
  const bucket = buckets.payloads;
  const stream = streams.payloads;
  const areaAt = objectSubjects.chunks(bucket, "").length;

  return {
    async remove(runId) {
      const subjects = await chunksUnder(`${runId}.>`);
      if (subjects.length === 0) return;
      const { streams } = await bus.jsm();
      // The chunks last: they are what is found again after a try that was cut off.
      for (const sha256 of new Set(subjects.map((subject) => subject.slice(areaAt).split(".")[1]))) {
        await streams.purge(stream, { filter: objectSubjects.info(bucket, `${runId}/${sha256}`) });
      }
      await streams.purge(stream, { filter: objectSubjects.chunks(bucket, `${runId}.>`) });
    },

    async list() {
      const subjects = await chunksUnder("*.>");
      return new Set(subjects.map((subject) => subject.slice(areaAt).split(".")[0] ?? ""));
    },

    async storedAt(runId) {
      const { streams } = await bus.jsm();
      const times: number[] = [];
      for (const subject of await chunksUnder(`${runId}.>`)) {
        times.push((await streams.getMessage(stream, { last_by_subj: subject })).time.getTime());
      }
      return times.length > 0 ? Math.max(...times) : undefined;
    },
  };

  async function chunksUnder(area: string): Promise<string[]> {
    const { streams } = await bus.jsm();
    const { state } = await streams.info(stream, { subjects_filter: objectSubjects.chunks(bucket, area) });
    return Object.keys(state.subjects ?? {});
  }
}
