"""JetStream and key-value buckets as nats-py uses them."""

import asyncio

from nats.js.api import ConsumerConfig, KeyValueConfig, StreamConfig

from session import DEADLINE, failure, show


def state_of(info):
    s = info.state
    return f"{s.messages} messages {s.first_seq}..{s.last_seq} consumers {s.consumer_count}"


async def js_publish(c):
    js = (await c.connect()).jetstream(timeout=DEADLINE)
    await js.add_stream(StreamConfig(name="P", subjects=["st.pub.>"], max_msg_size=1000))

    async def publish(subject, data, **options):
        try:
            ack = await js.publish(c.s(subject), data, **options)
            c.print(subject, ack.stream, ack.seq, "duplicate", bool(ack.duplicate))
        except Exception as error:
            c.print(subject, failure(error))

    await publish("st.pub.a", b"one")
    await publish("st.pub.a", b"two", headers={"Nats-Msg-Id": "id-1"})
    await publish("st.pub.a", b"two", headers={"Nats-Msg-Id": "id-1"})
    await publish("st.pub.a", b"three", headers={"Nats-Expected-Last-Sequence": "2"})
    await publish("st.pub.a", b"x", headers={"Nats-Expected-Last-Sequence": "1"})
    await publish("st.pub.a", b"x", headers={"Nats-Expected-Last-Subject-Sequence": "1"})
    await publish("st.pub.a", b"x", stream="Q")
    await publish("st.pub.a", b"x" * 1001)
    await publish("st.none", b"x")
    c.print(state_of(await js.stream_info("P")))
    message = await js.get_last_msg("P", "st.pub.a")
    c.print("last", message.seq, message.subject, show(message.data))
    c.print("deleted", await js.delete_msg("P", 1), state_of(await js.stream_info("P")))
    await js.purge_stream("P")
    c.print("purged", state_of(await js.stream_info("P")))
    c.print("removed", await js.delete_stream("P"))
    try:
        await js.stream_info("P")
    except Exception as error:
        c.print(failure(error))


def line_of(m):
    at = m.metadata
    return (
        f"{m.data.decode()} {at.stream} {at.consumer} seq {at.sequence.stream}/"
        f"{at.sequence.consumer} count {at.num_delivered} pending {at.num_pending}"
    )


async def js_consume(c):
    js = (await c.connect()).jetstream(timeout=DEADLINE)
    await js.add_stream(StreamConfig(name="C", subjects=["st.c.>"]))
    for i in range(1, 11):
        await js.publish(c.s(f"st.c.{i % 2}"), f"m{i}".encode())
    pull = await js.pull_subscribe("st.c.>", durable="d", stream="C")
    for m in await pull.fetch(4, timeout=DEADLINE):
        c.print(line_of(m))
        await m.ack_sync(timeout=DEADLINE)
    info = await pull.consumer_info()
    c.print("floor", info.ack_floor.stream_seq, "pending", info.num_pending, info.num_ack_pending)
    for m in await pull.fetch(6, timeout=DEADLINE):
        await m.term()
    try:
        await pull.fetch(1, timeout=0.5)
    except Exception as error:
        c.print("none", type(error).__name__)
    config = ConsumerConfig(filter_subject="st.c.0", durable_name="n", ack_wait=20)
    await js.add_consumer("C", config)
    filtered = await js.pull_subscribe_bind("n", "C")
    [first] = await filtered.fetch(1, timeout=DEADLINE)
    await first.nak()
    got = []
    while len(got) < 5:  # a fetch may end with what is there
        got += [m.data.decode() for m in await filtered.fetch(5 - len(got), timeout=DEADLINE)]
    c.print("filtered", " ".join(sorted(got)))
    # A push consumer with flow control and heartbeats.
    ordered = await js.subscribe("st.c.>", stream="C", ordered_consumer=True)
    seen = [(await ordered.next_msg(timeout=DEADLINE)).data.decode() for _ in range(10)]
    c.print("ordered", " ".join(seen))
    pushed = asyncio.Queue()
    push = await js.subscribe("st.c.1", stream="C", durable="push", cb=pushed.put)
    words = [(await asyncio.wait_for(pushed.get(), DEADLINE)).data.decode() for _ in range(5)]
    c.print("pushed", " ".join(words))
    await push.unsubscribe()
    c.print("deleted", await js.delete_consumer("C", "d"))
    try:
        await js.consumer_info("C", "d")
    except Exception as error:
        c.print(failure(error))
    await js.delete_stream("C")


def entry_of(e):
    return f"{e.key}={e.value!r} {e.operation} @{e.revision}"


async def kv_basics(c):
    js = (await c.connect()).jetstream(timeout=DEADLINE)
    kv = await js.create_key_value(KeyValueConfig(bucket="b", history=5))
    c.print("put", await kv.put("a", b"one"), await kv.put("a", b"two"))
    c.print(entry_of(await kv.get("a")), entry_of(await kv.get("a", revision=1)))
    c.print("created", await kv.create("b.c", b"x"), "updated", await kv.update("a", b"three", last=2))

    async def failing(what, attempt):
        try:
            c.print(what, await attempt)
        except Exception as error:
            c.print(what, failure(error))

    await failing("none", kv.get("none"))
    await failing("create", kv.create("a", b"x"))
    await failing("update", kv.update("a", b"x", last=2))
    c.print("deleted", await kv.delete("a"))
    await failing("gone", kv.get("a"))
    c.print("again", await kv.create("a", b"four"))
    for e in await kv.history("a"):
        c.print("history", entry_of(e))
    await kv.purge("b.c")
    await kv.put("d", b"5")
    c.print("keys", " ".join(sorted(await kv.keys())))
    status = await kv.status()
    c.print("status", status.bucket, status.values, status.history)
    c.print("destroyed", await js.delete_key_value("b"))
    await failing("bucket", js.key_value("b"))


async def kv_watch(c):
    js = (await c.connect()).jetstream(timeout=DEADLINE)
    kv = await js.create_key_value(KeyValueConfig(bucket="w", history=3))
    for i, key in enumerate(["a", "a", "b.x", "b.y"]):
        await kv.put(key, str(i).encode())

    async def watch(what, watcher, count):
        for _ in range(count):
            e = await watcher.updates(timeout=DEADLINE)
            c.print(what, entry_of(e) if e else "all there")
        await watcher.stop()

    await watch("all", await kv.watchall(), 4)
    await watch("history", await kv.watch(">", include_history=True), 5)
    await watch("b.*", await kv.watch("b.*"), 3)
    await watch("names only", await kv.watch("b.*", meta_only=True), 3)
    live = await kv.watch("d.>")
    await kv.put("d.1", b"x")
    await kv.delete("d.1")  # a purge may take away what the watch has not seen yet
    await kv.purge("d.2")
    await watch("live", live, 4)
    for i in range(300):
        await kv.put(f"n.{i}", str(i).encode())
    many = await kv.watch("n.*")
    revisions = []
    while len(revisions) < 300:  # nats-py may say in between that all are there
        e = await many.updates(timeout=DEADLINE)
        revisions += [e.revision] if e else []
    c.print("many", revisions[0], revisions[-1], revisions == sorted(revisions))
    await many.stop()
    await js.delete_key_value("w")


SCENARIOS = {
    "js-publish": js_publish,
    "js-consume": js_consume,
    "kv-basics": kv_basics,
    "kv-watch": kv_watch,
}
