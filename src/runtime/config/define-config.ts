/** A whole configuration written in TypeScript. */
import type { Agent } from "../../actors/agent.ts";
import type { Tool } from "../../actors/tool.ts";
import type { WorkflowDefinition } from "../../workflows/definition.ts";
import type { ScheduleOptions } from "../../workflows/schedule.ts";
import type { McpServerOptions } from "../mcp/mcp-config.ts";
import type { Prices } from "../models/prices.ts";
import type { ProviderConfig } from "../models/provider-config.ts";
import type { ResolvedOptions } from "./options.ts";

/** What `troupe.ts` exports by default. */
export type TroupeConfig = {
  agents?: readonly Agent[];
  workflows?: readonly WorkflowDefinition[];
  /** When workflows start by themselves, beside the `schedule` that a workflow may have. */
  schedules?: { readonly [name: string]: ScheduleOptions };
  /** Tools that agents from elsewhere name; agents made with `defineAgent` have theirs. */
  tools?: { readonly [name: string]: Tool };
  /** Servers whose tools agents refer to in `mcp`. */
  mcpServers?: { readonly [name: string]: McpServerOptions };
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
