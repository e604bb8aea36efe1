// Go clients of the conat benchmark: one publisher, one subscriber, a bounded number of messages
// under way. Prints messages a second.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

func main() {
	url := os.Args[1]
	bytes, _ := strconv.Atoi(os.Args[2])
	messages, _ := strconv.ParseInt(os.Args[3], 10, 64)
	window, _ := strconv.ParseInt(os.Args[4], 10, 64)
	publisher := connect(url)
	subscriber := connect(url)
	defer publisher.Close()
	defer subscriber.Close()
	var heard atomic.Int64
	subscription, err := subscriber.Subscribe("bench.go", func(*nats.Msg) { heard.Add(1) })
	fail(err)
	fail(subscription.SetPendingLimits(-1, -1))
	fail(subscriber.Flush())
	run(publisher, &heard, bytes, messages/10, window)
	took := run(publisher, &heard, bytes, messages, window)
	fmt.Printf("{\"perSecond\": %f}\n", float64(messages)/took.Seconds())
}

func run(publisher *nats.Conn, heard *atomic.Int64, bytes int, messages, window int64) time.Duration {
	payload := make([]byte, bytes)
	heard.Store(0)
	began := time.Now()
	for sent := int64(0); sent < messages; sent++ {
		if sent-heard.Load() >= window {
			fail(publisher.Flush())
			for sent-heard.Load() >= window/2 {
				time.Sleep(50 * time.Microsecond)
			}
		}
		fail(publisher.Publish("bench.go", payload))
	}
	fail(publisher.Flush())
	for heard.Load() < messages {
		time.Sleep(50 * time.Microsecond)
	}
	return time.Since(began)
}

func connect(url string) *nats.Conn {
	connection, err := nats.Connect(url, nats.Timeout(10*time.Second))
	fail(err)
	return connection
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
