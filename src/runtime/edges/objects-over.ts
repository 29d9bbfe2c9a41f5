/** The object store over a connection of anybody's, as clients have it. */
import { UnavailableError } from "../../errors.ts";
import { headers, type NatsConnection, NatsError } from "../nats/nats.ts";
import type { ObjectStoreParts } from "../nats/object-store.ts";

/** What buckets need, over a plain connection. */
export function objectsOver(nc: NatsConnection): ObjectStoreParts {
  return {
    maxPayload: () => nc.info?.max_payload ?? Number.POSITIVE_INFINITY,
    async request(subject, data, { timeoutMs = 5_000, header } = {}) {
      const hdrs = headers();
      if (header) hdrs.set(...header);
      try {
        return await nc.request(subject, data, { timeout: timeoutMs, ...(header && { headers: hdrs }) });
      } catch (error) {
        const mayPass = error instanceof NatsError && (error.code === "503" || error.code === "TIMEOUT");
        if (mayPass) throw new UnavailableError(`${subject}: ${error.message}`, { cause: error });
        throw error;
      }
    },
  };
}
