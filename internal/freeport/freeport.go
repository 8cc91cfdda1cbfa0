// Package freeport finds ports for the servers that tests start.
package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are below the range of local ports for outgoing connections (Linux: 32768
// and above). A connection of the test itself could otherwise take a port between its
// choice and its use.
const (
	lowest  = 10000
	highest = 32767
)

var given sync.Map // ports that this process has used

// Get returns a TCP port that is free on every address.
func Get(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest+1)
		if _, taken := given.LoadOrStore(port, nil); !taken && free(port) {
			return port
		}
	}
	tb.Fatal("found no free port")
	return 0
}

// GetPair is Get for a port whose neighbour 10000 above is free too, as Redis Cluster
// nodes need.
func GetPair(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := lowest + rand.IntN(highest-10000-lowest+1)
		if _, taken := given.LoadOrStore(port, nil); taken || !free(port) {
			continue
		}
		if _, taken := given.LoadOrStore(port+10000, nil); !taken && free(port+10000) {
			return port
		}
	}
	tb.Fatal("found no free pair of ports")
	return 0
}

// Addr is Get's port on the loopback address.
func Addr(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Get(tb)))
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
