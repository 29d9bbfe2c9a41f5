/** The version of this package, as its `package.json` has it. */
import { readFileSync } from "node:fs";

// The same way up from src/runtime and from dist/runtime.
const MANIFEST = new URL("../../package.json", import.meta.url);

/** Strict semver, as the API and `troupe --version` tell it. */
export const VERSION: string = (JSON.parse(readFileSync(MANIFEST, "utf8")) as { version: string }).version;
