/** The parts of a configuration file that can go into the store, whichever of its forms it has. */
import { problemAt, showValue } from "../../actors/schema-problems.ts";
import { DefinitionError, type Problem } from "../../errors.ts";
import { exportDefinition } from "../../workflows/export-definition.ts";
import { nearest } from "./did-you-mean.ts";
import { findConfig } from "./find-config.ts";
import { isWhole, loadDefinitionFile, nameOfOne, OTHERS, othersIn } from "./load-definition-file.ts";
import { readConfig } from "./read-config.ts";

export type FileSections = {
  agents: { readonly [name: string]: unknown };
  workflows: { readonly [name: string]: unknown };
  /** Sections that are there and belong to each daemon. */
  others: string[];
  /** Gives a problem with these sections its place in the file. */
  locate(problem: Problem): Problem;
};

const SECTIONS = ["agents", "workflows", ...OTHERS];

/**
 * Reads the agents and workflows of a file. One without the section `workflows` is a single workflow, named by its `name` or
 * like the file. What TypeScript has defined is written as data.
 *
 * @throws UsageError when there is no such file; DefinitionError when it cannot be read, or not be written as data.
 */
export async function readSections(path: string, cwd: string): Promise<FileSections> {
  const file = findConfig(path, cwd);
  if (/\.m?[jt]s$/.test(file)) return sectionsOfModule(path, cwd);
  const { data, locate } = await readConfig(file, path);
  const at = { file: path, path: "the file" };
  if (!isObject(data)) throw new DefinitionError([problemAt(at, "an object", showValue(data))]);
  if (!isWhole(data)) return sectionsOfOne(data, path, locate);
  const unknown = Object.keys(data).filter((key) => !SECTIONS.includes(key));
  const problems = unknown.map((key) => {
    const meant = nearest(key, SECTIONS);
    return problemAt(
      { file: path, path: key },
      `one of the keys ${SECTIONS.join(", ")}${meant ? ` (did you mean ${meant}?)` : ""}`,
      showValue(key),
    );
  });
  for (const key of ["agents", "workflows"]) {
    const section = data[key] ?? {};
    if (!isObject(section)) problems.push(problemAt({ file: path, path: key }, "an object", showValue(section)));
  }
  if (problems.length > 0) throw new DefinitionError(problems.map(locate));
  return {
    agents: (data.agents ?? {}) as FileSections["agents"],
    workflows: (data.workflows ?? {}) as FileSections["workflows"],
    others: othersIn(data),
    locate: (problem) => locate({ ...problem, file: path }),
  };
}

function sectionsOfOne(data: { [key: string]: unknown }, path: string, locate: FileSections["locate"]): FileSections {
  const name = nameOfOne(data, path);
  const prefix = `workflows.${name}.`;
  return {
    agents: {},
    workflows: { [name]: data },
    others: [],
    locate(problem) {
      const own = problem.path.startsWith(prefix) ? problem.path.slice(prefix.length) : problem.path;
      return locate({ ...problem, path: own, file: path });
    },
  };
}

async function sectionsOfModule(path: string, cwd: string): Promise<FileSections> {
  const { agents, workflows, others } = await loadDefinitionFile(path, cwd);
  return {
    ...exportDefinition([...workflows.values()], [...agents.values()]),
    others,
    locate: (problem) => ({ ...problem, file: path }),
  };
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
