//go:build unix

package fetch

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A named pipe is refused. Reading it would wait for a writer, and the end of the source
// for that.
func TestNamedPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "openapi.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := readFile(pipe)
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
		if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
			<-read
			_ = f.Close()
		}
	}
}
