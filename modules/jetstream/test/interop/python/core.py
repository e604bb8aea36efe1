"""What every NATS client does without persistence. Each scenario prints only what cannot vary."""

import asyncio

from session import DEADLINE, collect, failure, flush, pong, reply_kind, show


def in_order(messages):
    numbers = [int(m.data) for m in messages]
    return numbers == sorted(numbers)


async def pubsub(c):
    a, b = await c.connect(), await c.connect()
    got, again = await collect(b, c.s("ps.x")), await collect(b, c.s("ps.*"))
    await flush(b)
    await a.publish(c.s("ps.x"), b"one")
    await a.publish(c.s("ps.x"))
    await a.publish(c.s("ps.x"), bytes(range(256)))
    await a.publish(c.s("ps.x"), b"with reply", reply=c.s("ps.reply"))
    await a.publish(c.s("ps.nobody"), b"to nobody")
    await flush(a, b)
    for m in got:
        c.print(m.subject, show(m.data), m.reply)
    c.print("wildcard got", len(again))
    deaf = await c.connect(no_echo=True)
    own, unheard = await collect(a, c.s("ps.echo")), await collect(deaf, c.s("ps.echo"))
    await flush(a, deaf)
    await a.publish(c.s("ps.echo"))
    await deaf.publish(c.s("ps.echo"))
    await flush(a, deaf, a)
    c.print("echo", len(own), "no echo", len(unheard))
    many, big = await collect(b, c.s("ps.many.>")), await collect(b, c.s("ps.big"))
    await flush(b)
    for i in range(2000):
        await a.publish(c.s(f"ps.many.{i % 3}"), str(i).encode())
    await a.publish(c.s("ps.big"), bytes(1024 * 1024))
    await flush(a, b)
    c.print(len(many), "in order", in_order(many))
    c.print("big", show(big[0].data))


FILTERS = ["w.*", "w.>", "w.*.c", "w.a.*.c", "w.a", "w.a.>", "*.a", "w.*.*", "w.*.>", "W.a"]
LITERALS = ["w", "w.a", "w.b", "W.a", "wa.a", "w.a.b", "w.b.c", "w.a.x.c", "w.a.b.c.d", "w.ü"]


async def wildcard(c):
    a, b = await c.connect(), await c.connect()
    heard = {filter: await collect(b, c.s(filter)) for filter in FILTERS}
    await flush(b)
    for literal in LITERALS:
        await a.publish(c.s(literal), literal.encode())
    await flush(a, b)
    for filter in FILTERS:
        c.print(filter, "<-", heard[filter].texts())


async def queue(c):
    connections = [await c.connect() for _ in range(3)]
    members = [await collect(nc, c.s("q.work"), "g") for nc in connections]
    plain, sender = await c.connect(), await c.connect()
    everything = await collect(plain, c.s("q.*"))
    others = [await collect(plain, c.s("q.>"), "other") for _ in range(2)]
    await flush(*connections, plain)

    async def send(start, end):
        for i in range(start, end):
            await sender.publish(c.s("q.work"), str(i).encode())
        await flush(sender, *connections, plain)
        numbers = sorted(int(m.data) for member in members for m in member)
        c.print("once each", numbers == list(range(end)))

    await send(0, 300)
    for member in members:
        c.print("a member has some", len(member) > 30, "in order", in_order(member))
    c.print("plain", len(everything), "other group", sum(len(other) for other in others))
    await members[0].sub.unsubscribe()
    await flush(connections[0])
    await send(300, 400)
    await members[1].sub.unsubscribe()
    await flush(connections[1])
    before = len(members[2])
    await send(400, 500)
    c.print("left over", len(members[2]) - before)


async def request(c):
    a, b = await c.connect(), await c.connect()

    async def echo(m):
        await b.publish(m.reply, b"got " + m.data, headers=m.headers)

    async def kind(m):
        await m.respond(reply_kind(m.reply).encode())

    async def silent(_):
        pass

    await b.subscribe(c.s("rq.echo"), cb=echo)
    await b.subscribe(c.s("rq.kind"), cb=kind)
    await b.subscribe(c.s("rq.silent"), cb=silent)
    await flush(b)
    for old_style in [False, True]:
        options = {"timeout": DEADLINE, "old_style": old_style}
        for text in [b"one", b"two"]:
            c.print(show((await a.request(c.s("rq.echo"), text, **options)).data))
        c.print(show((await a.request(c.s("rq.kind"), **options)).data))
        try:
            await a.request(c.s("rq.nobody"), **options)
        except Exception as error:
            c.print(failure(error))
        try:
            await a.request(c.s("rq.silent"), timeout=0.2, old_style=old_style)
        except Exception as error:
            c.print(failure(error))
    inbox = a.new_inbox()
    replies = await collect(a, inbox)
    await a.publish(c.s("rq.nobody"), b"x", reply=inbox)
    await flush(a)
    for m in replies:
        c.print(show(m.data), m.headers)
    answer = await a.request(c.s("rq.echo"), b"", timeout=DEADLINE, headers={"k": "v"})
    c.print(answer.headers)


async def headers(c):
    a, b = await c.connect(), await c.connect()
    got = await collect(b, c.s("hd"))
    await flush(b)
    sets = [
        {"Key": "value"},
        {"a": "1", "b": "2", "A": "4"},
        {"empty": "", "Case-Kept": "x", "case-kept": "y"},
        {"colon": "a: b: c", "spaces": "in  the   middle"},
        {"long": "v" * 3000},
    ]
    for pairs in sets:
        await a.publish(c.s("hd"), b"body", headers=pairs)
    await a.publish(c.s("hd"), headers={"only": "headers"})
    await a.publish(c.s("hd"), b"none")
    await flush(a, b)
    for m in got:
        c.print(show(m.data), m.headers)


async def drain(c):
    a, b = await c.connect(), await c.connect()
    slow = []

    async def slowly(m):
        await asyncio.sleep(0.001)
        slow.append(m)

    sub = await b.subscribe(c.s("dr.sub"), cb=slowly)
    await pong(b)
    for i in range(100):
        await a.publish(c.s("dr.sub"), str(i).encode())
    await pong(a)
    await pong(b)
    await sub.drain()
    await a.publish(c.s("dr.sub"), b"late")
    await flush(a, b)
    c.print("drained", len(slow), in_order(slow))
    # nats-py itself may close before what its callbacks published meanwhile is sent.
    handled = []

    async def handle(m):
        await asyncio.sleep(0.001)
        handled.append(m)

    await b.subscribe(c.s("dr.conn"), cb=handle)
    await pong(b)
    for i in range(100):
        await a.publish(c.s("dr.conn"), str(i).encode())
    await pong(a)
    await pong(b)
    await b.drain()
    c.print("connection drained", len(handled), in_order(handled), b.is_closed)


async def unsub_max(c):
    a, b = await c.connect(), await c.connect()
    first, second = await collect(b, c.s("um")), await collect(b, c.s("um"))
    await first.sub.unsubscribe(limit=3)
    await flush(b)

    async def send(*words):
        for word in words:
            await a.publish(c.s("um"), word.encode())
        await flush(a, b)

    await send("1", "2", "3", "4", "5")
    await second.sub.unsubscribe(limit=7)
    await flush(b)
    await send("6", "7", "8", "9")
    c.print(first.texts(), "|", second.texts())


async def reconnect(c):
    back = asyncio.Semaphore(0)

    async def reconnected():
        back.release()

    options = {"reconnect_time_wait": 0.05, "max_reconnect_attempts": -1}
    a = await c.connect(reconnected_cb=reconnected, **options)
    b = await c.connect(reconnected_cb=reconnected, **options)
    got, limited = await collect(b, c.s("rc.*")), await collect(b, c.s("rc.max"))
    await limited.sub.unsubscribe(limit=3)

    async def serve(m):
        await m.respond(b"served")

    await b.subscribe(c.s("rc.serve"), queue="q", cb=serve)
    await flush(b)
    await a.publish(c.s("rc.max"))
    await flush(a, b)
    await c.ask("restart")
    await back.acquire()
    await back.acquire()
    await flush(b)
    for _ in range(4):
        await a.publish(c.s("rc.max"))
    await flush(a, b)
    c.print(len(got), "limited", len(limited))
    c.print(show((await a.request(c.s("rc.serve"), timeout=DEADLINE)).data))


SCENARIOS = {
    "pubsub": pubsub,
    "wildcard": wildcard,
    "queue": queue,
    "request": request,
    "headers": headers,
    "drain": drain,
    "unsub-max": unsub_max,
    "reconnect": reconnect,
}
