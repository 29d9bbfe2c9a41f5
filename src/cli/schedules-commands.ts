/** `troupe schedules …`: what starts by itself, and when. */
import { type Command, Option } from "commander";
import { NotFoundError } from "../errors.ts";
import type { Client } from "../runtime/edges/client.ts";
import type { ScheduleListing } from "../runtime/edges/schedule-api.ts";
import { type ScheduleOptions, timingOf } from "../workflows/schedule.ts";
import { asksDaemon, does } from "./cli-command.ts";
import { durationFlag } from "./duration-flag.ts";
import { type Given, withClient } from "./open-client.ts";
import { print, printJson } from "./print.ts";
import { parseInput } from "./read-input.ts";
import { dim, paintStatus, yellow } from "./style.ts";
import { renderTable } from "./table.ts";
import { dateAndTime, durationBetween } from "./words.ts";

const EXAMPLES = `
Examples:
  troupe schedules list
  troupe schedules put nightly report --cron "0 3 * * *" --timezone Europe/Berlin
  troupe schedules put reminder mail '{"to": "ada"}' --at 2030-01-31T09:00:00Z
  troupe schedules put poll check --every 5m --missed skip --overlap skip
  troupe schedules pause nightly`;

type Asked = Given & { json?: boolean };

/** Adds the commands to the program. */
export function addSchedulesCommands(program: Command): void {
  const schedules = program
    .command("schedules")
    .description("List, put, pause, resume and delete schedules.")
    .addHelpText("after", EXAMPLES);

  does(
    asksDaemon(schedules.command("list").description("List schedules: when next, and what they started last.")),
    list,
  );

  const putting = schedules
    .command("put")
    .description("Make a schedule, or put another one in its place.")
    .argument("<name>")
    .argument("<workflow>", "the workflow it starts")
    .argument("[input]", "text or JSON; without it the schedule's name and the instant it was due")
    .option("--cron <expression>", 'Five fields, or six with seconds first, such as "0 3 * * *".')
    .option("--timezone <name>", "The time zone of --cron, such as Europe/Berlin. (default: UTC)")
    .option("--at <instant>", "Once, such as 2030-01-31T09:00:00Z.")
    .option("--every <duration>", "At every multiple of it since 1970, such as 5m.", durationFlag)
    .addOption(
      new Option("--missed <policy>", "What was due while no daemon was there. (default: once)").choices([
        "once",
        "skip",
        "all",
      ]),
    )
    .addOption(
      new Option("--overlap <policy>", "What is due while the run before goes on. (default: allow)").choices([
        "allow",
        "skip",
      ]),
    )
    .option("--paused", "It does not fire until it is resumed.");
  does(asksDaemon(putting), put);

  const named = (verb: string, description: string) =>
    asksDaemon(schedules.command(verb).description(description).argument("<name>"));
  does(named("pause", "Keep a schedule from firing."), (given: Asked, name: string) => setPaused(given, name, true));
  does(named("resume", "Let it fire again, from now on."), (given: Asked, name: string) =>
    setPaused(given, name, false),
  );
  does(named("delete", "Delete a schedule; its runs stay."), remove);
}

async function list(given: Asked): Promise<void> {
  const schedules = await withClient(given, (client) => client.schedules());
  if (given.json) return printJson({ schedules });
  if (schedules.length === 0) return print("No schedules.");
  print(renderTable(["SCHEDULE", "WORKFLOW", "WHEN", "NEXT", "LAST", "RUN", ""], schedules.map(rowOf)));
}

function rowOf(schedule: ScheduleListing): string[] {
  const { name, workflow, next, last } = schedule;
  return [
    name,
    workflow,
    timingWords(schedule),
    next === undefined ? nothingNext(schedule) : dateAndTime(next),
    last ? dateAndTime(last.dueAt) : "",
    last?.runId ?? "",
    last?.status ? paintStatus(last.status) : "",
  ];
}

function nothingNext({ paused, declared, last }: ScheduleListing): string {
  if (paused) return yellow("paused");
  return dim(declared && !last ? "no daemon has it" : "never");
}

function timingWords(schedule: ScheduleListing): string {
  if ("cron" in schedule) return `${schedule.cron} ${dim(schedule.timezone)}`;
  if ("at" in schedule) return `at ${dateAndTime(schedule.at)}`;
  return `every ${durationBetween(new Date(0).toISOString(), new Date(schedule.everyMs).toISOString())}`;
}

type PutGiven = Asked & {
  cron?: string;
  timezone?: string;
  at?: string;
  every?: number;
  missed?: "once" | "skip" | "all";
  overlap?: "allow" | "skip";
  paused?: boolean;
};

async function put(given: PutGiven, name: string, workflow: string, input: string | undefined): Promise<void> {
  const { cron, timezone, at, every: everyMs, missed, overlap, paused } = given;
  const asked = {
    workflow,
    ...(cron !== undefined && { cron }),
    ...(timezone !== undefined && { timezone }),
    ...(at !== undefined && { at }),
    ...(everyMs !== undefined && { everyMs }),
    ...(input !== undefined && { input: parseInput(input) }),
    ...(missed !== undefined && { missed }),
    ...(overlap !== undefined && { overlap }),
    ...(paused && { paused }),
    // What does not go together is told by who checks it.
  } as ScheduleOptions;
  tellOne(given, await withClient(given, (client) => client.putSchedule(name, asked)));
}

async function setPaused(given: Asked, name: string, paused: boolean): Promise<void> {
  tellOne(given, await withClient(given, (client) => change(client, name, paused)));
}

async function change(client: Client, name: string, paused: boolean): Promise<ScheduleListing> {
  const found = (await client.schedules()).find((schedule) => schedule.name === name);
  if (!found) throw new NotFoundError(`no schedule ${JSON.stringify(name)}`, "unknown_schedule");
  const { workflow, input, missed, overlap } = found;
  const same = { ...timingOf(found), workflow, missed, overlap, ...(input !== undefined && { input }) };
  return client.putSchedule(name, { ...same, paused });
}

function tellOne({ json }: Asked, schedule: ScheduleListing): void {
  const { name, paused, next } = schedule;
  if (json) printJson(schedule);
  else print(`${name}: ${paused ? "paused" : next === undefined ? "never due" : `next ${dateAndTime(next)}`}`);
}

async function remove(given: Asked, name: string): Promise<void> {
  await withClient(given, (client) => client.deleteSchedule(name));
  if (given.json) printJson({ name });
  else print(`deleted ${name}`);
}
