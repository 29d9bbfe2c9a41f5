import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { DefinitionError, describeProblem } from "../../../src/errors.ts";
import { loadConfig } from "../../../src/runtime/config/load-config.ts";

const FILE = `agents:
  writer: { instructions: Write., model: any, maxTurns: none }
  editor: { instructions: Edit. }
  critic: { instructions: Judge., model: any, tools: [search], handoffs: [nobody] }

workflows:
  article:
    timeoutMs: soon
    steps:
      - { id: draft, agent: wirter }
      - { id: edit, agent: editor, after: darft }
      - { id: check, agent: critic, after: edit, when: "steps.draft.output ==" }
      - { id: again, agent: critic, after: check, colour: red }

daemon:
  beatMs: often
`;

it("ten mistakes in a file are ten reports, each with its line, its path, what was expected and what stands there", async () => {
  const dir = await mkdtemp(join(tmpdir(), "troupe-mistakes-"));
  await writeFile(join(dir, "troupe.yaml"), FILE);
  const error = await loadConfig(undefined, dir).catch((thrown: unknown) => thrown);
  await rm(dir, { recursive: true });
  const { problems } = error as DefinitionError;
  expect(error).toBeInstanceOf(DefinitionError);
  expect(problems.map(describeProblem).sort(byLine)).toEqual([
    'troupe.yaml:2: agents.writer.maxTurns: expected a number, got "none"',
    "troupe.yaml:3: agents.editor.model: expected text (only remote agents do without), got nothing",
    'troupe.yaml:4: agents.critic.tools[0]: expected the name of a tool from the section `tools`, which has none, got "search"',
    'troupe.yaml:4: agents.critic.handoffs[0]: expected the name of an agent: one of writer, editor, critic, got "nobody"',
    'troupe.yaml:8: workflows.article.timeoutMs: expected a whole number of milliseconds from 1 to 2147483647, got "soon"',
    'troupe.yaml:10: workflows.article.steps[0].agent: expected an agent\'s name: one of writer, editor, critic, got "wirter"',
    'troupe.yaml:11: workflows.article.steps[1].after: expected the id of another step (draft, check, again), got "darft"',
    'troupe.yaml:12: workflows.article.steps[2].when: expected a CEL expression, got "steps.draft.output ==": Unexpected token: EOF',
    expect.stringMatching(
      /^troupe.yaml:13: workflows.article.steps\[3\].colour: expected one of the keys id, .*, got "red"$/,
    ),
    'troupe.yaml:16: daemon.beatMs: expected a duration such as 2500, 2.5s, 1m, 1h or 7d, from 10 to 2147483647 ms, got "often"',
  ]);
});

function byLine(a: string, b: string): number {
  return Number(a.split(":")[1]) - Number(b.split(":")[1]);
}
