package app

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// Every client checks what the server sends before it is parsed.
func TestRepliesAreChecked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// More than is accepted, and little enough for a client that believes it.
			defer c.Close()
			_, _ = c.Write([]byte("$33554432\r\n"))
		}
	}()
	for _, options := range []RedisConfig{{}, {Cluster: true}} {
		options.URLs = []string{"redis://" + l.Addr().String()}
		rd, release, err := Connect(&options, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		further := rd.NewClient(time.Minute, 1)
		for name, client := range map[string]redis.UniversalClient{"background": rd.Background(), "further": further} {
			err := client.Get(context.Background(), "a").Err()
			if err == nil || !strings.Contains(err.Error(), "invalid reply from Redis") {
				t.Errorf("cluster %v, %s: %v", options.Cluster, name, err)
			}
		}
		_ = further.Close()
		release()
	}
}
