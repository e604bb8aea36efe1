"""The program of the interop tests for nats-core: main.py TARGET-AS-JSON SCENARIO…

It prints a transcript that must be the same for nats-server and conat; see ../README.md.
"""

import asyncio
import json
import logging
import sys
import traceback

import core
import jetstream
from nats.client import connect

DEADLINE = 20
SCENARIOS = {**core.SCENARIOS, **jetstream.SCENARIOS}


class Session:
    """The connections of one scenario, which end with it."""

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

    async def failing(self, what, attempt):
        try:
            self.print(what, await attempt)
        except Exception as error:
            self.print(what, f"{type(error).__name__} {error}")

    async def connect(self, **options):
        nc = await connect(self.target["tcpUrl"], timeout=DEADLINE, **options)
        self.open.append(nc)
        return nc

    async def close(self):
        for nc in self.open:
            await nc.close()


async def main():
    logging.disable()  # what matters is in the transcript
    target = json.loads(sys.argv[1])
    for name in sys.argv[2:]:
        session = Session(target, name)
        try:
            await SCENARIOS[name](session)
            session.print("end")
        except Exception:
            session.print("FAILED", traceback.format_exc())
        finally:
            await session.close()


asyncio.run(main())
