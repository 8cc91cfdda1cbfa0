package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
)

// endless is a body of a client that sends as fast as it may.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// An upstream that hangs and takes nothing of an upload is given up too, though the
// request never comes to the end from which response_header_timeout counts.
func TestUploadToAHungUpstream(t *testing.T) {
	for _, how := range []string{"on", "off"} {
		hung := make(chan struct{})
		addr := scripted(t, func(*net.TCPConn, *bufio.Reader) { <-hung })
		gateway := servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate {\n\t\t\tdirect %s\n\t\t\tresponse_header_timeout 100ms\n\t\t\tbreaker hung-%[2]s {\n\t\t\t\tconsecutive 1\n\t\t\t}\n\t\t}\n\t}\n}", addr, how))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of a test that fails
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway.URL, io.NopCloser(endless{}))
		if err != nil {
			t.Fatal(err)
		}
		// The client still sends, and may miss an answer with which the connection is closed.
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("direct %s: %s", how, resp.Status)
			}
		}
		expectState(t, "hung-"+how, addr, "open")
		close(hung)
		cancel()
	}
}
