//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// suffix ends the name of a socket, and lockSuffix that of the lock beside it.
	suffix     = ".sock"
	lockSuffix = ".lock"
	// maxSocketPath is the longest path of a socket that all systems accept, in bytes.
	maxSocketPath = 103
	// maxSameName is how many gateways may have one address, as while one takes the place
	// of another.
	maxSameName = 9
	// dialTimeout is how long a gateway may take to accept a connection.
	dialTimeout = time.Second
)

// systemDirs are where the directory of sockets may be if $XDG_RUNTIME_DIR is not set or
// cannot be used, in this order.
var systemDirs = []string{"/run", "/tmp"}

// userRuntime is where the directories of users' sessions are, which commands look into
// without $XDG_RUNTIME_DIR too, as sudo and cron run them.
var userRuntime = "/run/user"

// claimed holds the lock of the socket of this process: its end releases it.
var claimed *os.File

// ClaimSocket returns the path of a Unix socket for the admin API of a gateway on an
// address, which no other process uses until this one ends. A file that is there is one
// that a process left behind. The socket is in a directory that only this user can enter:
// tentagate-<uid> in $XDG_RUNTIME_DIR, /run or /tmp, the first that can be used.
func ClaimSocket(address string) (path string, err error) {
	name := socketName(address)
	var failed []error
	for _, dir := range socketDirs() {
		if err := makePrivate(dir); err != nil {
			failed = append(failed, err)
			continue
		}
		for n := 1; n <= maxSameName; n++ {
			path := filepath.Join(dir, name)
			if n > 1 {
				path += fmt.Sprintf("-%d", n)
			}
			if path += suffix; len(path) > maxSocketPath {
				err = fmt.Errorf("%s is longer than %d bytes", path, maxSocketPath)
			} else if claimed, err = claim(path); err == nil {
				return path, nil
			}
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

// claim takes the lock of a socket.
func claim(path string) (*os.File, error) {
	lock, err := os.OpenFile(strings.TrimSuffix(path, suffix)+lockSuffix, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err = free(lock, path); err == nil {
		return lock, nil
	}
	_ = lock.Close()
	return nil, err
}

// free locks a socket, and returns an error if a process uses it, or if no process can
// listen there: a seccomp profile or a file system may forbid it.
func free(lock *os.File, path string) error {
	err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%s: a running gateway has it", path)
	} else if err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is not a socket", path)
	case answers(path):
		return fmt.Errorf("%s: another program listens there", path)
	default:
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		return err
	}
	defer l.Close() // which removes it
	return os.Chmod(path, 0o600)
}

// sockets returns the sockets of this user's gateways that run.
func sockets() (paths []string) {
	dirs := socketDirs()
	if os.Getenv("XDG_RUNTIME_DIR") == "" && userRuntime != "" {
		uid := os.Geteuid()
		dirs = append(dirs, fmt.Sprintf("%s/%d/tentagate-%d", userRuntime, uid, uid))
	}
	for _, dir := range dirs {
		if checkPrivate(dir) != nil {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			if entry.Type() == fs.ModeSocket && strings.HasSuffix(path, suffix) && answers(path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// answers reports whether a process listens on a socket.
func answers(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// socketName makes a name for a file of an address.
func socketName(address string) string {
	const most = 32
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, address)
	if name = strings.Trim(name, "_."); len(name) > most {
		name = name[:most]
	}
	return cmp.Or(name, "gateway")
}

// socketDirs returns where this user's sockets may be.
func socketDirs() (dirs []string) {
	name := fmt.Sprintf("tentagate-%d", os.Geteuid())
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, name))
	}
	for _, dir := range systemDirs {
		// On some systems /tmp is a link, in a directory of root.
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dirs = append(dirs, filepath.Join(real, name))
		}
	}
	return dirs
}

// makePrivate makes a directory that only this user can enter and nobody else can replace,
// unless there is one.
func makePrivate(dir string) error {
	if err := checkParent(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkPrivate(dir)
}

func checkPrivate(dir string) error {
	if err := checkParent(filepath.Dir(dir)); err != nil {
		return err
	}
	info, owner, err := directory(dir)
	switch {
	case err != nil:
		return err
	case owner != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be entered by others: its mode is %o, want 700", dir, info.Mode().Perm())
	}
	return nil
}

// checkParent accepts a directory in which others cannot replace what is this user's.
func checkParent(dir string) error {
	info, owner, err := directory(dir)
	switch {
	case err != nil:
		return err
	case owner != os.Geteuid() && owner != 0:
		return fmt.Errorf("%s belongs to another user", dir)
	case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("%s can be written by others and is not sticky", dir)
	}
	return nil
}

// directory returns what is known of a directory, which is not a symbolic link, and its owner.
func directory(path string) (info fs.FileInfo, owner int, err error) {
	if info, err = os.Lstat(path); err != nil {
		return nil, 0, err
	}
	known, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok {
		return nil, 0, fmt.Errorf("%s is not a directory", path)
	}
	return info, int(known.Uid), nil
}
