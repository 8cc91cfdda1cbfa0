// Package freeport finds ports for the servers that tests start.
package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports come from below the range that systems take the local ports of outgoing
// connections from (Linux: 32768 and above). From within it, a connection of the
// test itself may take the port between its choice and its use.
const (
	lowest  = 10000
	highest = 32767
)

var given sync.Map // of this process: no port is given twice

// Get returns a TCP port that nobody listens on, on any address.
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

// GetPair returns a port like Get's so that the one 10000 above it is free too,
// which Redis Cluster nodes use.
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
