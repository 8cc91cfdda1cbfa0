package redistest

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Cluster is a Redis Cluster of three masters without replicas.
type Cluster struct {
	tb      testing.TB
	Servers []*Server
}

// StartCluster runs a Cluster on loopback until the test ends. The test is
// skipped, and says so, where redis-server or redis-cli is not installed.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	Require(tb)
	if _, err := exec.LookPath("redis-cli"); err != nil {
		tb.Skip("redis-cli is not installed: skipping a test that needs a Redis Cluster")
	}
	c := &Cluster{tb: tb}
	for range 3 {
		c.Servers = append(c.Servers, Start(tb,
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"))
	}
	args := append([]string{"--cluster", "create"}, c.Addrs()...)
	create := exec.Command("redis-cli", append(args, "--cluster-replicas", "0", "--cluster-yes")...)
	if out, err := create.CombinedOutput(); err != nil {
		tb.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	c.waitReady()
	return c
}

// waitReady waits until every node reports that all slots are served.
func (c *Cluster) waitReady() {
	c.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for _, s := range c.Servers {
		client := s.Client()
		for {
			info, err := client.ClusterInfo(context.Background()).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") {
				break
			}
			if time.Now().After(deadline) {
				c.tb.Fatalf("the Cluster is not ready: %v\n%s", err, info)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Addrs returns host:port of each node.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, 0, len(c.Servers))
	for _, s := range c.Servers {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// URLs returns the addresses as TentaGate's configuration takes them.
func (c *Cluster) URLs() []string {
	urls := make([]string, 0, len(c.Servers))
	for _, s := range c.Servers {
		urls = append(urls, s.URL())
	}
	return urls
}

// Reshard moves slots from the first node to the second, live.
func (c *Cluster) Reshard(slots string) {
	c.tb.Helper()
	id := func(s *Server) string {
		out, err := s.Client().Do(context.Background(), "CLUSTER", "MYID").Text()
		if err != nil {
			c.tb.Fatalf("cluster myid: %v", err)
		}
		return out
	}
	cmd := exec.Command("redis-cli", "--cluster", "reshard", c.Servers[0].Addr(),
		"--cluster-from", id(c.Servers[0]), "--cluster-to", id(c.Servers[1]), "--cluster-slots", slots, "--cluster-yes")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		c.tb.Fatalf("redis-cli --cluster reshard: %v\n%s", err, out.String())
	}
}
