/**
 * From the configuration's `providers` to the model of each agent. Modules are imported once, when the providers are opened;
 * models of endpoints are made when the first agent asks for them and shared from then on.
 */
import { createRequire } from "node:module";
import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Agent } from "../../actors/agent.ts";
import type { Model } from "../../actors/model.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import { type OpenAIModelOptions, openaiModel } from "./openai.ts";

/** An OpenAI-compatible endpoint. */
export type EndpointConfig = {
  /** @default OpenAI's own; for the provider `openai` the variable `OPENAI_BASE_URL` before that */
  baseURL?: string;
  apiKey?: string;
  /** The environment variable that holds the key. @default "OPENAI_API_KEY" for the provider `openai` */
  apiKeyEnv?: string;
  headers?: { [name: string]: string };
  /** How long the provider may be silent, in milliseconds. @default 300000 */
  timeoutMs?: number;
};

/** A module that exports a `Model`, or a function `(options?) => Model | Promise<Model>`. */
export type ModuleConfig = {
  /** A path, relative to the configuration file, or a package. */
  module: string;
  /** @default "default" */
  export?: string;
  /** Handed to the function. */
  options?: unknown;
};

export type ProvidersContext = {
  /** The directory that module paths are relative to. */
  directory: string;
  /** The configuration file, for error messages. */
  file?: string;
  /** @default process.env */
  env?: { [name: string]: string | undefined };
};

/** Gives an agent its model; throws a `DefinitionError` for a provider that is not configured. */
export type ModelOf = (agent: Pick<Agent, "name" | "provider" | "baseURL" | "apiKey">) => Model;

/**
 * Checks the section `providers` and imports its modules. Rejects with a `DefinitionError` that carries every problem found.
 * The provider `openai` is there without being configured.
 */
export async function openProviders(raw: unknown, context: ProvidersContext): Promise<ModelOf> {
  const problems: Problem[] = [];
  const report = (path: string, expected: string, got: string) =>
    problems.push({ ...(context.file === undefined ? {} : { file: context.file }), path, expected, got });
  if (raw !== undefined && !isObject(raw)) report("providers", "a map of providers by name", describe(raw));

  const models = new Map<string, Model>();
  const endpoints = new Map<string, EndpointConfig>([["openai", {}]]);
  for (const [name, config] of Object.entries(isObject(raw) ? raw : {})) {
    const path = `providers.${name}`;
    if (isModel(config)) models.set(name, config);
    else if (!isObject(config)) report(path, "{ baseURL, apiKeyEnv, … } or { module, … }", describe(config));
    else if (!check(config, "module" in config ? MODULE_KEYS : ENDPOINT_KEYS, path, report)) continue;
    else if (!("module" in config)) endpoints.set(name, config as EndpointConfig);
    else {
      const model = await importModel(config as ModuleConfig, context.directory).catch((error: unknown) => {
        report(`${path}.module`, "a module that exports a Model, or a function that makes one", messageOf(error));
      });
      if (model) models.set(name, model);
    }
  }
  if (problems.length > 0) throw new DefinitionError(problems);
  return modelsOf(models, endpoints, context);
}

function modelsOf(
  models: Map<string, Model>,
  endpoints: Map<string, EndpointConfig>,
  context: ProvidersContext,
): ModelOf {
  const made = new Map<string, Model>();
  const env = context.env ?? process.env;
  return (agent) => {
    const { name, provider, baseURL, apiKey } = agent;
    const model = models.get(provider);
    if (model) {
      if (baseURL === undefined) return model;
      throw problemOf(`agents.${name}.baseURL`, `none, because provider ${provider} is a module`, describe(baseURL));
    }
    const endpoint = endpoints.get(provider);
    if (!endpoint) {
      const names = [...new Set([...endpoints.keys(), ...models.keys()])].join(", ");
      throw problemOf(`agents.${name}.provider`, `a configured provider (${names})`, describe(provider));
    }
    const key = JSON.stringify([provider, baseURL, apiKey]);
    let fresh = made.get(key);
    if (!fresh) {
      fresh = openaiModel(endpointOptions(provider, endpoint, agent, env));
      made.set(key, fresh);
    }
    return fresh;
  };
}

function endpointOptions(
  provider: string,
  endpoint: EndpointConfig,
  agent: Parameters<ModelOf>[0],
  env: { [name: string]: string | undefined },
): OpenAIModelOptions {
  const isDefault = provider === "openai";
  const own = endpoint.baseURL ?? (isDefault ? env.OPENAI_BASE_URL || undefined : undefined);
  const baseURL = agent.baseURL ?? own;
  const apiKeyEnv = endpoint.apiKeyEnv ?? (isDefault ? "OPENAI_API_KEY" : undefined);
  // The provider's key is not for whoever an agent's own baseURL belongs to.
  const shared = agent.baseURL === undefined || sameOrigin(agent.baseURL, own);
  const apiKey = agent.apiKey ?? (shared ? (endpoint.apiKey ?? (apiKeyEnv && env[apiKeyEnv])) : undefined);
  return {
    provider,
    apiKeyEnv: apiKeyEnv ?? `providers.${provider}.apiKeyEnv`,
    keyRequired: baseURL === undefined || (shared && endpoint.apiKeyEnv !== undefined),
    ...(baseURL === undefined ? {} : { baseURL }),
    ...(apiKey ? { apiKey } : {}),
    ...(endpoint.headers ? { headers: endpoint.headers } : {}),
    ...(endpoint.timeoutMs === undefined ? {} : { timeoutMs: endpoint.timeoutMs }),
  };
}

function sameOrigin(one: string, other: string | undefined): boolean {
  return new URL(one).origin === new URL(other ?? "https://api.openai.com").origin;
}

async function importModel(config: ModuleConfig, directory: string): Promise<Model> {
  const module: unknown = await import(/* @vite-ignore */ locate(config.module, directory));
  const name = config.export ?? "default";
  const exported = isObject(module) ? module[name] : undefined;
  if (exported === undefined) {
    throw new Error(
      `no export "${name}" in ${config.module} (it has ${
        Object.keys(module as object)
          .sort()
          .join(", ") || "none"
      })`,
    );
  }
  const model: unknown =
    isModel(exported) || typeof exported !== "function" ? exported : await exported(config.options);
  if (!isModel(model)) throw new Error(describe(model));
  return model;
}

function locate(specifier: string, directory: string): string {
  if (specifier.startsWith("file:")) return specifier;
  if (specifier.startsWith(".") || isAbsolute(specifier)) return pathToFileURL(resolve(directory, specifier)).href;
  try {
    return pathToFileURL(createRequire(resolve(directory, "troupe.yaml")).resolve(specifier)).href;
  } catch {
    // Packages that offer nothing to `require`; Node then resolves them from here.
    return specifier;
  }
}

type Keys = { [key: string]: { expected: string; fits: (value: unknown) => boolean } };

const text = { expected: "text", fits: (value: unknown) => typeof value === "string" && value !== "" };

/** What an endpoint may say. */
export const ENDPOINT_KEYS: Keys = {
  baseURL: { expected: "an http(s) URL", fits: isHttpURL },
  apiKey: text,
  apiKeyEnv: text,
  headers: {
    expected: "a map of text",
    fits: (value) => isObject(value) && Object.values(value).every((entry) => typeof entry === "string"),
  },
  timeoutMs: {
    expected: "a whole number of milliseconds, at least 1",
    fits: (value) => Number.isInteger(value) && (value as number) > 0,
  },
};

/** What a provider that is a module may say. */
export const MODULE_KEYS: Keys = { module: text, export: text, options: { expected: "anything", fits: () => true } };

function check(
  config: { [key: string]: unknown },
  keys: Keys,
  path: string,
  report: (path: string, expected: string, got: string) => void,
): boolean {
  let fine = true;
  for (const [key, value] of Object.entries(config)) {
    const rule = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (rule?.fits(value)) continue;
    fine = false;
    if (rule) report(`${path}.${key}`, rule.expected, key === "apiKey" ? typeof value : describe(value));
    else report(`${path}.${key}`, `one of the keys ${Object.keys(keys).join(", ")}`, describe(key));
  }
  return fine;
}

function problemOf(path: string, expected: string, got: string): DefinitionError {
  return new DefinitionError([{ path, expected, got }]);
}

function isModel(value: unknown): value is Model {
  return isObject(value) && typeof value.call === "function" && typeof value.provider === "string";
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isHttpURL(value: unknown): boolean {
  return typeof value === "string" && /^https?:\/\//.test(value) && URL.canParse(value);
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}

/** A value in the words of an error message. */
function describe(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (isObject(value)) return `an object with the keys ${Object.keys(value).join(", ") || "(none)"}`;
  return JSON.stringify(value) ?? "nothing";
}
