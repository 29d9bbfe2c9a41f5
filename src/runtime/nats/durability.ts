/** What a broker's settings mean for acknowledged writes, in words. */

export type BrokerFacts = {
  /** As in `2.9.10`. */
  version: string;
  /** The embedded server's setting; absent where the broker is somebody else's, whose setting clients cannot see. */
  syncInterval?: string;
};

/** The first version that can be told how often to sync: https://docs.nats.io/release-notes/whats_new/whats_new_210 */
const SYNC_SINCE = [2, 10] as const;

/** What a loss of power can take with these settings. A killed process takes nothing with any of them. */
export function describePowerLoss({ version, syncInterval }: BrokerFacts): string {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const canSync = major > SYNC_SINCE[0] || (major === SYNC_SINCE[0] && minor >= SYNC_SINCE[1]);
  if (!canSync) return `nats-server ${version} syncs to disk every two minutes: a power loss can take that much`;
  if (syncInterval === "always")
    return "every write is synced to disk before it is acknowledged: a power loss takes nothing";
  if (syncInterval !== undefined)
    return `writes are synced to disk every ${syncInterval}: a power loss can take that much`;
  return "a power loss can take what the broker's sync_interval (two minutes unless set) leaves unsynced";
}
