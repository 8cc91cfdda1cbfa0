//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package admin

import "errors"

// ClaimSocket returns an error: this system has no sockets that only one user can use.
func ClaimSocket(string) (path string, err error) { return "", errors.ErrUnsupported }

func sockets() []string { return nil }
