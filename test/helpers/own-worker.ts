/** A worker of its own, right in all that docs/protocol.md asks of one, but for what a test breaks in it. */
import type { Task } from "../../src/actors/task.ts";
import { createInbox, type Msg, type NatsConnection } from "../../src/runtime/nats/nats.ts";

/** What may be wrong with it. */
export type Defect =
  | "accepts nothing"
  | "accepts without a reply subject"
  | "accepts another delivery"
  | "publishes its outcome"
  | "leaves out the attempt"
  | "sends its outcome once"
  | "makes new bytes of its outcome"
  | "hears no receipt"
  | "hears no superseded"
  | "knows all fields"
  | "knows only ASCII"
  | "dies of much"
  | "passes over references"
  | "mixes tasks up"
  | "takes anything for a task"
  | "dies of what is no task"
  | "is in no queue group"
  | "hands over to anybody"
  | "always hands over"
  | "does it again"
  | "hears no owners"
  | "has every task"
  | "never says working"
  | "begins it twice"
  | "stays with the old owner"
  | "stops when it is known"
  | "hears no cancel"
  | "calls it otherwise";

type Work = { task: Task; reply: string; control: string; stop: () => void; stopped: boolean; outcome?: string };

export type OwnWorkerOptions = {
  nc: NatsConnection;
  agent: string;
  defect?: Defect | undefined;
  /** Tasks at a time. @default as many as come */
  room?: number;
  /** Whether its outputs are in the object store. @default false */
  refersOutput?: boolean;
};

/** How long the input "slow" takes. */
const SLOW_MS = 1_500;
const WORKING_MS = 300;
const RESEND_MS = 400;

/** Starts it; it ends with its connection. */
export function startOwnWorker({ nc, agent, defect, room = 1_000, refersOutput }: OwnWorkerOptions): void {
  const inbox = createInbox();
  const atWork = new Map<string, Work>();
  const outcomes = new Map<string, string>();
  let done = 0;
  let dead = false;
  let last: Work | undefined;
  const has = (broken: Defect) => defect === broken;

  nc.subscribe(`${inbox}.>`, { callback: (_, msg) => hearControl(msg) });
  nc.subscribe(`troupe.agents.${agent}`, {
    ...(has("is in no queue group") ? {} : { queue: "workers" }),
    callback: (_, msg) => hearTask(msg),
  });
  if (!has("hears no owners")) nc.subscribe("troupe.owners", { callback: (_, msg) => hearOwner(msg) });

  function hearTask(msg: Msg): void {
    if (dead) return;
    let task: Task;
    try {
      task = msg.json<Task>();
      if (task.v !== 1 || task.agent !== agent || !task.runId) throw new Error("not for this agent");
      if (!("input" in task || "refs" in task)) throw new Error("nothing to do");
    } catch {
      if (has("dies of what is no task")) dead = true;
      if (has("takes anything for a task")) msg.respond(JSON.stringify({ type: "accepted", taskId: "?", delivery: 1 }));
      return;
    }
    hear(`${task.runId}.${task.taskId}`, msg.reply ?? "", task);
  }

  function hearOwner(msg: Msg): void {
    const notice = msg.json<{ runId: string; tasks: string[]; reply: string }>();
    for (const taskId of notice.tasks) {
      const reply = `${notice.reply}.${taskId}`;
      if (has("has every task")) nc.publish(reply, JSON.stringify({ type: "accepted", taskId, delivery: 1 }));
      hear(`${notice.runId}.${taskId}`, reply);
    }
  }

  function hearControl(msg: Msg): void {
    const work = atWork.get(msg.subject.slice(inbox.length + 1));
    const { type } = msg.json<{ type: string }>();
    if (type === "cancel" ? !has("hears no cancel") : has("stops when it is known")) work?.stop();
  }

  function hear(key: string, reply: string, task?: Task): void {
    const outcome = outcomes.get(key);
    const work = atWork.get(key);
    const anew = (work && has("begins it twice")) || (outcome && has("does it again"));
    if (task && anew) begin(key, reply, task);
    else if (work) {
      if (!has("stays with the old owner")) work.reply = reply;
      work.task = task ?? work.task;
      accept(work, reply);
    } else if (outcome) nc.publish(reply, outcome, { reply: `${inbox}.receipt` });
    else if (task && atWork.size >= room) {
      nc.publish(
        reply,
        JSON.stringify({ type: "busy", taskId: task.taskId, delivery: task.delivery, worker: "own/1" }),
      );
    } else if (task) begin(key, reply, task);
  }

  function begin(key: string, reply: string, task: Task): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    const work: Work = { task, reply, control: `${inbox}.${key}`, stopped: false, stop: resolve };
    work.stop = () => {
      work.stopped = true;
      resolve();
    };
    atWork.set(key, work);
    last = work;
    accept(work, reply);
    if (task.input === "slow") setTimeout(resolve, SLOW_MS);
    else if (has("accepts nothing")) setTimeout(resolve, SLOW_MS);
    else setTimeout(resolve, has("mixes tasks up") ? 20 : 0);
    void promise.then(() => report(key, work));
  }

  function accept(work: Work, reply: string): void {
    if (has("accepts nothing")) return;
    const delivery = has("accepts another delivery") ? 7 : work.task.delivery;
    const said = { type: "accepted", taskId: work.task.taskId, delivery, worker: "own/1" };
    nc.publish(reply, JSON.stringify(said), has("accepts without a reply subject") ? {} : { reply: work.control });
  }

  async function report(key: string, work: Work): Promise<void> {
    const bytes = outcomeOf(work);
    if (bytes === undefined) return;
    outcomes.set(key, bytes);
    for (let tries = 0; tries < 10; tries++) {
      const { reply } = has("mixes tasks up") && last ? last : work;
      const sent = has("makes new bytes of its outcome") ? `${bytes}${" ".repeat(tries)}` : bytes;
      if (has("publishes its outcome")) return nc.publish(reply, sent);
      const receipt = await nc.request(reply, sent, { timeout: RESEND_MS }).then(
        (msg) => msg.json<{ type: string }>().type,
        () => undefined,
      );
      if (has("sends its outcome once") || (receipt && !isDeaf(receipt))) break;
      if (receipt) await new Promise((resolve) => setTimeout(resolve, RESEND_MS));
    }
    atWork.delete(key);
  }

  function isDeaf(receipt: string): boolean {
    return has("hears no receipt") || (has("hears no superseded") && receipt === "superseded");
  }

  function outcomeOf({ task, stopped }: Work): string | undefined {
    const { taskId, attempt } = task;
    const about = { v: 1, taskId, ...(has("leaves out the attempt") ? {} : { attempt }), worker: "own/1" };
    const failed = (code: string) => JSON.stringify({ ...about, type: "failed", error: { code, message: code } });
    if (stopped) return failed(has("calls it otherwise") ? "stopped" : "cancelled");
    if (task.refs && !has("passes over references")) return failed("bad_reference");
    if ("later" in task && has("knows all fields")) return failed("unknown_field");
    const text = String(task.input);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the range is what ASCII is
    if (has("knows only ASCII") && /[^\u0000-\u007f]/.test(text)) return failed("not_ascii");
    if (has("dies of much") && text.length > 100_000) return undefined;
    const [option] = task.handoffs;
    if ((text === "over" && option) || has("always hands over")) {
      return JSON.stringify({
        ...about,
        type: "handoff",
        to: has("hands over to anybody") ? "anybody" : (option?.to ?? "x"),
      });
    }
    done += 1;
    if (refersOutput) {
      const refs = [{ at: "/output", ref: "obj:troupe_uploads/own-1", bytes: 6, sha256: "0".repeat(64) }];
      return JSON.stringify({ ...about, type: "completed", refs });
    }
    return JSON.stringify({ ...about, type: "completed", output: has("does it again") ? done : "done" });
  }

  const speaking = setInterval(() => {
    if (has("never says working")) return;
    for (const { task, reply, control } of atWork.values()) {
      const { taskId, delivery } = task;
      nc.publish(reply, JSON.stringify({ type: "working", taskId, delivery, worker: "own/1" }), { reply: control });
    }
  }, WORKING_MS);
  void nc.closed().then(() => clearInterval(speaking));
}
