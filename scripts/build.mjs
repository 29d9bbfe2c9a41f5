// `npm run build`: the published form of src/ in dist/, JavaScript with declarations.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";

// What was renamed or removed must not stay behind in the package.
rmSync("dist", { recursive: true, force: true });
const tsc = ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"];
process.exitCode = spawnSync(process.execPath, tsc, { stdio: "inherit" }).status ?? 1;
