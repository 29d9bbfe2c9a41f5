"""A Troupe worker: the agent `shout` in Python. The protocol is in docs/protocol.md, "Tasks". NATS_URL says where NATS is."""
import asyncio, json, os, uuid
from nats_socket import Nats

AGENT, PREFIX, WORKER = "shout", "troupe", f"python/{uuid.uuid4().hex[:8]}"


async def answer(task):  # what the agent does; an exception fails the task
    if "refs" in task:  # it could be read there as well
        raise ValueError("too large for a message: see docs/protocol.md, Large values")
    text = str(task["input"])
    if text.endswith("?") and task.get("handoffs"):
        return {"type": "handoff", "to": task["handoffs"][0]["to"], "reason": "a question"}
    await asyncio.sleep(7 if text.startswith("slowly") else 0)
    return {"type": "completed", "output": text.upper()}


async def main():
    nats = Nats(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), "_INBOX_worker")
    at_work, outcomes = {}, {}  # by (run id, task id): {"task", "reply", "job"}; the bytes sent, for who asks again

    def say(kind, work):
        task = work["task"]
        words = {"type": kind, "taskId": task["taskId"], "delivery": task["delivery"], "worker": WORKER}
        nats.publish(work["reply"], json.dumps(words).encode(), f"{nats.inbox}.control.{task['runId']}.{task['taskId']}")

    async def do(key, work):
        outcome = {"v": 1, "taskId": key[1], "attempt": work["task"]["attempt"], "worker": WORKER}
        try:
            outcome |= await answer(work["task"])
        except (Exception, asyncio.CancelledError) as error:
            code = "cancelled" if isinstance(error, asyncio.CancelledError) else "worker_failed"
            outcome |= {"type": "failed", "error": {"code": code, "message": str(error) or code}}
        outcomes[key] = json.dumps(outcome).encode()
        work["job"] = None  # too late to cancel
        for _ in range(60):  # a new owner changes work["reply"]; where none comes, the task will come again
            receipt = await nats.request(work["reply"], outcomes[key], seconds=1)
            if receipt: break
        print(*key, outcome["type"], receipt, flush=True)
        del at_work[key]
        for old in list(outcomes)[:-1000]: del outcomes[old]

    def hear(key, reply, task=None):
        if key in outcomes and key not in at_work:
            return nats.publish(reply, outcomes[key], f"{nats.inbox}.receipt")
        if task or key in at_work:  # of one at work only where its answers go changes
            work = at_work.setdefault(key, {})
            work.update(reply=reply, task=task or work["task"])
            if "job" not in work:
                work["job"] = asyncio.create_task(do(key, work))
            say("accepted", work)

    def on_task(_subject, reply, data):
        task = json.loads(data)
        fits = (task["v"], task["agent"]) == (1, AGENT) and ("input" in task or "refs" in task)
        if not fits or not {"attempt", "delivery"} < task.keys():
            raise ValueError("no task for this agent")  # whoever sent it hears nothing
        hear((task["runId"], task["taskId"]), reply, task)

    def on_owner(_subject, _reply, data):
        notice = json.loads(data)
        for task_id in notice["tasks"]:
            hear((notice["runId"], task_id), f"{notice['reply']}.{task_id}")

    def on_control(subject, _reply, data):
        job = at_work.get(tuple(subject.split(".")[-2:]), {}).get("job")
        if job and json.loads(data)["type"] == "cancel": job.cancel()

    nats.subscribe(f"{nats.inbox}.control.*.*", on_control)
    nats.subscribe(f"{PREFIX}.owners", on_owner)
    nats.subscribe(f"{PREFIX}.agents.{AGENT}", on_task, queue="workers")
    connection = asyncio.create_task(nats.run())
    print(f"{WORKER} serves {AGENT}", flush=True)
    while not connection.done():
        await asyncio.sleep(5)
        for work in at_work.values(): say("working", work)


asyncio.run(main())
