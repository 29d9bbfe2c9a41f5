"""As much of NATS as a worker needs, over a plain socket, so that nothing has to be installed. `nats-py` has the rest."""
import asyncio, itertools, json, uuid
from urllib.parse import urlparse


class Nats:
    """A connection that comes back by itself. What is said while it is away is lost: whoever needs an answer asks again."""

    def __init__(self, url, inbox_prefix="_INBOX"):
        self.url, self.writer, self.subscriptions, self.asked = urlparse(url), None, [], {}
        self.inbox, self.numbers = f"{inbox_prefix}.{uuid.uuid4().hex}", itertools.count()
        self.subscribe(f"{self.inbox}.answer.*", self._answer)

    def subscribe(self, subject, heard, queue=""):
        """Before `run`. `heard` gets the subject, the reply subject and the bytes of each message."""
        self.subscriptions.append((subject, queue, heard))

    def publish(self, subject, data, reply=""):
        if self.writer:
            self.writer.write(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n")

    async def request(self, subject, data, seconds):
        """The bytes of the answer; None where none comes."""
        reply = f"{self.inbox}.answer.{next(self.numbers)}"
        self.asked[reply] = asyncio.get_running_loop().create_future()
        self.publish(subject, data, reply)
        try:
            return await asyncio.wait_for(self.asked[reply], seconds)
        except asyncio.TimeoutError:
            return None
        finally:
            del self.asked[reply]

    async def run(self):
        while True:
            try:
                await self._talk()
            except (OSError, asyncio.IncompleteReadError):
                pass  # the broker is away
            self.writer = None
            await asyncio.sleep(0.25)

    async def _talk(self):
        reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port or 4222)
        await reader.readline()  # INFO
        # Without headers: a worker needs none, and the broker then leaves them out.
        options = {"verbose": False, "pedantic": False, "headers": False, "lang": "python", "version": "1", "protocol": 1}
        login = {"user": self.url.username, "pass": self.url.password} if self.url.username else {}
        writer.write(f"CONNECT {json.dumps(options | login)}\r\n".encode())
        for sid, (subject, queue, _) in enumerate(self.subscriptions):
            writer.write(f"SUB {subject} {queue} {sid}\r\n".encode())
        writer.write(b"PING\r\n")
        self.writer = writer
        while line := await reader.readline():
            verb, *words = line.decode().split()
            if verb == "PING":
                writer.write(b"PONG\r\n")
            elif verb == "PONG":  # so it knows the subscriptions as well
                print("connected to", self.url.hostname, flush=True)
            elif verb == "-ERR":
                print("NATS:", *words, flush=True)
            elif verb == "MSG":  # subject, subscription, reply subject where there is one, length
                data = await reader.readexactly(int(words[-1]) + 2)
                try:
                    self.subscriptions[int(words[1])][2](words[0], words[2] if len(words) == 4 else "", data[:-2])
                except Exception as error:  # nothing that is sent may end the connection
                    print("cannot handle a message on", words[0], repr(error), flush=True)

    def _answer(self, subject, _reply, data):
        asked = self.asked.get(subject)
        if asked and not asked.done():
            asked.set_result(data)
