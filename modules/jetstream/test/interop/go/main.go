// The Go program of the interop tests: conat-interop TARGET-AS-JSON SCENARIO…
// It prints a transcript that must be the same for nats-server and conat; see ../README.md.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

type target struct {
	URL         string `json:"url"`
	Credentials struct {
		User  string `json:"user"`
		Pass  string `json:"pass"`
		Token string `json:"token"`
	} `json:"credentials"`
	InboxPrefix   string `json:"inboxPrefix"`
	APIPrefix     string `json:"apiPrefix"`
	SubjectPrefix string `json:"subjectPrefix"`
}

type scenario func(*session)

var scenarios = map[string]scenario{
	"pubsub":    pubsub,
	"wildcard":  wildcard,
	"queue":     queue,
	"request":   request,
	"headers":   headers,
	"drain":     drain,
	"unsub-max": unsubMax,
	"reconnect": reconnect,

	"js-publish": jsPublish,
	"js-consume": jsConsume,
	"kv-basics":  kvBasics,
	"kv-watch":   kvWatch,
}

func main() {
	var to target
	check(json.Unmarshal([]byte(os.Args[1]), &to))
	answers := bufio.NewReader(os.Stdin)
	for _, name := range os.Args[2:] {
		run(&session{target: to, name: name, answers: answers})
	}
}

// A failure is a line of the transcript like any other.
func run(c *session) {
	defer func() {
		if problem := recover(); problem != nil {
			c.print("FAILED", fmt.Sprint(problem), string(debug.Stack()))
		}
		for _, nc := range c.open {
			nc.Close()
		}
	}()
	scenarios[c.name](c)
	c.print("end")
}

type session struct {
	target  target
	name    string
	answers *bufio.Reader
	open    []*nats.Conn
}

func (c *session) print(words ...any) {
	text := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	fmt.Println(c.name + ": " + strings.ReplaceAll(text, "\n", " | "))
}

// Asks the test to do something to the server, and waits until it has.
func (c *session) ask(command string) {
	fmt.Println("@" + command)
	_, err := c.answers.ReadString('\n')
	check(err)
}

func (c *session) s(subject string) string { return c.target.SubjectPrefix + subject }

func (c *session) connect(options ...nats.Option) *nats.Conn {
	options = append(options, nats.Timeout(20*time.Second))
	if c.target.Credentials.User != "" {
		options = append(options, nats.UserInfo(c.target.Credentials.User, c.target.Credentials.Pass))
	}
	if c.target.Credentials.Token != "" {
		options = append(options, nats.Token(c.target.Credentials.Token))
	}
	if c.target.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(c.target.InboxPrefix))
	}
	nc, err := nats.Connect(c.target.URL, options...)
	check(err)
	c.open = append(c.open, nc)
	return nc
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// A payload as text; a longer one by its length and sum.
func show(data []byte) string {
	plain := len(data) <= 256
	sum := 0
	for i, b := range data {
		plain = plain && b < 128
		sum = (sum*31 + int(b) + i) % 1_000_003
	}
	if plain {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%d bytes %d", len(data), sum)
}

// Inboxes of others have different names on different servers; that they are inboxes is the same.
func replyKind(reply string) string {
	if strings.HasPrefix(reply, "_INBOX") || strings.HasPrefix(reply, "_R_") {
		return "inbox"
	}
	return reply
}
