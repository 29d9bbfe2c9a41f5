/** `troupe/testing`: what tests and demos of your own agents need. */
export type { CassetteOptions } from "./cassette.ts";
export type { Secrets } from "./hide-secrets.ts";
export type { RecordOptions } from "./record-model.ts";
export { recordModel } from "./record-model.ts";
export type { ReplayedModel, ReplayOptions } from "./replay-model.ts";
export { replayModel } from "./replay-model.ts";
export type { ReplyOptions, ScriptedCall, ScriptedReply } from "./replies.ts";
export { callTool, callTools, fail, handOff, say } from "./replies.ts";
export type { Rule, RulesModelOptions, Situation } from "./rules-model.ts";
export { rulesModel } from "./rules-model.ts";
export type { RecordedCall, ScriptAnswer, ScriptEntry, ScriptedModelOptions } from "./scripted-model.ts";
export { ScriptedModel } from "./scripted-model.ts";
export type { TestDaemon, TestDaemonOptions } from "./start-test-daemon.ts";
export { startTestDaemon } from "./start-test-daemon.ts";
