/**
 * The model of the examples: OpenAI (or whatever speaks its protocol at `OPENAI_BASE_URL`) when `OPENAI_API_KEY` is set,
 * else a script. The script calls no provider and says so: its answers come from "scripted-model" and begin with [scripted].
 */
import type { Model } from "../src/actors/model.ts";
import { openaiModel } from "../src/runtime/models/openai.ts";
import { callTool, handOff, say } from "../src/testing/replies.ts";
import { type Rule, rulesModel, type Situation } from "../src/testing/rules-model.ts";

/** What `providers.demo.options` of `troupe.yaml` may hold. */
type DemoOptions = {
  /** How long a scripted reply takes, in milliseconds, so that there is something to watch. @default 300 */
  delayMs?: number;
};

/** Makes the model of the provider `demo`. */
export default function demoModel({ delayMs = 300 }: DemoOptions = {}): Model {
  const { OPENAI_API_KEY: apiKey, OPENAI_BASE_URL: baseURL } = process.env;
  if (apiKey) return openaiModel({ apiKey, ...(baseURL ? { baseURL } : {}) });
  return rulesModel(RULES, { delayMs });
}

const RULES: readonly Rule[] = [
  // article
  {
    agent: "researcher",
    reply: (s) => scripted(`Three facts about ${topicOf(s)}: it has a past, a present, and people who care.`),
  },
  {
    agent: "writer",
    reply: (s) =>
      scripted(
        `${titleOf(s)}\n\nEverything about ${topicOf(s)} begins with a past, goes on in a present, and lives by people who care.`,
      ),
  },
  {
    agent: "editor",
    reply: (s) =>
      scripted(
        `${titleOf(s)}\n\n${sentence(topicOf(s))} has a past, a present, and people who care. That is the story.`,
      ),
  },

  // review
  { agent: "fact_checker", reply: scripted("No claim in the text is wrong; one has no source.") },
  { agent: "stylist", reply: scripted("Clear and friendly; the second sentence is too long.") },
  {
    agent: "reviewer",
    reply: say({
      verdict: "revise",
      reasons: ["[scripted] One claim has no source.", "[scripted] One sentence is too long."],
    }),
  },

  // support
  {
    agent: "triage",
    when: /invoice|bill|refund|charge|pay|INV-\d/i,
    reply: handOff("billing", { reason: "a question about money" }),
  },
  {
    agent: "triage",
    when: /error|crash|log ?in|bug|broken|slow/i,
    reply: handOff("tech", { reason: "a technical problem" }),
  },
  { agent: "triage", reply: scripted("Hello! Is this about an invoice or about a technical problem?") },
  {
    agent: "billing",
    when: /INV-\d{4}/,
    afterTool: false,
    reply: (s) => callTool("lookup_invoice", { number: invoiceIn(s) }),
  },
  { agent: "billing", afterTool: "lookup_invoice", reply: (s) => scripted(answerAbout(s)) },
  { agent: "billing", reply: scripted("I can look that up. Which invoice is it? Its number looks like INV-1002.") },
  {
    agent: "tech",
    reply: scripted(
      "Please sign out, clear the browser's cache and sign in again. If it happens again, send us the time it happened.",
    ),
  },
];

function scripted(text: string) {
  return say(`[scripted] ${text}`);
}

/** A step after the first is given the request between tags. */
function topicOf({ lastUser }: Situation): string {
  return (/<request>\n(.*?)\n<\/request>/s.exec(lastUser)?.[1] ?? lastUser).trim();
}

function titleOf(situation: Situation): string {
  return `# ${sentence(topicOf(situation))}`;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function invoiceIn({ lastUser }: Situation): string {
  return /INV-\d{4}/.exec(lastUser)?.[0] ?? "";
}

function answerAbout({ toolResults }: Situation): string {
  const content = toolResults.findLast(({ name }) => name === "lookup_invoice")?.content ?? "";
  const charges = Number(/"charges":\s*(\d+)/.exec(content)?.[1] ?? Number.NaN);
  if (charges > 1)
    return `The invoice was charged ${charges} times. We refund the rest within three days. Sorry for the trouble!`;
  return charges === 1 ? "The invoice was charged once, as it should be." : `This is what our books say: ${content}`;
}
