"""What scenarios share: connections that end with the scenario, and words for what was seen."""

import asyncio
import json
import sys

import nats

DEADLINE = 20


class Session:
    def __init__(self, target, name):
        self.target = target
        self.name = name
        self.open = []

    def print(self, *words):
        text = " ".join(str(word) for word in words)
        print(f"{self.name}: {text}".replace("\n", " | "), flush=True)

    async def ask(self, command):
        """Asks the test to do something to the server, and waits until it has."""
        print(f"@{command}", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    def s(self, subject):
        return self.target.get("subjectPrefix", "") + subject

    async def connect(self, **options):
        options = {"connect_timeout": DEADLINE, **self.credentials(), **options}
        if "inboxPrefix" in self.target:
            options["inbox_prefix"] = self.target["inboxPrefix"]
        nc = await nats.connect(self.target["url"], error_cb=silent, **options)
        self.open.append(nc)
        return nc

    def credentials(self):
        given = self.target.get("credentials", {})
        names = {"user": "user", "pass": "password", "token": "token"}
        return {names[key]: value for key, value in given.items()}

    async def close(self):
        for nc in self.open:
            if not nc.is_closed:
                await nc.close()


async def silent(_):
    """Errors show in the transcript where they matter; nats-py logs them otherwise."""


class Heard(list):
    """What a subscription has heard so far."""

    def __init__(self):
        super().__init__()
        self.sub = None

    async def take(self, message):
        self.append(message)

    def texts(self):
        return " ".join(m.data.decode() for m in self)


async def collect(nc, subject, queue=""):
    heard = Heard()
    heard.sub = await nc.subscribe(subject, queue=queue, cb=heard.take)
    return heard


async def pong(nc):
    """nats-py's own flush sends its PING before what is still pending."""
    await nc._flush_pending(force_flush=True)
    await nc.flush(timeout=DEADLINE)


async def flush(*connections):
    """Waits until the servers have everything that was sent, and the callbacks what was received."""
    for nc in connections:
        await pong(nc)
    for nc in connections:
        for sub in list(nc._subs.values()):
            if sub._pending_queue is not None:
                await sub._pending_queue.join()


def show(data):
    """A payload as text; a longer one by its length and sum."""
    if len(data) <= 256 and all(byte < 128 for byte in data):
        return json.dumps(data.decode())
    total = 0
    for i, byte in enumerate(data):
        total = (total * 31 + byte + i) % 1_000_003
    return f"{len(data)} bytes {total}"


def reply_kind(reply):
    """Inboxes of others have different names on different servers; that they are inboxes is the same."""
    return "inbox" if reply.startswith(("_INBOX", "_R_")) else reply


def failure(error):
    return f"{type(error).__name__} {error}"
