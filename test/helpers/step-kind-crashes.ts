/** The places where a daemon dies only over steps that are no agent's: with which passing, and in which scenario. */
export const SIGNAL_CRASHES = ["before-signal-entry", "after-signal-entry"] as const;
export const CHILD_CRASHES = ["before-child-asked", "after-child-asked"] as const;
