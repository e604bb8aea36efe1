"""The Python program of the interop tests: main.py TARGET-AS-JSON SCENARIO…

It prints a transcript that must be the same for nats-server and conat; see ../README.md.
"""

import asyncio
import json
import sys
import traceback

import core
import jetstream
from session import Session

SCENARIOS = {**core.SCENARIOS, **jetstream.SCENARIOS}


async def main():
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
