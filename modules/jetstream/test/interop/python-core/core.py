"""What nats-core does without persistence."""

import asyncio

DEADLINE = 20


async def take(sub, count):
    return [await sub.next(timeout=DEADLINE) for _ in range(count)]


def numbers(messages):
    return [int(m.data) for m in messages]


async def pubsub(c):
    a, b = await c.connect(), await c.connect(no_echo=True)
    got, again = await b.subscribe("ps.x"), await b.subscribe("ps.*")
    own, unheard = await a.subscribe("ps.echo"), await b.subscribe("ps.echo")
    many, big = await b.subscribe("ps.many.>"), await b.subscribe("ps.big")
    # Who listens is known before anything is said: the order of two connections is nobody's promise.
    await a.flush()
    await b.flush()
    await a.publish("ps.x", b"one")
    await a.publish("ps.x", b"")
    await a.publish("ps.x", bytes(range(256)))
    await a.publish("ps.x", b"with reply", reply="ps.reply")
    await a.publish("ps.nobody", b"to nobody")
    await b.publish("ps.echo", b"x")
    for i in range(2000):
        await a.publish(f"ps.many.{i % 3}", str(i).encode())
    await a.publish("ps.big", bytes(1024 * 1024))
    for nc in [a, b, a]:
        await nc.flush()
    for m in await take(got, 4):
        c.print(m.subject, m.data, m.reply)
    c.print("in order", numbers(await take(many, 2000)) == list(range(2000)))
    c.print("big", len((await big.next(timeout=DEADLINE)).data))
    c.print("wildcard got", again.pending[0], "echo", own.pending[0], unheard.pending[0])


async def queue(c):
    connections = [await c.connect() for _ in range(3)]
    members = [await nc.subscribe("q.work", queue="g") for nc in connections]
    everything = await connections[0].subscribe("q.*")
    sender = await c.connect()
    for nc in connections:
        await nc.flush()
    for i in range(300):
        await sender.publish("q.work", str(i).encode())
    await take(everything, 300)
    for nc in [sender, *connections]:
        await nc.flush()
    c.print("a member has some", [member.pending[0] > 30 for member in members])
    got = [numbers(await take(member, member.pending[0])) for member in members]
    c.print("in order", [each == sorted(each) for each in got])
    c.print("once each", sorted(sum(got, [])) == list(range(300)))


async def request(c):
    a, b = await c.connect(), await c.connect()
    echo = await b.subscribe("rq.echo")
    await b.subscribe("rq.silent")
    await b.flush()

    async def serve():
        async for m in echo:
            headers = m.headers.asdict() if m.headers else None
            await b.publish(m.reply, b"got " + m.data, headers=headers)

    serving = asyncio.create_task(serve())
    for text in [b"one", b"two", b""]:
        c.print((await a.request("rq.echo", text, timeout=DEADLINE)).data)
    answer = await a.request("rq.echo", b"", timeout=DEADLINE, headers={"k": ["v", "w"]})
    c.print(answer.headers.asdict())
    await c.failing("nobody", a.request("rq.nobody", b""))
    await c.failing("silent", a.request("rq.silent", b"", timeout=0.2))
    plain = await a.request("rq.nobody", b"", return_on_error=True)
    c.print(plain.data, plain.status)
    await echo.unsubscribe()
    await serving


async def headers(c):
    a, b = await c.connect(), await c.connect()
    got = await b.subscribe("hd")
    await b.flush()
    sets = [
        {"Key": "value"},
        {"a": ["1", "3"], "b": "2", "A": "4"},
        {"empty": "", "Case-Kept": "x", "case-kept": "y"},
        {"colon": "a: b: c", "spaces": "in  the   middle"},
        {"long": "v" * 3000},
    ]
    for pairs in sets:
        await a.publish("hd", b"body", headers=pairs)
    await a.publish("hd", b"none")
    for m in await take(got, 6):
        c.print(m.data, m.headers and m.headers.asdict(), m.status)


async def drain(c):
    a, b = await c.connect(), await c.connect()
    sub = await b.subscribe("dr")
    await b.flush()
    for i in range(100):
        await a.publish("dr", str(i).encode())
    await a.flush()
    await b.flush()
    await sub.drain()
    await a.publish("dr", b"late")
    await a.flush()
    await b.flush()
    c.print("drained", sub.pending[0], numbers([m async for m in sub]) == list(range(100)))
    await b.drain()
    c.print("connection drained", b.status.name)


async def reconnect(c):
    back = asyncio.Event()
    nc = await c.connect(reconnect_time_wait=0.05, reconnect_max_attempts=0, reconnect_timeout=1)
    nc.add_reconnected_callback(back.set)
    got = await nc.subscribe("rc.*")
    await nc.flush()
    await c.ask("restart")
    await asyncio.wait_for(back.wait(), DEADLINE)
    for i in range(4):
        await nc.publish("rc.x", str(i).encode())
    await nc.flush()
    c.print(numbers(await take(got, 4)))


SCENARIOS = {
    "pubsub": pubsub,
    "queue": queue,
    "request": request,
    "headers": headers,
    "drain": drain,
    "reconnect": reconnect,
}
