package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// What a subscription has heard so far; callbacks run on goroutines of their own.
type heard struct {
	lock     sync.Mutex
	messages []*nats.Msg
	sub      *nats.Subscription
}

func (h *heard) take(m *nats.Msg) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.messages = append(h.messages, m)
}

func (h *heard) all() []*nats.Msg {
	h.lock.Lock()
	defer h.lock.Unlock()
	return append([]*nats.Msg{}, h.messages...)
}

func (h *heard) texts() string {
	words := []string{}
	for _, m := range h.all() {
		words = append(words, string(m.Data))
	}
	return strings.Join(words, " ")
}

func collect(nc *nats.Conn, subject string) *heard { return collectQueue(nc, subject, "") }

func collectQueue(nc *nats.Conn, subject, queue string) *heard {
	h := &heard{}
	if queue == "" {
		h.sub = must(nc.Subscribe(subject, h.take))
	} else {
		h.sub = must(nc.QueueSubscribe(subject, queue, h.take))
	}
	return h
}

// After a flush the messages are in the client; the barrier runs when all callbacks have had them.
func flush(connections ...*nats.Conn) {
	for _, nc := range connections {
		check(nc.FlushTimeout(20 * time.Second))
	}
	for _, nc := range connections {
		done := make(chan struct{})
		check(nc.Barrier(func() { close(done) }))
		<-done
	}
}

func pubsub(c *session) {
	a, b := c.connect(), c.connect()
	got, again := collect(b, c.s("ps.x")), collect(b, c.s("ps.*"))
	flush(b)
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	check(a.Publish(c.s("ps.x"), []byte("one")))
	check(a.Publish(c.s("ps.x"), nil))
	check(a.Publish(c.s("ps.x"), bytes))
	check(a.PublishRequest(c.s("ps.x"), c.s("ps.reply"), []byte("with reply")))
	check(a.Publish(c.s("ps.nobody"), []byte("to nobody")))
	flush(a, b)
	for _, m := range got.all() {
		c.print(m.Subject, show(m.Data), m.Reply)
	}
	c.print("wildcard got", len(again.all()))
	own, deaf := collect(a, c.s("ps.echo")), c.connect(nats.NoEcho())
	unheard := collect(deaf, c.s("ps.echo"))
	flush(a, deaf)
	check(a.Publish(c.s("ps.echo"), nil))
	check(deaf.Publish(c.s("ps.echo"), nil))
	flush(a, deaf, a)
	c.print("echo", len(own.all()), "no echo", len(unheard.all()))
	many := collect(b, c.s("ps.many.>"))
	big := collect(b, c.s("ps.big"))
	flush(b)
	for i := range 2000 {
		check(a.Publish(c.s(fmt.Sprintf("ps.many.%d", i%3)), []byte(strconv.Itoa(i))))
	}
	check(a.Publish(c.s("ps.big"), make([]byte, 1024*1024)))
	flush(a, b)
	c.print(len(many.all()), "in order", inOrder(many.all()))
	c.print("big", show(big.all()[0].Data))
}

func inOrder(messages []*nats.Msg) bool {
	last := -1
	for _, m := range messages {
		n := must(strconv.Atoi(string(m.Data)))
		if n <= last {
			return false
		}
		last = n
	}
	return true
}

func wildcard(c *session) {
	a, b := c.connect(), c.connect()
	filters := []string{"w.*", "w.>", "w.*.c", "w.a.*.c", "w.a", "w.a.>", "*.a", "w.*.*", "w.*.>", "W.a"}
	literals := []string{"w", "w.a", "w.b", "W.a", "wa.a", "w.a.b", "w.b.c", "w.a.x.c", "w.a.b.c.d", "w.ü"}
	heardBy := map[string]*heard{}
	for _, filter := range filters {
		heardBy[filter] = collect(b, c.s(filter))
	}
	flush(b)
	for _, literal := range literals {
		check(a.Publish(c.s(literal), []byte(literal)))
	}
	flush(a, b)
	for _, filter := range filters {
		c.print(filter, "<-", heardBy[filter].texts())
	}
}

func queue(c *session) {
	members, connections := []*heard{}, []*nats.Conn{}
	for range 3 {
		nc := c.connect()
		connections = append(connections, nc)
		members = append(members, collectQueue(nc, c.s("q.work"), "g"))
		flush(nc)
	}
	plain, sender := c.connect(), c.connect()
	all := collect(plain, c.s("q.*"))
	others := []*heard{collectQueue(plain, c.s("q.>"), "other"), collectQueue(plain, c.s("q.>"), "other")}
	flush(plain)
	send := func(from, to int) {
		for i := from; i < to; i++ {
			check(sender.Publish(c.s("q.work"), []byte(strconv.Itoa(i))))
		}
		flush(sender)
		flush(connections...)
		flush(plain)
		c.print("once each", onceEach(members, to))
	}
	send(0, 300)
	for _, member := range members {
		c.print("a member has some", len(member.all()) > 30, "in order", inOrder(member.all()))
	}
	c.print("plain", len(all.all()), "other group", len(others[0].all())+len(others[1].all()))
	check(members[0].sub.Unsubscribe())
	flush(connections[0])
	send(300, 400)
	check(members[1].sub.Unsubscribe())
	flush(connections[1])
	before := len(members[2].all())
	send(400, 500)
	c.print("left over", len(members[2].all())-before)
}

func onceEach(members []*heard, count int) bool {
	numbers := []int{}
	for _, member := range members {
		for _, m := range member.all() {
			numbers = append(numbers, must(strconv.Atoi(string(m.Data))))
		}
	}
	sort.Ints(numbers)
	for i, n := range numbers {
		if i != n {
			return false
		}
	}
	return len(numbers) == count
}

func request(c *session) {
	a, b, old := c.connect(), c.connect(), c.connect(nats.UseOldRequestStyle())
	must(b.Subscribe(c.s("rq.echo"), func(m *nats.Msg) {
		check(m.RespondMsg(&nats.Msg{Data: append([]byte("got "), m.Data...), Header: m.Header}))
	}))
	must(b.Subscribe(c.s("rq.silent"), func(m *nats.Msg) {}))
	must(b.Subscribe(c.s("rq.kind"), func(m *nats.Msg) { check(m.Respond([]byte(replyKind(m.Reply)))) }))
	flush(b)
	for _, nc := range []*nats.Conn{a, old} {
		for _, text := range []string{"one", "two"} {
			c.print(show(must(nc.Request(c.s("rq.echo"), []byte(text), 20*time.Second)).Data))
		}
		c.print(show(must(nc.Request(c.s("rq.kind"), nil, 20*time.Second)).Data))
		_, err := nc.Request(c.s("rq.nobody"), nil, 20*time.Second)
		c.print(err)
		_, err = nc.Request(c.s("rq.silent"), nil, 200*time.Millisecond)
		c.print(err)
	}
	inbox := a.NewInbox()
	replies := collect(a, inbox)
	check(a.PublishRequest(c.s("rq.nobody"), inbox, []byte("x")))
	flush(a)
	for _, m := range replies.all() {
		c.print(show(m.Data), m.Header)
	}
	withHeader := &nats.Msg{Subject: c.s("rq.echo"), Header: nats.Header{"k": {"v", "w"}}}
	c.print(must(a.RequestMsg(withHeader, 20*time.Second)).Header)
}

func headers(c *session) {
	a, b := c.connect(), c.connect()
	got := collect(b, c.s("hd"))
	flush(b)
	sets := []nats.Header{
		{"Key": {"value"}},
		{"a": {"1", "3"}, "b": {"2"}, "A": {"4"}},
		{"empty": {""}, "Case-Kept": {"x"}, "case-kept": {"y"}},
		{"unicode": {"grüß dich 🐦"}, "colon": {"a: b: c"}, "spaces": {"in  the   middle"}},
		{"long": {strings.Repeat("v", 3000)}},
	}
	for _, set := range sets {
		check(a.PublishMsg(&nats.Msg{Subject: c.s("hd"), Header: set, Data: []byte("body")}))
	}
	check(a.PublishMsg(&nats.Msg{Subject: c.s("hd"), Header: nats.Header{"only": {"headers"}}}))
	check(a.Publish(c.s("hd"), []byte("none")))
	flush(a, b)
	for _, m := range got.all() {
		c.print(show(m.Data), fmt.Sprintf("%q", map[string][]string(m.Header)))
	}
}

func drain(c *session) {
	a, b, o := c.connect(), c.connect(), c.connect()
	slow := &heard{}
	sub := must(b.Subscribe(c.s("dr.sub"), func(m *nats.Msg) {
		time.Sleep(time.Millisecond)
		slow.take(m)
	}))
	flush(b)
	for i := range 100 {
		check(a.Publish(c.s("dr.sub"), []byte(strconv.Itoa(i))))
	}
	check(a.Flush())
	check(b.Flush())
	check(sub.Drain())
	closed := sub.StatusChanged(nats.SubscriptionClosed)
	<-closed
	check(a.Publish(c.s("dr.sub"), []byte("late")))
	flush(a, b)
	c.print("drained", len(slow.all()), inOrder(slow.all()), sub.IsValid())
	out := collect(o, c.s("dr.out"))
	must(b.Subscribe(c.s("dr.conn"), func(m *nats.Msg) { check(b.Publish(c.s("dr.out"), m.Data)) }))
	flush(b, o)
	for i := range 100 {
		check(a.Publish(c.s("dr.conn"), []byte(strconv.Itoa(i))))
	}
	flush(a)
	done := make(chan struct{})
	b.SetClosedHandler(func(*nats.Conn) { close(done) })
	check(b.Drain())
	<-done
	flush(o)
	c.print("connection drained", len(out.all()), inOrder(out.all()), b.IsClosed())
}

func unsubMax(c *session) {
	a, b := c.connect(), c.connect()
	first, second := collect(b, c.s("um")), collect(b, c.s("um"))
	check(first.sub.AutoUnsubscribe(3))
	flush(b)
	send := func(words ...string) {
		for _, word := range words {
			check(a.Publish(c.s("um"), []byte(word)))
		}
		flush(a, b)
	}
	send("1", "2", "3", "4", "5")
	check(second.sub.AutoUnsubscribe(7))
	flush(b)
	send("6", "7", "8", "9")
	c.print(first.texts(), "|", second.texts())
}

func reconnect(c *session) {
	back := make(chan struct{}, 16)
	options := []nats.Option{
		nats.ReconnectWait(50 * time.Millisecond), nats.MaxReconnects(-1),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }),
	}
	a, b := c.connect(options...), c.connect(options...)
	got, limited := collect(b, c.s("rc.*")), collect(b, c.s("rc.max"))
	check(limited.sub.AutoUnsubscribe(3))
	must(b.QueueSubscribe(c.s("rc.serve"), "q", func(m *nats.Msg) { check(m.Respond([]byte("served"))) }))
	flush(b)
	check(a.Publish(c.s("rc.max"), nil))
	flush(a, b)
	c.ask("restart")
	<-back
	<-back
	flush(b)
	for range 4 {
		check(a.Publish(c.s("rc.max"), nil))
	}
	flush(a, b)
	c.print(len(got.all()), "limited", len(limited.all()))
	c.print(show(must(a.Request(c.s("rc.serve"), nil, 20*time.Second)).Data))
}
