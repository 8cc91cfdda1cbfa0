package app

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pythopus/tentagate/internal/testkit"
)

// Every client checks what the server sends before it is parsed.
func TestRepliesAreChecked(t *testing.T) {
	// More than is accepted, and little enough for a client that believes it. The server
	// reads on, so that the connection is not reset before that is read.
	addr := testkit.Serve(t, func(c net.Conn) {
		_, _ = c.Write([]byte("$33554432\r\n"))
		_, _ = io.Copy(io.Discard, c)
	})
	for _, options := range []RedisConfig{{}, {Cluster: true}} {
		options.URLs = []string{"redis://" + addr}
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
