//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package direct

import (
	"errors"
	"syscall"
)

// Supported reports whether idle connections can be looked at on this system.
const Supported = true

// look notes whether nothing has come on the socket, not even its end. It takes
// nothing and does not wait.
func (c *conn) look(fd uintptr) bool {
	var p [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		c.quiet = errors.Is(err, syscall.EAGAIN)
		return true
	}
}
