// Preloaded into a program that run-under.mjs started. That program has a process group of its own, so what ends the
// launcher's group does not reach it; the channel between the two closes however the launcher dies.
const launcher = Number(process.env.TROUPE_LAUNCHER_PID);
delete process.env.TROUPE_LAUNCHER_PID;

// Programs that this one forks inherit the preload but not the launcher; their channel is none of our business.
if (process.channel && launcher === process.ppid) {
  process.once("disconnect", () => process.kill(process.pid, "SIGTERM"));
  process.channel.unref();
}
