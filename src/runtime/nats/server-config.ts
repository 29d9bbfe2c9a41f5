import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What goes into the file a nats-server is started with. */
export type ServerConfig = {
  /** As the server calls itself in INFO. */
  name: string;
  version: string;
  host: string;
  /** 0: the server takes a free one and writes it into its ports file. */
  port: number;
  storeDir: string;
  syncInterval: string;
  maxPayload: number | undefined;
  extra: string | undefined;
};

/** The file of the configuration inside a store; it is also how a running server of that store is recognised. */
export function configFileOf(storeDir: string): string {
  return join(storeDir, "nats-server.conf");
}

/** Renders the configuration file of a single nats-server with JetStream. */
export function renderServerConfig(config: ServerConfig): string {
  const { name, version, host, port, storeDir, maxPayload, extra } = config;
  const lines = [
    `server_name: ${quote(name)}`,
    // -1 is the server's word for "any free port": it binds before it tells, so nobody can take it in between.
    `listen: ${quote(`${host}:${port === 0 ? -1 : port}`)}`,
    `ports_file_dir: ${quote(storeDir)}`,
    ...(maxPayload === undefined ? [] : [`max_payload: ${maxPayload}`]),
    "jetstream {",
    `  store_dir: ${quote(storeDir)}`,
    // Servers before 2.10 do not know the field and refuse to start with it.
    ...(knowsSyncInterval(version) ? [`  sync_interval: ${quote(config.syncInterval)}`] : []),
    "}",
    ...(extra === undefined ? [] : [extra]),
  ];
  return `${lines.join("\n")}\n`;
}

/** The `sync_interval` that the server of a store was started with, or undefined where its version has none. */
export function readSyncInterval(storeDir: string): string | undefined {
  try {
    return /^\s*sync_interval: "([^"]+)"/m.exec(readFileSync(configFileOf(storeDir), "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

function knowsSyncInterval(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > 2 || (major === 2 && minor >= 10);
}

function quote(text: string): string {
  return JSON.stringify(text);
}
