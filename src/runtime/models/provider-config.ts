/** What one entry of the configuration's `providers` may be, and what is wrong with it. */
import type { Model } from "../../actors/model.ts";
import type { GateOptions } from "./provider-gate.ts";

/** An OpenAI-compatible endpoint. */
export type EndpointConfig = GateOptions & {
  /** @default OpenAI's own; for the provider `openai` the variable `OPENAI_BASE_URL` before that */
  baseURL?: string;
  apiKey?: string;
  /** The environment variable that holds the key. @default "OPENAI_API_KEY" for the provider `openai` */
  apiKeyEnv?: string;
  /** Which of OpenAI's two ways to ask for an answer it speaks. @default "chat" */
  api?: "chat" | "responses";
  /** Whether answers are asked for piece by piece. @default true */
  stream?: boolean;
  headers?: { [name: string]: string };
  /** How long the provider may be silent, in milliseconds. @default 300000 */
  timeoutMs?: number;
};

/** A module that exports a `Model`, or a function `(options?) => Model | Promise<Model>`. */
export type ModuleConfig = GateOptions & {
  /** A path, relative to the configuration file, or a package. */
  module: string;
  /** @default "default" */
  export?: string;
  /** Handed to the function. */
  options?: unknown;
};

/** A model of one's own with limits; without any the model alone will do. */
export type ModelConfig = GateOptions & { model: Model };

export type ProviderConfig = EndpointConfig | ModuleConfig | ModelConfig | Model;

/** Gives a provider in TypeScript its type; it is checked when the configuration is loaded. */
export function openaiProvider(endpoint: EndpointConfig): EndpointConfig {
  return endpoint;
}

type Report = (path: string, expected: string, got: string) => void;

type Keys = { [key: string]: { expected: string; fits: (value: unknown) => boolean } };

const text = { expected: "text", fits: (value: unknown) => typeof value === "string" && value !== "" };
const count = { expected: "a whole number, at least 1", fits: isCount };
const duration = { expected: "a whole number of milliseconds, at least 1", fits: isCount };

const BREAKER_KEYS: Keys = { failures: count, cooldownMs: duration };

const GATE_KEYS: Keys = {
  maxConcurrency: count,
  requestsPerMinute: count,
  tokensPerMinute: count,
  breaker: {
    expected: "{ failures, cooldownMs } in whole numbers, or false",
    fits: (value) => value === false || (isObject(value) && fitsAll(value, BREAKER_KEYS)),
  },
};

export const ENDPOINT_KEYS: Keys = {
  baseURL: { expected: "an http(s) URL", fits: isHttpURL },
  apiKey: text,
  apiKeyEnv: text,
  api: { expected: "one of chat, responses", fits: (value) => value === "chat" || value === "responses" },
  stream: { expected: "true or false", fits: (value) => typeof value === "boolean" },
  headers: {
    expected: "a map of text",
    fits: (value) => isObject(value) && Object.values(value).every((entry) => typeof entry === "string"),
  },
  timeoutMs: duration,
  ...GATE_KEYS,
};

export const MODULE_KEYS: Keys = {
  module: text,
  export: text,
  options: { expected: "anything", fits: () => true },
  ...GATE_KEYS,
};

const MODEL_KEYS: Keys = { model: { expected: "a Model", fits: isModel }, ...GATE_KEYS };

/** Says what is wrong with a provider that is not a model itself; false where anything is. */
export function checkProvider(config: { [key: string]: unknown }, path: string, report: Report): boolean {
  const keys = "module" in config ? MODULE_KEYS : "model" in config ? MODEL_KEYS : ENDPOINT_KEYS;
  let fine = true;
  for (const [key, value] of Object.entries(config)) {
    const rule = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (rule?.fits(value)) continue;
    fine = false;
    if (rule) report(`${path}.${key}`, rule.expected, key === "apiKey" ? typeof value : describeValue(value));
    else report(`${path}.${key}`, `one of the keys ${Object.keys(keys).join(", ")}`, describeValue(key));
  }
  return fine;
}

/** The part of a provider that is about all of its calls. */
export function gateOptionsOf(config: GateOptions): GateOptions {
  const { maxConcurrency, requestsPerMinute, tokensPerMinute, breaker } = config;
  return {
    ...(maxConcurrency !== undefined && { maxConcurrency }),
    ...(requestsPerMinute !== undefined && { requestsPerMinute }),
    ...(tokensPerMinute !== undefined && { tokensPerMinute }),
    ...(breaker !== undefined && { breaker }),
  };
}

export function isModel(value: unknown): value is Model {
  return isObject(value) && typeof value.call === "function" && typeof value.provider === "string";
}

export function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value in the words of an error message. */
export function describeValue(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (isObject(value)) return `an object with the keys ${Object.keys(value).join(", ") || "(none)"}`;
  return JSON.stringify(value) ?? "nothing";
}

function fitsAll(value: { [key: string]: unknown }, keys: Keys): boolean {
  return Object.entries(value).every(([key, entry]) => Object.hasOwn(keys, key) && keys[key]?.fits(entry));
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0;
}

function isHttpURL(value: unknown): boolean {
  return typeof value === "string" && /^https?:\/\//.test(value) && URL.canParse(value);
}
