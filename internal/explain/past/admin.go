package past

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/requestid"
	"github.com/pythopus/tentagate/internal/stage"
)

// uri is the endpoint of the admin API, with the id behind it.
const uri = "/tentagate/requests/"

func init() {
	admin.RegisterAPI("requests", admin.Endpoint{Pattern: uri, Serve: serve, Operations: []admin.Operation{{
		Method: http.MethodGet, Path: uri + "{id}", Summary: "What the gateway decided about a request, by the id in its field X-Request-Id", Answer: Answer{},
		Fails: map[int]string{http.StatusBadRequest: "The id is malformed", http.StatusNotFound: "No request of that id is kept"},
	}}})
}

var errID = errors.New("the id is malformed: it has 1 to 128 letters, digits, dots, underscores and hyphens")

func serve(w http.ResponseWriter, r *http.Request) error {
	id := strings.TrimPrefix(r.URL.Path, uri)
	if !requestid.Valid(id) {
		return admin.Error(http.StatusBadRequest, errID)
	}
	s := kept.Load()
	if s == nil {
		return admin.Error(http.StatusNotFound, errors.New("no requests are kept: the configuration has no `telemetry` and no `tentagate` directive"))
	}
	found := s.find(id)
	if len(found) == 0 {
		return admin.Error(http.StatusNotFound, s.notFound(id))
	}
	return admin.JSON(w, answerFor(found))
}

// notFound says where else a request may be.
func (s *store) notFound(id string) error {
	return fmt.Errorf("no request %s is kept: of the requests that passed a `telemetry` handler (the directive `tentagate` has one) and have an id, this gateway, which started at %s, keeps the last %d, and apart from them the last %d with a 5xx, %d with a 4xx and %d that took %s or longer. "+
		"With several replicas ask each of them. The access log has the id as request_id",
		id, s.since.UTC().Format(time.RFC3339), sizes[other], sizes[failed], sizes[refused], sizes[slow], slowAfter)
}

// Show asks the gateway for a request, and prints what it decided.
func Show(cmd *cobra.Command, id string) error {
	if !requestid.Valid(id) {
		return fmt.Errorf("--request-id: %w", errID)
	}
	return admin.Do(cmd, http.MethodGet, uri+url.PathEscape(id), nil, show)
}

func show(w io.Writer, a Answer) error {
	for i := range a.Requests {
		if i > 0 {
			fmt.Fprintln(w)
		}
		a.Requests[i].show(w)
	}
	if n := len(a.Requests) + a.More; n > 1 {
		fmt.Fprintf(w, "\n%d requests have this id; the newest is the first", n)
		if a.More > 0 {
			fmt.Fprintf(w, ", and %d older ones are left out", a.More)
		}
		fmt.Fprintln(w)
	}
	return nil
}

// outcomes are what people read.
var outcomes = map[Outcome]string{
	forwarded: "answered by the service", refusedBy: "refused by the gateway", answered: "answered by the gateway",
	clientClosed: "the client closed the request", aborted: "the request was aborted",
}

func (p *Past) show(w io.Writer) {
	fmt.Fprintf(w, "%s %s%s from %s by %s at %s\n", p.Method, p.Host, p.Path, p.Client, p.Protocol, p.Time.Format("2006-01-02T15:04:05.000Z07:00"))
	if p.TraceID != "" {
		fmt.Fprintf(w, "trace %s\n", p.TraceID)
	}
	fmt.Fprintln(w)
	explain.PrintSteps(w, p.Steps)
	var stages []string
	for i := range stage.Stage(stage.Count) {
		if spent, ok := p.Stages[i.String()]; ok {
			stages = append(stages, i.String()+" "+millis(spent))
		}
	}
	fmt.Fprintf(w, "\n%s", outcomes[p.Outcome])
	if p.Outcome != clientClosed && p.Outcome != aborted {
		fmt.Fprintf(w, ": the client got %s", strings.TrimSpace(fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))))
	}
	fmt.Fprintf(w, " after %s (%s)\n", millis(p.Duration), strings.Join(stages, ", "))
}

// millis writes seconds as milliseconds.
func millis(seconds float64) string { return fmt.Sprintf("%.3f ms", seconds*1e3) }
