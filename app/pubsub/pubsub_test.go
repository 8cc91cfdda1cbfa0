package pubsub_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/pubsub"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// Replies of another type than a subscription has make go-redis panic, in a goroutine
// of its own if its channels are used.
func TestHostileReplies(t *testing.T) {
	answers := []string{
		"*3\r\n:1\r\n:2\r\n:3\r\n", "*0\r\n", "*1\r\n$7\r\nmessage\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nx\r\n",
		"*3\r\n$7\r\nmessage\r\n:1\r\n$1\r\nx\r\n", ":1\r\n", "-ERR no\r\n",
		"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n",
	}
	var subscriptions atomic.Int64
	addr := testkit.Serve(t, func(c net.Conn) {
		answer(c, func() string {
			n := int(subscriptions.Add(1))
			return answers[min(n, len(answers))-1]
		})
	})
	client := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		pubsub.Listen(ctx, client, "a", func(payload string) {
			select {
			case got <- payload:
			default:
			}
		})
	}()
	if payload := <-got; payload != "hello" {
		t.Errorf("got %q", payload)
	}
	cancel()
	<-ended
}

// answer answers the commands on a connection, subscriptions with what next returns.
func answer(c net.Conn, next func() string) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var reply string
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "hello":
			reply = "-ERR unknown command\r\n"
		case "subscribe":
			reply = next()
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
	}
}

// Messages come in order, again after the connection was lost, and the end of the
// context ends the wait for them.
func TestListen(t *testing.T) {
	server := redistest.Start(t)
	client := redistest.BackgroundClient(t, server.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	got, ended := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		pubsub.Listen(ctx, client, "a", func(payload string) { got <- payload })
	}()
	publish := func(payload string) bool {
		n, err := server.Client().Publish(context.Background(), "a", payload).Result()
		return err == nil && n > 0
	}
	testkit.Eventually(t, "a subscription", func() bool { return publish("1") })
	if !publish("2") || <-got != "1" || <-got != "2" {
		t.Error("lost, or in another order")
	}
	server.Kill()
	server.Restart()
	testkit.Eventually(t, "a message after a restart", func() bool {
		publish("3")
		select {
		case m := <-got:
			return m == "3"
		default:
			return false
		}
	})
	cancel()
	<-ended
}
