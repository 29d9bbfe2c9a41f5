/** A whole configuration written in TypeScript. */
import type { Agent } from "../../actors/agent.ts";
import type { Tool } from "../../actors/tool.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { Prices } from "../models/prices.ts";
import type { ProviderConfig } from "../models/provider-config.ts";
import type { ResolvedOptions } from "./options.ts";

/** What `troupe.ts` exports by default. */
export type TroupeConfig = {
  agents?: readonly Agent[];
  workflows?: readonly WorkflowDefinition[];
  /** Tools that agents from elsewhere name; agents made with `defineAgent` have theirs. */
  tools?: { readonly [name: string]: Tool };
  providers?: { readonly [name: string]: ProviderConfig };
  /** What models cost, for a million tokens each. */
  prices?: Prices;
  /** Options of the daemon; durations in milliseconds, or text such as `"30s"`. */
  daemon?: { readonly [Key in keyof ResolvedOptions]?: ResolvedOptions[Key] | string };
};

/** Gives a configuration its type; everything in it is checked when it is loaded. */
export function defineConfig(config: TroupeConfig): TroupeConfig {
  return config;
}
