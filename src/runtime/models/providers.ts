/**
 * From the configuration's `providers` to the model of each agent. Modules are imported once, when the providers are opened;
 * models of endpoints are made when the first agent asks for them and shared from then on.
 */
import { createRequire } from "node:module";
import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Model } from "../../actors/model.ts";
import type { ModelChoice } from "../../actors/model-choices.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import { type OpenAIModelOptions, openaiModel } from "./openai.ts";
import { type Prices, withPrices } from "./prices.ts";
import {
  checkProvider,
  describeValue,
  type EndpointConfig,
  gateOptionsOf,
  isModel,
  isObject,
  type ModuleConfig,
} from "./provider-config.ts";
import { type GateOptions, openProviderGate, type ProvidedModel, type ProviderGate } from "./provider-gate.ts";

export type ProvidersContext = {
  /** The directory that module paths are relative to. */
  directory: string;
  /** The configuration file, for error messages. */
  file?: string;
  /** @default process.env */
  env?: { [name: string]: string | undefined };
  /** What calls cost. @default nothing is known of it */
  prices?: Prices;
};

/** Gives a model of an agent; throws a `DefinitionError` for a provider that is not configured. */
export type ModelOf = (agent: AskingAgent) => ProvidedModel;

/** Who asks for a model: an agent, for one of its models. */
type AskingAgent = { name: string } & Pick<ModelChoice, "provider" | "baseURL" | "apiKey">;

/** What a configured provider is, once modules are imported. */
type Provider = { model: Model; options: GateOptions } | { endpoint: EndpointConfig; options: GateOptions };

/**
 * Checks the section `providers` and imports its modules. Rejects with a `DefinitionError` that carries every problem found.
 * The provider `openai` is there without being configured.
 */
export async function openProviders(raw: unknown, context: ProvidersContext): Promise<ModelOf> {
  const problems: Problem[] = [];
  const report = (path: string, expected: string, got: string) =>
    problems.push({ ...(context.file === undefined ? {} : { file: context.file }), path, expected, got });
  if (raw !== undefined && !isObject(raw)) report("providers", "a map of providers by name", describeValue(raw));

  const providers = new Map<string, Provider>([["openai", { endpoint: {}, options: {} }]]);
  for (const [name, config] of Object.entries(isObject(raw) ? raw : {})) {
    const path = `providers.${name}`;
    if (isModel(config)) providers.set(name, { model: config, options: {} });
    else if (!isObject(config)) report(path, "{ baseURL, apiKeyEnv, … } or { module, … }", describeValue(config));
    else if (!checkProvider(config, path, report)) continue;
    else {
      const options = gateOptionsOf(config);
      if ("model" in config) providers.set(name, { model: config.model as Model, options });
      else if (!("module" in config)) providers.set(name, { endpoint: config, options });
      else {
        const model = await importModel(config as ModuleConfig, context.directory).catch((error: unknown) => {
          report(`${path}.module`, "a module that exports a Model, or a function that makes one", messageOf(error));
        });
        if (model) providers.set(name, { model, options });
      }
    }
  }
  if (problems.length > 0) throw new DefinitionError(problems);
  return lookUpIn(providers, context);
}

function lookUpIn(providers: ReadonlyMap<string, Provider>, context: ProvidersContext): ModelOf {
  const { env = process.env, prices = {} } = context;
  const made = new Map<string, ProvidedModel>();
  const gates = new Map<string, ProviderGate>();
  return (agent) => {
    const { name, provider: key, baseURL, apiKey } = agent;
    const provider = providers.get(key);
    if (!provider) {
      throw problemOf(`agents.${name}.provider`, `a configured provider (${[...providers.keys()].join(", ")})`, key);
    }
    if ("model" in provider && baseURL !== undefined) {
      throw problemOf(`agents.${name}.baseURL`, `none, because provider ${key} is a module`, baseURL);
    }
    const id = JSON.stringify([key, baseURL, apiKey]);
    let fresh = made.get(id);
    if (!fresh) {
      const model =
        "model" in provider ? provider.model : openaiModel(endpointOptions(key, provider.endpoint, agent, env));
      fresh = throughGate(withPrices(model, key, prices), gateOf(key, baseURL, provider.options));
      made.set(id, fresh);
    }
    return fresh;
  };

  /** Another key is the same server; another address is not. */
  function gateOf(provider: string, baseURL: string | undefined, options: GateOptions): ProviderGate {
    const name = baseURL === undefined ? provider : `${provider} at ${new URL(baseURL).host}`;
    let gate = gates.get(name);
    if (!gate) {
      gate = openProviderGate(name, options);
      gates.set(name, gate);
    }
    return gate;
  }
}

function throughGate(model: Model, gate: ProviderGate): ProvidedModel {
  const { provider, server } = model;
  return { provider, ...(server && { server }), gate, call: (request, context) => model.call(request, context) };
}

function endpointOptions(
  provider: string,
  endpoint: EndpointConfig,
  agent: AskingAgent,
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
    ...(endpoint.api === undefined ? {} : { api: endpoint.api }),
    ...(endpoint.stream === undefined ? {} : { stream: endpoint.stream }),
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
  if (!isModel(model)) throw new Error(describeValue(model));
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

function problemOf(path: string, expected: string, got: unknown): DefinitionError {
  return new DefinitionError([{ path, expected, got: describeValue(got) }]);
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
