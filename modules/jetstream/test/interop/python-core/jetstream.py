"""JetStream and key-value buckets as nats-jetstream and nats-key-value use them."""

from nats.jetstream import new
from nats.key_value import KeyValueConfig, create_key_value, delete_key_value, key_value

DEADLINE = 20


async def jetstream(c):
    return new(await c.connect())


async def state_of(stream):
    s = (await stream.get_info()).state
    return f"{s.messages} messages {s.first_sequence}..{s.last_sequence} consumers {s.consumer_count}"


async def js_publish(c):
    js = await jetstream(c)
    stream = await js.create_stream(name="P", subjects=["st.pub.>"], max_msg_size=1000)

    async def publish(subject, data, **headers):
        pairs = {name.replace("_", "-"): value for name, value in headers.items()} or None
        ack = await js.publish(subject, data, headers=pairs, retry_attempts=0)
        return f"{ack.stream} {ack.sequence} duplicate {bool(ack.duplicate)}"

    await c.failing("one", publish("st.pub.a", b"one"))
    await c.failing("two", publish("st.pub.a", b"two", Nats_Msg_Id="id-1"))
    await c.failing("two", publish("st.pub.a", b"two", Nats_Msg_Id="id-1"))
    await c.failing("three", publish("st.pub.a", b"three", Nats_Expected_Last_Sequence="2"))
    await c.failing("late", publish("st.pub.a", b"x", Nats_Expected_Last_Sequence="1"))
    await c.failing("other stream", publish("st.pub.a", b"x", Nats_Expected_Stream="Q"))
    await c.failing("large", publish("st.pub.a", b"x" * 1001))
    await c.failing("nobody", publish("st.none", b"x"))
    c.print(await state_of(stream))
    last = await stream.get_last_message_for_subject("st.pub.a")
    c.print("last", last.sequence, last.subject, last.data)
    await stream.delete_message(1)
    c.print("deleted", await state_of(stream))
    await stream.purge()
    c.print("purged", await state_of(stream))
    c.print("removed", await js.delete_stream("P"))
    await c.failing("gone", js.get_stream_info("P"))


def line_of(m):
    at = m.metadata
    return (
        f"{m.data} {at.stream} {at.consumer} seq {at.sequence.stream}/{at.sequence.consumer}"
        f" count {at.num_delivered} pending {at.num_pending}"
    )


async def fetched(consumer, count):
    return [m async for m in await consumer.fetch(max_messages=count, max_wait=DEADLINE)]


async def js_consume(c):
    js = await jetstream(c)
    stream = await js.create_stream(name="C", subjects=["st.c.>"])
    for i in range(1, 11):
        await js.publish(f"st.c.{i % 2}", f"m{i}".encode())
    pull = await stream.create_consumer(name="d", durable_name="d", ack_policy="explicit")
    for m in await fetched(pull, 4):
        c.print(line_of(m))
        await m.double_ack(timeout=DEADLINE)
    info = await pull.get_info()
    c.print("floor", info.ack_floor["stream_seq"], "pending", info.num_pending, info.num_ack_pending)
    for m in await fetched(pull, 6):
        await m.term()
    none = await pull.fetch_nowait(max_messages=1)
    c.print("none", [m async for m in none], none.error)
    c.print("same", (await stream.create_consumer(name="d", durable_name="d", ack_policy="explicit")).name)
    filtered = await stream.create_consumer(
        name="n", durable_name="n", ack_policy="explicit", filter_subject="st.c.0"
    )
    [first] = await fetched(filtered, 1)
    await first.nak()
    c.print("filtered", sorted([m.data for m in await fetched(filtered, 5)]))
    ordered = await stream.ordered_consumer(filter_subjects=["st.c.1"])
    c.print("ordered", [m.data for m in await fetched(ordered, 5)])
    going = await ordered.messages(heartbeat=5)
    await js.publish("st.c.1", b"live")
    async for m in going:
        c.print("continued", m.data)
        if m.data == b"live":
            break
    await going.stop()
    c.print("names", sorted([name async for name in js.consumer_names("C") if len(name) == 1]))
    c.print("deleted", await stream.delete_consumer("d"))
    await c.failing("gone", stream.get_consumer("d"))
    await js.delete_stream("C")


def entry_of(e):
    return f"{e.key}={e.value} {e.operation.name} @{e.revision}"


async def kv_basics(c):
    js = await jetstream(c)
    kv = await create_key_value(js, KeyValueConfig(bucket="b", history=5))
    c.print("put", await kv.put("a", b"one"), await kv.put("a", b"two"))
    c.print(entry_of(await kv.get("a")), entry_of(await kv.get("a", revision=1)))
    c.print("created", await kv.create("b.c", b"x"), await kv.update("a", b"three", 2))
    await c.failing("none", kv.get("none"))
    await c.failing("create", kv.create("a", b"x"))
    await c.failing("update", kv.update("a", b"x", 2))
    await kv.delete("a")
    await c.failing("gone", kv.get("a"))
    c.print("again", await kv.create("a", b"four"))
    async for e in await kv.history("a"):
        c.print("history", entry_of(e))
    await kv.purge("b.c")
    await kv.put("d", b"5")
    c.print("keys", sorted([key async for key in await kv.keys()]))
    status = await kv.status()
    c.print("status", status.bucket, status.values, status.history)
    await delete_key_value(js, "b")
    await c.failing("bucket", key_value(js, "b"))


async def kv_watch(c):
    js = await jetstream(c)
    kv = await create_key_value(js, KeyValueConfig(bucket="w", history=3))
    for i, key in enumerate(["a", "a", "b.x", "b.y"]):
        await kv.put(key, str(i).encode())

    async def watch(what, watcher, count):
        for _ in range(count):
            c.print(what, entry_of(await anext(watcher)))
        await watcher.stop()

    await watch("all", await kv.watch_all(), 3)
    await watch("history", await kv.watch(include_history=True), 4)
    await watch("b.*", await kv.watch("b.*"), 2)
    await watch("names only", await kv.watch("b.*", meta_only=True), 2)
    live = await kv.watch("d.>", updates_only=True)
    await kv.put("d.1", b"x")
    await kv.delete("d.1")
    await kv.purge("d.2")
    await watch("live", live, 3)
    await delete_key_value(js, "w")


SCENARIOS = {
    "js-publish": js_publish,
    "js-consume": js_consume,
    "kv-basics": kv_basics,
    "kv-watch": kv_watch,
}
