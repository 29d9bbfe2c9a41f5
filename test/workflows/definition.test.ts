import { describe, expect, it } from "vitest";
import { z } from "zod";
import { defineAgent } from "../../src/actors/define-agent.ts";
import { handoff } from "../../src/actors/handoff.ts";
import { DefinitionError } from "../../src/errors.ts";
import { defineWorkflow } from "../../src/workflows/define-workflow.ts";
import type { DeterministicDefinition, HandoffDefinition } from "../../src/workflows/definition.ts";
import { parseWorkflow } from "../../src/workflows/parse-definition.ts";

const words = { instructions: "Work.", model: "gpt-5-mini" };
const agents = new Map(["researcher", "writer", "editor"].map((name) => [name, defineAgent({ ...words, name })]));

function read(raw: unknown, name = "article") {
  return parseWorkflow(name, raw, { agents, file: "troupe.yaml" });
}

function deterministic(raw: unknown): DeterministicDefinition {
  const { definition, problems } = read(raw);
  if (definition?.kind !== "deterministic") throw new Error(JSON.stringify(problems));
  return definition;
}

function complaints(raw: unknown): string[] {
  return read(raw).problems.map(({ path, expected, got }) => `${path}: expected ${expected}, got ${got}`);
}

const step = (id: string, more: object = {}) => ({ id, agent: "writer", ...more });

describe("deterministic definitions", () => {
  it("the short form is a chain of steps named after their agents", () => {
    const { steps, version, kind } = deterministic({ agents: ["researcher", "writer", "writer", "editor"] });
    expect({ version, kind }).toEqual({ version: "1", kind: "deterministic" });
    expect(steps.map(({ id, after, ...step }) => ({ id, agent: step.kind === "agent" && step.agent, after }))).toEqual([
      { id: "researcher", agent: "researcher", after: [] },
      { id: "writer", agent: "writer", after: ["researcher"] },
      { id: "writer-2", agent: "writer", after: ["writer"] },
      { id: "editor", agent: "editor", after: ["writer-2"] },
    ]);
  });

  it("a repeated agent does not take the id of an agent that is named like its number", () => {
    const team = new Map(["writer", "writer-2"].map((name) => [name, defineAgent({ ...words, name })]));
    const { definition } = parseWorkflow("w", { agents: ["writer", "writer", "writer-2"] }, { agents: team });
    expect((definition as DeterministicDefinition).steps.map(({ id }) => id)).toEqual([
      "writer",
      "writer-3",
      "writer-2",
    ]);
  });

  it("steps run at once unless `after` says otherwise, and stand in an order that is possible", () => {
    const { steps } = deterministic({
      steps: [step("join", { after: ["a", "b"] }), step("a"), step("b", { after: "a" })],
    });
    expect(steps.map(({ id, after }) => [id, after])).toEqual([
      ["a", []],
      ["b", ["a"]],
      ["join", ["a", "b"]],
    ]);
    expect(deterministic({ steps: [step("x"), step("y")] }).steps.every(({ after }) => after.length === 0)).toBe(true);
  });

  it("retries have their defaults, and a longer first delay lifts the longest", () => {
    const { steps } = deterministic({ steps: [step("a"), step("b", { retry: { maxAttempts: 3, delayMs: 60_000 } })] });
    expect(steps.map(({ retry }) => retry)).toEqual([
      { maxAttempts: 1, backoff: "exponential", delayMs: 500, maxDelayMs: 30_000 },
      { maxAttempts: 3, backoff: "exponential", delayMs: 60_000, maxDelayMs: 60_000 },
    ]);
  });

  it("a step that comes after one that does not exist is told which there are", () => {
    expect(complaints({ steps: [step("facts"), step("score"), step("write", { after: ["facts", "wirte"] })] })).toEqual(
      [`workflows.article.steps[2].after[1]: expected the id of another step (facts, score), got "wirte"`],
    );
  });

  it("a circle is listed", () => {
    const steps = [step("a", { after: "c" }), step("b", { after: "a" }), step("c", { after: "b" }), step("d")];
    expect(complaints({ steps })).toEqual([
      "workflows.article.steps: expected steps without a circle, got b → c → a → b",
    ]);
    expect(complaints({ steps: [step("a", { after: "a" })] })[0]).toContain("steps[0].after: expected nothing");
  });

  it("all problems are told at once, those of shape with those of sense", () => {
    const steps = [
      step("a", { agent: "wirter", retry: { maxAttempts: 0 }, whence: "true" }),
      step("a", { input: "{{ steps.b.output }}", timeoutMs: "5s" }),
    ];
    expect(complaints({ steps, timeoutMs: -1 })).toEqual([
      "workflows.article.timeoutMs: expected a whole number of milliseconds from 1 to 2147483647, got -1",
      "workflows.article.steps[0].retry.maxAttempts: expected a number of at least 1, got 0",
      `workflows.article.steps[0].whence: expected one of the keys id, agent, tool, approval, wait, workflow, steps, after, when, needs, onError, switch, input, output, retry, timeoutMs, compensate, forEach, concurrency, repeat, got "true"`,
      `workflows.article.steps[1].timeoutMs: expected a whole number of milliseconds from 1 to 2147483647, got "5s"`,
      `workflows.article.steps[0].agent: expected an agent's name: one of researcher, writer, editor, got "wirter"`,
      `workflows.article.steps[1].id: expected an id no other step has, got "a"`,
      `workflows.article.steps[1].input: expected a step that comes before (a), got "steps.b"`,
    ]);
    expect(read({ steps: 3 }).problems[0]).toMatchObject({ file: "troupe.yaml" });
  });

  it("a template may speak of every step that has surely completed, and of no other", () => {
    const steps = [
      step("a"),
      step("b", { after: "a" }),
      step("c", { after: "b", input: "{{ steps.a.output }}" }),
      step("d"),
    ];
    expect(complaints({ steps })).toEqual([]);
    const wrong = [...steps, step("e", { after: "d", input: "{{ steps.a.output }}" })];
    expect(complaints({ steps: wrong })).toEqual([
      `workflows.article.steps[4].input: expected a step that comes before (d), got "steps.a"`,
    ]);
  });

  it("either form is needed and not both", () => {
    expect(complaints({})[0]).toContain("expected either `agents`, one after the other, or `steps`, got neither");
    expect(complaints({ agents: ["writer"], steps: [step("a")] })[0]).toContain("got both");
    expect(complaints({ agents: [] })).toEqual(["workflows.article.agents: expected at least 1 entry, got []"]);
    expect(complaints("writer")).toEqual([`workflows.article: expected an object, got "writer"`]);
  });

  it("a kind there is not is told those there are", () => {
    expect(complaints({ kind: "loop", agents: ["writer"] })).toEqual([
      `workflows.article.kind: expected one of "deterministic", "handoff", got "loop"`,
    ]);
  });

  it("the input's schema may be zod or JSON Schema, and has to be one that can be checked", () => {
    const { input } = deterministic({ agents: ["writer"], input: z.object({ topic: z.string() }) });
    expect(input).toEqual({ type: "object", properties: { topic: { type: "string" } }, required: ["topic"] });
    expect(complaints({ agents: ["writer"], input: { type: "topic" } })[0]).toMatch(
      /^workflows\.article\.input: expected a JSON/,
    );
  });
});

describe("branches in definitions", () => {
  it("are kept as they are written, a switch as what it means, and defaults not at all", () => {
    const { steps } = deterministic({
      steps: [
        step("pay", { onError: "undo", switch: { on: "steps.pay.output", cases: { a: "x", b: "x" }, default: "y" } }),
        step("y", { when: "input == 1", needs: "any" }),
        step("x", { after: "pay", onError: "continue" }),
        step("undo"),
        step("plain", { needs: "all", onError: "fail" }),
      ],
    });
    const isOneOf = `steps.pay.output in ["a", "b"]`;
    const orders = steps.map((step) => ({ ...step, retry: undefined, kind: undefined, agent: undefined }));
    expect(orders).toEqual([
      { id: "pay", after: [], onError: "undo" },
      { id: "y", after: ["pay"], when: `(!(${isOneOf})) && (input == 1)`, needs: "any" },
      { id: "x", after: ["pay"], when: isOneOf, onError: "continue" },
      { id: "undo", after: [] },
      { id: "plain", after: [] },
    ]);
  });

  it("a step stands after those whose errors it handles", () => {
    const { steps } = deterministic({ steps: [step("undo"), step("pay", { onError: "undo" })] });
    expect(steps.map(({ id }) => id)).toEqual(["pay", "undo"]);
  });

  it("all that is wrong with their shape and their steps is told at once, with that in their expressions", () => {
    const steps = [
      step("a", { when: "{{ input.x }}", needs: "any", onError: "z", agent: "wirter" }),
      step("b", { when: "1 + 1", after: "a", onError: "b" }),
      step("c", { switch: { on: "previous.output", cases: { x: "q", y: "a" }, default: "c" } }),
      step("d", { switch: { on: "size(input)", cases: { x: "a" } }, when: "steps.nobody.output" }),
      step("e", { input: "{{ input. }}", after: "gone", needs: "always" }),
    ];
    expect(complaints({ steps })).toEqual([
      `workflows.article.steps[3].switch: expected steps no other switch leads to, got "a", to which that of c leads`,
      `workflows.article.steps[0].agent: expected an agent's name: one of researcher, writer, editor, got "wirter"`,
      `workflows.article.steps[0].onError: expected "fail", "continue" or the id of another step (b, c, d, e), got "z"`,
      `workflows.article.steps[1].onError: expected "fail", "continue" or the id of another step (a, c, d, e), got "b"`,
      `workflows.article.steps[2].switch.cases.x: expected the id of another step (a, b, d, e), got "q"`,
      `workflows.article.steps[2].switch.default: expected the id of another step (a, b, d, e), got "c"`,
      `workflows.article.steps[4].after: expected the id of another step (a, b, c, d), got "gone"`,
      `workflows.article.steps[0].when: expected a CEL expression without {{ }}, got "{{ input.x }}": Expected COLON, got RBRACE`,
      `workflows.article.steps[1].when: expected an expression that is true or false, got "1 + 1", which is int`,
      'workflows.article.steps[2].switch.on: expected a step by its id, as `previous` is not the same for all that a switch leads to, got "previous.output"',
      `workflows.article.steps[3].when: expected a step that comes before (a, b, c, d, e), got "steps.nobody"`,
      `workflows.article.steps[3].switch.on: expected an expression whose value is text, got "size(input)", which is int`,
      `workflows.article.steps[4].input: expected a CEL expression, got "input.": Expected IDENTIFIER, got EOF`,
    ]);
  });

  it.each<[string, object[], string]>([
    [
      "`needs` without `after`",
      [step("a", { needs: "always" })],
      'steps[0].needs: expected no `needs` where there is no `after`, got "always"',
    ],
    [
      "a condition on a step that does not come before",
      [step("a"), step("b", { when: "steps.a.output == 1" })],
      'steps[1].when: expected no reference to a step, for none comes before, got "steps.a"',
    ],
    [
      "a dash in an id",
      [step("a-b"), step("c", { after: "a-b", when: "steps.a-b.output" })],
      'steps[1].when: expected a CEL expression (with "-" in its id a step is written steps["a-b"]), got "steps.a-b.output": Unknown variable: b',
    ],
    [
      "a handler that comes before",
      [step("a"), step("b", { after: "a" }), step("c", { after: "b", onError: "a" })],
      'steps[2].onError: expected a step that does not come before, got "a"',
    ],
    [
      "handlers in a circle",
      [step("a", { onError: "b" }), step("b", { onError: "a" })],
      "steps: expected steps without a circle, got b → a → b",
    ],
    [
      "a switch that leads back",
      [step("a"), step("b", { after: "a", switch: { on: "steps.a.output", cases: { x: "a" } } })],
      "steps: expected steps without a circle, got b → a → b",
    ],
    [
      "a switch without cases",
      [step("a", { switch: { on: "'x'", cases: {} } })],
      "steps[0].switch.cases: expected at least one case, got {}",
    ],
    [
      "a step that is called like a way to go on",
      [step("continue"), step("b", { onError: "continue" })],
      'steps[1].onError: expected a step of another name than "continue", got "continue"',
    ],
    [
      "another word than those of `needs`",
      [step("a"), step("b", { after: "a", needs: "some" })],
      'steps[1].needs: expected one of "all", "any", "always", got "some"',
    ],
  ])("%s is told", (_, steps, problem) => {
    expect(complaints({ steps })).toContain(`workflows.article.${problem}`);
  });
});

describe("handoff definitions", () => {
  const payload = z.object({ invoice: z.string() });
  const billing = defineAgent({ ...words, name: "billing", description: "Invoices.", handoffs: ["triage", "sales"] });
  const tech = defineAgent({ ...words, name: "tech" });
  const triage = defineAgent({
    ...words,
    name: "triage",
    handoffs: [handoff(billing, { input: payload, context: "summary" }), handoff(tech, { context: () => [] })],
  });
  const team = new Map([triage, billing, tech].map((agent) => [agent.name, agent]));
  const support = { entry: "triage", agents: ["triage", "billing", "tech"] };

  it("edges within the workflow become options that can travel; others are left out", () => {
    const { definition } = parseWorkflow("support", support, { agents: team });
    expect(definition).toMatchObject({ kind: "handoff", entry: "triage", maxHandoffs: 16, maxVisits: 8 });
    expect((definition as HandoffDefinition).agents).toEqual({
      triage: [
        {
          to: "billing",
          description: "Invoices.",
          context: "summary",
          input: {
            type: "object",
            properties: { invoice: { type: "string" } },
            required: ["invoice"],
            additionalProperties: false,
          },
        },
        { to: "tech" },
      ],
      billing: [{ to: "triage", context: "full" }],
      tech: [],
    });
  });

  it("an entry outside the workflow, an unknown agent and one out of reach are problems", () => {
    const unknown = parseWorkflow("support", { entry: "tirage", agents: ["triage", "bill"] }, { agents: team });
    expect(unknown.problems.map(({ path, got }) => `${path} ${got}`)).toEqual([
      `workflows.support.agents[1] "bill"`,
      `workflows.support.entry "tirage"`,
    ]);
    const lost = parseWorkflow("support", { entry: "billing", agents: ["billing", "tech"] }, { agents: team });
    expect(lost.problems).toMatchObject([{ path: "workflows.support.agents[1]", got: `"tech"` }]);
  });

  it("in TypeScript agents stand for themselves", () => {
    const definition = defineWorkflow({
      name: "support",
      entry: triage,
      agents: [triage, billing, tech],
      maxHandoffs: 4,
    });
    const { definition: same } = parseWorkflow("support", { ...support, maxHandoffs: 4 }, { agents: team });
    expect(definition).toEqual(same);
  });

  it("in TypeScript names will do where no handoffs are needed", () => {
    expect(defineWorkflow({ name: "article", agents: ["researcher", tech] })).toMatchObject({ kind: "deterministic" });
    expect(() => defineWorkflow({ name: "support", entry: "triage", agents: ["triage"] })).toThrow(DefinitionError);
  });

  it("two agents of one name are refused", () => {
    const other = defineAgent({ ...words, name: "tech" });
    expect(() => defineWorkflow({ name: "w", agents: [tech, other] })).toThrow(`expected one agent named "tech"`);
  });
});

describe("the hash of a definition", () => {
  const base = { steps: [step("a"), step("b", { after: "a", input: { x: 1, y: 2 } })] };
  const hash = (raw: object) => deterministic(raw).hash;

  it("is 16 hexadecimal digits and the same for the same content", () => {
    expect(hash(base)).toMatch(/^[0-9a-f]{16}$/);
    expect(hash({ steps: [step("a"), step("b", { input: { y: 2, x: 1 }, after: ["a"] })] })).toBe(hash(base));
  });

  it("is what it was before there were branches, for definitions without any", () => {
    const steps = [
      { id: "join", agent: "w", after: ["a", "b"], input: "{{ previous.output }}", timeoutMs: 500 },
      { id: "a", agent: "r", retry: { maxAttempts: 3 } },
      { id: "b", agent: "r", after: "a" },
    ];
    expect(defineWorkflow({ name: "pinned", steps }).hash).toBe("7e6aacc70dbfdc56");
  });

  it("does not change with words that decide nothing", () => {
    expect(hash({ ...base, version: 2, description: "new", input: { type: "string" } })).toBe(hash(base));
  });

  it.each([
    ["an agent", { steps: [step("a", { agent: "editor" }), base.steps[1]] }],
    ["an edge", { steps: [step("a"), step("b", { input: { x: 1, y: 2 } })] }],
    ["a template", { steps: [step("a"), step("b", { after: "a", input: { x: 1, y: 3 } })] }],
    ["a retry", { steps: [step("a", { retry: { maxAttempts: 2 } }), base.steps[1]] }],
    ["a timeout", { ...base, timeoutMs: 1_000 }],
    ["a condition", { steps: [step("a", { when: "true" }), base.steps[1]] }],
    ["what is needed", { steps: [step("a"), { ...base.steps[1], needs: "any" }] }],
    ["what an error leads to", { steps: [step("a", { onError: "continue" }), base.steps[1]] }],
  ])("changes with %s", (_, changed) => {
    expect(hash(changed)).not.toBe(hash(base));
  });
});

describe("groups in definitions", () => {
  const inner = (id: string, more: object = {}) => ({ id, agent: "writer", ...more });

  it("say everything that is wrong in them at once, with its path", () => {
    const steps = [
      inner("first"),
      {
        id: "loop",
        after: "first",
        repeat: { until: "steps.score.output.value > last.value && output && steps.later.output", max: 20_000 },
        steps: [
          inner("score", { input: "{{ item }} {{ last }} {{ steps.first.output }} {{ steps.later.output }}" }),
          inner("first"),
          inner("deep", { after: "first", when: "index", agent: "wirter" }),
          { id: "empty", steps: [], retry: { maxAttempts: 2 } },
        ],
      },
      inner("later", { input: "{{ steps.score.output }} {{ index }} {{ output }}", concurrency: 2 }),
      inner("both", { steps: [inner("x", { after: "y" }), inner("y", { after: "x" })], timeoutMs: 10 }),
      { id: "neither", forEach: "{'a': 1}", repeat: { until: "1", max: 1 } },
    ];
    const at = (path: string) => `workflows.article.steps${path}`;
    expect(complaints({ steps }).sort()).toEqual([
      at("[1].repeat.max: expected a number of at most 10000, got 20000"),
      at('[1].repeat.until: expected a step that comes before (score, first, deep, empty, first), got "steps.later"'),
      at('[1].steps[0].input: expected `item` only inside of `forEach`, got "item"'),
      at('[1].steps[0].input: expected a step that comes before (first), got "steps.later"'),
      at('[1].steps[1].id: expected an id no step around the group has, got "first"'),
      at('[1].steps[2].agent: expected an agent\'s name: one of researcher, writer, editor, got "wirter"'),
      at("[1].steps[3].steps: expected at least 1 entry, got []"),
      at("[2].concurrency: expected no `concurrency` where there is no `forEach`, got 2"),
      at('[2].input: expected `index` only inside of `forEach` or `repeat`, got "index"'),
      at('[2].input: expected `output` only in `until` and `compensate`, got "output"'),
      at('[2].input: expected no reference to a step, for none comes before, got "steps.score"'),
      at("[3].steps: expected steps without a circle, got y → x → y"),
      at("[3]: expected one of `agent`, `tool`, `approval`, `wait`, `workflow`, `steps`, got agent and steps"),
      at("[4].forEach: expected an expression whose value is a list, got \"{'a': 1}\", which is map<string, int>"),
      at('[4].repeat.until: expected an expression that is true or false, got "1", which is int'),
      at(
        '[4].repeat: expected no `repeat` beside `forEach`: one of them around `steps` with the other, got {"until":"1","max":1}',
      ),
      at("[4]: expected one of `agent`, `tool`, `approval`, `wait`, `workflow`, `steps`, got none"),
    ]);
  });

  it("keep what is written and no more", () => {
    const { steps, concurrency } = deterministic({
      concurrency: 4,
      steps: [
        {
          id: "g",
          forEach: "input",
          concurrency: 3,
          steps: [inner("b", { after: "a" }), inner("a", { needs: "all" })],
        },
        inner("r", { repeat: { until: "output", max: 3 } }),
      ],
    });
    expect(concurrency).toBe(4);
    const plain = (list: readonly object[]): unknown[] =>
      list.map((step) => {
        const { retry: _retry, steps, ...rest } = step as { retry: unknown; steps?: object[] };
        return steps ? { ...rest, steps: plain(steps) } : rest;
      });
    expect(plain(steps)).toEqual([
      {
        kind: "group",
        id: "g",
        after: [],
        forEach: "input",
        concurrency: 3,
        steps: [
          { kind: "agent", id: "a", agent: "writer", after: [] },
          { kind: "agent", id: "b", agent: "writer", after: ["a"] },
        ],
      },
      { kind: "agent", id: "r", agent: "writer", after: [], repeat: { until: "output", max: 3 } },
    ]);
  });

  it.each([
    ["a step in it", { steps: [inner("b")] }],
    ["its list", { forEach: "[2]" }],
    ["how many items at once", { concurrency: 2 }],
    ["its repetition", { forEach: undefined, repeat: { until: "true", max: 2 } }],
  ])("have another hash with another of %s", (_, more) => {
    const hash = (step: object) => deterministic({ steps: [step] }).hash;
    const base = { id: "g", forEach: "[1]", steps: [inner("a")] };
    expect(hash({ ...base, ...more })).not.toBe(hash(base));
  });

  it("of `item` in a macro of an expression's own are no complaint", () => {
    expect(complaints({ steps: [inner("a", { input: "{{ input.map(item, item.x) }}" })] })).toEqual([]);
    expect(complaints({ steps: [inner("a", { input: "{{ item.map(x, x) }}" })] })).toHaveLength(1);
  });
});
