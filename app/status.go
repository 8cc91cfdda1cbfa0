package app

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/running"
)

// configStatus is the state of the running configuration.
type configStatus struct {
	// Loaded is when it was started.
	Loaded time.Time `json:"loaded"`
}

// redisStatus is the state of a connection.
type redisStatus struct {
	// Addresses have no user names and no passwords.
	Addresses []string `json:"addresses"`
	// Topology is single, sentinel or cluster.
	Topology  string `json:"topology"`
	KeyPrefix string `json:"key_prefix"`
	// Gateways is the number of those that share the Redis and the key prefix, this one
	// included.
	Gateways   int               `json:"gateways"`
	Partitions []partitionStatus `json:"partitions"`
}

// partitionStatus is the state of a server, or of a master of a Cluster.
type partitionStatus struct {
	// Node is host:port of a master of a Cluster.
	Node string `json:"node,omitempty"`
	// State is available, read_only or unavailable, and unknown before the first
	// answer.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Reason is the newest error, if the state is not available.
	Reason string `json:"reason,omitempty"`
}

func init() {
	admin.RegisterStatus("config", func() *configStatus {
		// A configuration that could not be loaded is not the running one.
		if a, ok := running.App[*App]("tentagate"); ok {
			return &configStatus{a.loaded.UTC()}
		}
		return nil
	}, func(w io.Writer, c *configStatus) error {
		_, err := fmt.Fprintf(w, "LOADED\n%s\n", c.Loaded.Format(time.RFC3339))
		return err
	})
	admin.RegisterStatus("redis", statusOfRedis, printRedis)
}

func statusOfRedis() []redisStatus {
	list := []redisStatus{}
	for _, rd := range connections.Values() {
		s := redisStatus{
			Addresses: rd.settings.options.Addrs, Topology: "single", KeyPrefix: rd.settings.prefix,
			Gateways: rd.Instances(), Partitions: []partitionStatus{},
		}
		switch {
		case rd.settings.cluster:
			s.Topology = "cluster"
		case rd.settings.options.MasterName != "":
			s.Topology = "sentinel"
		}
		for _, p := range rd.availability.Status() {
			one := partitionStatus{Node: p.Name, State: p.State.String(), Since: p.Since.UTC()}
			if !p.Contacted && p.Reason == nil {
				one.State = "unknown"
			}
			if p.Reason != nil {
				one.Reason = p.Reason.Error()
			}
			s.Partitions = append(s.Partitions, one)
		}
		slices.SortFunc(s.Partitions, func(a, b partitionStatus) int { return cmp.Compare(a.Node, b.Node) })
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b redisStatus) int {
		return cmp.Compare(strings.Join(a.Addresses, " "), strings.Join(b.Addresses, " "))
	})
	return list
}

func printRedis(w io.Writer, list []redisStatus) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "none: everything is kept in the memory of this gateway")
		return err
	}
	fmt.Fprintln(w, "ADDRESS\tTOPOLOGY\tSTATE\tSINCE\tGATEWAYS\tREASON")
	for _, s := range list {
		for _, p := range s.Partitions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", cmp.Or(p.Node, strings.Join(s.Addresses, ",")), s.Topology, p.State,
				p.Since.Format(time.RFC3339), s.Gateways, cmp.Or(p.Reason, "-"))
		}
	}
	return nil
}
