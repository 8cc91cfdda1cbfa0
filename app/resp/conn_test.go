package resp_test

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/resp"
	"github.com/pythopus/tentagate/internal/testkit"
)

// server answers whatever it is sent with the same bytes.
func server(t *testing.T, answer string) (address string) {
	t.Helper()
	return testkit.Serve(t, func(c net.Conn) {
		request := make([]byte, 4096)
		for {
			if _, err := c.Read(request); err != nil {
				return
			}
			if _, err := c.Write([]byte(answer)); err != nil {
				return
			}
		}
	})
}

// Without the check go-redis allocates what is announced, or panics.
func TestHostileLengths(t *testing.T) {
	for _, answer := range []string{
		"*9223372036854775807\r\n", "*2147483647\r\n", "$9223372036854775807\r\n", "$536870912\r\n", "%2147483647\r\n",
		strings.Repeat("*1\r\n", 100_000),
	} {
		dial := resp.Checked(redis.NewDialer(&redis.Options{}))
		c := redis.NewClient(&redis.Options{Addr: server(t, answer), Dialer: dial, MaxRetries: -1, Protocol: 2, DisableIdentity: true})
		err := c.Do(context.Background(), "GET", "a").Err()
		if err == nil || !strings.Contains(err.Error(), "invalid reply from Redis") {
			t.Errorf("%.40q: %v", answer, err)
		}
		_ = c.Close()
	}
}

// go-redis looks whether the server has closed a connection before it uses it again.
func TestSocketIsVisible(t *testing.T) {
	dial := resp.Checked(redis.NewDialer(&redis.Options{}))
	c, err := dial(context.Background(), "tcp", server(t, "+OK\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(syscall.Conn); !ok {
		t.Error("the connection hides its socket")
	}
	inner, _ := net.Pipe()
	piped, err := resp.Checked(func(context.Context, string, string) (net.Conn, error) { return inner, nil })(context.Background(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer piped.Close()
	if _, ok := piped.(syscall.Conn); ok {
		t.Error("a connection without a socket, such as TLS, pretends to have one")
	}
}
