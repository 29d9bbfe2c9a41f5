"""A Troupe worker: the agent `shout` in Python. The protocol is in docs/protocol.md, "Tasks". Needs nats-py."""
import asyncio, json, os, uuid
import nats
from nats.errors import NoRespondersError, TimeoutError as NatsTimeoutError

AGENT, PREFIX = "shout", "troupe"
WORKER = f"python/{uuid.uuid4().hex[:8]}"


async def answer(task):  # what the agent does; an exception fails the task
    if "refs" in task:  # it could be read there as well
        raise ValueError("too large for a message: see docs/protocol.md, Large values")
    return str(task["input"]).upper()


async def main():
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), inbox_prefix=b"_INBOX_worker",
                            max_reconnect_attempts=-1)
    control = nc.new_inbox()
    at_work, outcomes = {}, {}  # by (run id, task id): {"task", "reply", "job"}; the bytes sent, for who asks again

    async def say(kind, work):
        task = work["task"]
        words = {"type": kind, "taskId": task["taskId"], "delivery": task["delivery"], "worker": WORKER}
        await nc.publish(work["reply"], json.dumps(words).encode(), reply=f"{control}.{task['runId']}.{task['taskId']}")

    async def do(key, work):
        outcome = {"v": 1, "taskId": key[1], "attempt": work["task"]["attempt"], "worker": WORKER}
        try:
            outcome |= {"type": "completed", "output": await answer(work["task"])}
        except asyncio.CancelledError:
            outcome |= {"type": "failed", "error": {"code": "cancelled", "message": "cancelled"}}
        except Exception as error:
            outcome |= {"type": "failed", "error": {"code": "worker_failed", "message": str(error)}}
        outcomes[key] = json.dumps(outcome).encode()
        if len(outcomes) > 1000:
            outcomes.pop(next(iter(outcomes)))
        for _ in range(30):  # a new owner changes work["reply"]; where none comes, the task will come again
            try:
                print(*key, json.loads((await nc.request(work["reply"], outcomes[key], timeout=2)).data)["type"], flush=True)
                break
            except (NoRespondersError, NatsTimeoutError):
                await asyncio.sleep(1)
        del at_work[key]

    async def hear(key, reply, task=None):
        if key in at_work:
            at_work[key].update({"reply": reply} | ({"task": task} if task else {}))
            await say("accepted", at_work[key])
        elif key in outcomes:
            await nc.publish(reply, outcomes[key], reply=control)
        elif task:
            work = at_work[key] = {"task": task, "reply": reply}
            work["job"] = asyncio.create_task(do(key, work))
            await say("accepted", work)

    async def on_task(message):
        task = json.loads(message.data)
        await hear((task["runId"], task["taskId"]), message.reply, task)

    async def on_owner(message):
        notice = json.loads(message.data)
        for task_id in notice["tasks"]:
            await hear((notice["runId"], task_id), f"{notice['reply']}.{task_id}")

    async def on_control(message):
        work = at_work.get(tuple(message.subject.split(".")[-2:]))
        if work and json.loads(message.data)["type"] == "cancel":
            work["job"].cancel()

    await nc.subscribe(f"{control}.>", cb=on_control)
    await nc.subscribe(f"{PREFIX}.owners", cb=on_owner)
    await nc.subscribe(f"{PREFIX}.agents.{AGENT}", queue="workers", cb=on_task)
    print(f"{WORKER} serves {AGENT}", flush=True)
    while True:
        await asyncio.sleep(5)
        for work in list(at_work.values()):
            await say("working", work)


asyncio.run(main())
