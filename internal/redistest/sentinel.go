package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/freeport"
)

// MasterName is the name that the Sentinel of StartSentinel watches.
const MasterName = "main"

// Sentinel is a master with one replica, watched by one Sentinel.
type Sentinel struct {
	tb      testing.TB
	addr    string
	Master  *Server
	Replica *Server
}

// StartSentinel runs a master, a replica and a Sentinel that fails over after
// a second, until the test ends. The test is skipped, and says so, where
// redis-server is not installed.
func StartSentinel(tb testing.TB) *Sentinel {
	tb.Helper()
	master := Start(tb, "--repl-diskless-sync-delay", "0")
	replica := Start(tb, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port))
	port := freeport.GetPair(tb)
	s := &Sentinel{tb: tb, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Master: master, Replica: replica}

	dir, err := os.MkdirTemp("", "rs")
	if err != nil {
		tb.Fatal(err)
	}
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 5000\n",
		port, dir, MasterName, master.port, MasterName, MasterName)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("starting the Sentinel: %v", err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	s.waitReady()
	return s
}

// waitReady waits until the Sentinel knows the replica and the replica is in sync:
// only then can it fail over.
func (s *Sentinel) waitReady() {
	s.tb.Helper()
	c := redis.NewSentinelClient(&redis.Options{Addr: s.addr})
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	deadline := time.Now().Add(startTimeout)
	for {
		replicas, err := c.Replicas(ctx, MasterName).Result()
		if err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok" && !strings.Contains(replicas[0]["flags"], "down") {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("the Sentinel is not ready: %v %v", replicas, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// URL returns the Sentinel's address as TentaGate's configuration takes it,
// together with `sentinel` MasterName.
func (s *Sentinel) URL() string { return "redis://" + s.addr }
