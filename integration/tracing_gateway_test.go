package integration

import (
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// `tentagate gateway` exports traces and metrics if the standard variables name a collector.
func TestGatewayCommandExportsByOTLP(t *testing.T) {
	to := newOTLPReceiver(t)
	backend, _ := echo(t)
	g := prepare(t)
	g.run(append(to.environment(), "JWT_SECRET_KEY="+secret, `BACKEND_SERVICES={"users":"`+backend.URL+`"}`),
		"gateway", "--listen", g.addr, "--admin="+g.admin)
	g.waitReady()
	tr := &traced{gateway: g, collector: to}
	id, got := tr.ask("/api/users/x", true, "Authorization", "Bearer "+token(t, "subject-of-the-log"))
	if got.status != 200 || !strings.Contains(got.body, id) {
		t.Errorf("the trace %s did not reach the service: %d %s", id, got.status, got.body)
	}
	testkit.Eventually(t, "the span", func() bool { return to.span(id) != nil })
	testkit.Eventually(t, "the metrics", func() bool {
		_, pushed := to.latest()
		return len(pushed["tentagate_requests_total"].GetSum().GetDataPoints()) > 0
	})
	testkit.Eventually(t, "the line in the access log", func() bool { return strings.Contains(g.log.String(), `"traceID":"`+id) })
	if strings.Contains(g.log.String(), "subject-of-the-log") {
		t.Error("the log names the user")
	}
	if name := to.span(id).GetName(); name != "GET /api/users" || to.resource["service.name"] != "tentagate" {
		t.Errorf("the span is named %q, the service %q", name, to.resource["service.name"])
	}
}
