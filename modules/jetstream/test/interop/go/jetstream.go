package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func within(seconds int) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func jetStream(c *session, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	nc := c.connect(options...)
	if c.target.APIPrefix != "" {
		return nc, must(jetstream.NewWithAPIPrefix(nc, c.target.APIPrefix))
	}
	return nc, must(jetstream.New(nc))
}

func stateOf(info *jetstream.StreamInfo) string {
	s := info.State
	return fmt.Sprintf("%d messages %d..%d deleted %d subjects %d consumers %d",
		s.Msgs, s.FirstSeq, s.LastSeq, s.NumDeleted, s.NumSubjects, s.Consumers)
}

func jsPublish(c *session) {
	_, js := jetStream(c)
	ctx := within(60)
	config := jetstream.StreamConfig{
		Name: "P", Subjects: []string{"st.pub.>"}, MaxMsgsPerSubject: 3, MaxMsgSize: 1000,
	}
	stream := must(js.CreateStream(ctx, config))
	publish := func(subject, data string, options ...jetstream.PublishOpt) {
		ack, err := js.Publish(ctx, c.s(subject), []byte(data), options...)
		if err != nil {
			c.print(subject, err)
			return
		}
		c.print(subject, ack.Stream, ack.Sequence, "duplicate", ack.Duplicate)
	}
	publish("st.pub.a", "one")
	publish("st.pub.a", "two", jetstream.WithMsgID("id-1"))
	publish("st.pub.a", "two again", jetstream.WithMsgID("id-1"))
	publish("st.pub.a", "three", jetstream.WithExpectLastSequence(2))
	publish("st.pub.a", "x", jetstream.WithExpectLastSequence(1))
	publish("st.pub.b", "four", jetstream.WithExpectLastSequencePerSubject(0))
	publish("st.pub.b", "x", jetstream.WithExpectLastSequencePerSubject(0))
	publish("st.pub.b", "x", jetstream.WithExpectLastMsgID("id-1"))
	publish("st.pub.b", "x", jetstream.WithExpectStream("Q"))
	publish("st.pub.c", strings.Repeat("x", 1001))
	publish("st.none", "x", jetstream.WithRetryAttempts(0))
	futures := []jetstream.PubAckFuture{}
	for i := range 100 {
		futures = append(futures, must(js.PublishAsync(c.s(fmt.Sprintf("st.pub.e%d", i)), []byte("x"))))
	}
	for i, future := range futures {
		select {
		case ack := <-future.Ok():
			if ack.Sequence != uint64(5+i) {
				c.print("in flight", i, ack.Sequence)
			}
		case err := <-future.Err():
			c.print("in flight", i, err)
		}
	}
	c.print(stateOf(must(stream.Info(ctx))))
	message := must(stream.GetLastMsgForSubject(ctx, "st.pub.a"))
	c.print("last", message.Sequence, show(message.Data), message.Subject)
	_, err := stream.GetMsg(ctx, 999)
	c.print("get 999", err)
	check(stream.DeleteMsg(ctx, 3))
	check(stream.Purge(ctx, jetstream.WithPurgeSubject("st.pub.e1")))
	c.print(stateOf(must(stream.Info(ctx))))
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "P", Subjects: []string{"js.other"}})
	c.print("again otherwise", err)
	check(js.DeleteStream(ctx, "P"))
	_, err = js.Stream(ctx, "P")
	c.print("deleted", err)
}

func lineOf(m jetstream.Msg) string {
	at := must(m.Metadata())
	return fmt.Sprintf("%s stream %s consumer %s seq %d/%d count %d pending %d", m.Data(),
		at.Stream, at.Consumer, at.Sequence.Stream, at.Sequence.Consumer, at.NumDelivered, at.NumPending)
}

func fetch(consumer jetstream.Consumer, count int) []jetstream.Msg {
	batch := must(consumer.Fetch(count, jetstream.FetchMaxWait(time.Second)))
	messages := []jetstream.Msg{}
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	check(batch.Error())
	return messages
}

func jsConsume(c *session) {
	_, js := jetStream(c)
	ctx := within(60)
	stream := must(js.CreateStream(ctx, jetstream.StreamConfig{Name: "C", Subjects: []string{"st.c.>"}}))
	for i := 1; i <= 10; i++ {
		must(js.Publish(ctx, c.s(fmt.Sprintf("st.c.%d", i%2)), []byte(fmt.Sprintf("m%d", i))))
	}
	consumer := must(stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "d", MaxDeliver: 3}))
	for i, m := range fetch(consumer, 4) {
		c.print(lineOf(m))
		if i < 3 {
			check(m.DoubleAck(ctx))
		} else {
			check(m.Term())
		}
	}
	for must(consumer.Info(ctx)).NumAckPending > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	info := must(consumer.Info(ctx))
	c.print("floor", info.AckFloor.Stream, "delivered", info.Delivered.Stream, "pending", info.NumPending)
	again := must(stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "n", FilterSubject: "st.c.0"}))
	first := fetch(again, 1)[0]
	check(first.Nak())
	filtered := []string{}
	for _, m := range fetch(again, 5) {
		filtered = append(filtered, string(m.Data()))
	}
	sort.Strings(filtered) // when the first comes again is the server's choice
	c.print("filtered", strings.Join(filtered, " "))
	c.print("none", len(fetch(must(stream.Consumer(ctx, "n")), 1)))
	seen := []string{}
	ordered := must(js.OrderedConsumer(ctx, "C", jetstream.OrderedConsumerConfig{}))
	messages := must(ordered.Messages())
	for range 10 {
		m := must(messages.Next())
		seen = append(seen, string(m.Data()))
	}
	messages.Stop()
	c.print("ordered", strings.Join(seen, " "))
	_, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "d", MaxDeliver: 5})
	c.print("again otherwise", err)
	check(stream.DeleteConsumer(ctx, "d"))
	_, err = stream.Consumer(ctx, "d")
	c.print("deleted", err)
	check(js.DeleteStream(ctx, "C"))
}

func entryOf(e jetstream.KeyValueEntry) string {
	if e == nil {
		return "all there"
	}
	return fmt.Sprintf("%s=%q %s @%d", e.Key(), e.Value(), e.Operation(), e.Revision())
}

func kvBasics(c *session) {
	_, js := jetStream(c)
	ctx := within(60)
	kv := must(js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "b", History: 5}))
	c.print("put", must(kv.PutString(ctx, "a", "one")), must(kv.PutString(ctx, "a", "two")))
	c.print(entryOf(must(kv.Get(ctx, "a"))), entryOf(must(kv.GetRevision(ctx, "a", 1))))
	_, err := kv.Get(ctx, "none")
	c.print("none", err)
	c.print("created", must(kv.Create(ctx, "b.c", []byte("x"))))
	_, err = kv.Create(ctx, "a", []byte("x"))
	c.print("create", err)
	c.print("updated", must(kv.Update(ctx, "a", []byte("three"), 2)))
	_, err = kv.Update(ctx, "a", []byte("x"), 2)
	c.print("update", err)
	check(kv.Delete(ctx, "a"))
	_, err = kv.Get(ctx, "a")
	c.print("deleted", err, "again", must(kv.Create(ctx, "a", []byte("four"))))
	for _, e := range must(kv.History(ctx, "a")) {
		c.print("history", entryOf(e))
	}
	check(kv.Purge(ctx, "b.c"))
	must(kv.PutString(ctx, "d", "5"))
	keys := must(kv.Keys(ctx))
	sort.Strings(keys)
	c.print("keys", strings.Join(keys, " "))
	status := must(kv.Status(ctx))
	c.print("status", status.Bucket(), status.Values(), status.History())
	check(js.DeleteKeyValue(ctx, "b"))
	_, err = js.KeyValue(ctx, "b")
	c.print("gone", err)
}

func kvWatch(c *session) {
	_, js := jetStream(c)
	ctx := within(60)
	kv := must(js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "w", History: 3}))
	for i, key := range []string{"a", "a", "b.x", "b.y"} {
		must(kv.PutString(ctx, key, fmt.Sprint(i)))
	}
	watch := func(what string, count int, watcher jetstream.KeyWatcher) {
		for range count {
			c.print(what, entryOf(<-watcher.Updates()))
		}
		check(watcher.Stop())
	}
	watch("all", 4, must(kv.WatchAll(ctx)))
	watch("history", 5, must(kv.WatchAll(ctx, jetstream.IncludeHistory())))
	watch("b.*", 3, must(kv.Watch(ctx, "b.*")))
	watch("names only", 3, must(kv.Watch(ctx, "b.*", jetstream.MetaOnly())))
	watch("from", 3, must(kv.WatchAll(ctx, jetstream.ResumeFromRevision(3))))
	live, updates := must(kv.Watch(ctx, "d.>")), must(kv.WatchAll(ctx, jetstream.UpdatesOnly()))
	must(kv.PutString(ctx, "d.1", "x"))
	check(kv.Delete(ctx, "d.1")) // a purge may take away what a watch has not seen yet
	check(kv.Purge(ctx, "d.2"))
	watch("live", 4, live)
	watch("updates", 3, updates)
	for i := range 500 {
		must(kv.PutString(ctx, fmt.Sprintf("n.%d", i), fmt.Sprint(i)))
	}
	many := must(kv.Watch(ctx, "n.*"))
	for i := range 500 {
		if e := <-many.Updates(); e.Revision() != uint64(8+i) {
			c.print("many", i, entryOf(e))
		}
	}
	check(many.Stop())
	check(js.DeleteKeyValue(ctx, "w"))
}
