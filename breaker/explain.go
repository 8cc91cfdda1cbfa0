package breaker

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/requeststate"
)

// Explain says in which state the circuit is, and whether it admits the request.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	a := h.member.Foresee(h.key(r, repl))
	if repl != nil {
		repl.Set(statePlaceholder, stateTexts[a.State])
	}
	requeststate.Of(r).Decisions.Circuit = a.State.String()
	facts := explain.Facts{"name": h.Name, "state": a.State.String(), "mode": h.Mode}
	if a.Limit > 0 {
		facts["in_flight"], facts["max_inflight"] = strconv.Itoa(a.InFlight), strconv.Itoa(a.Limit)
	}
	full := a.Limit > 0 && a.State != circuit.Open && a.InFlight >= a.Limit
	queued := full && h.MaxInflight != nil && a.Queued < h.MaxInflight.Queue
	reason := "the circuit " + h.Name + " is " + a.State.String()
	switch {
	case h.Mode == modeObserve && (full && !queued || !a.Ready):
		reason += "; mode observe refuses nothing"
	case full && !queued:
		return t.Refuse(unavailable(w, 0, kindFull, h.fullDetail()), fmt.Sprintf("%d of %d are in flight", a.InFlight, a.Limit), facts)
	case !a.Ready:
		return h.explainOpen(t, w, r, a, facts)
	case full:
		reason += "; the request waits: no more may be in flight"
	case a.State == circuit.HalfOpen:
		reason += "; the request is a probe"
	}
	t.Pass(reason, facts)
	err := next.ServeHTTP(w, r)
	if !errors.Is(err, explain.ErrCircuitsOpen) {
		return err
	}
	facts = explain.Facts{"name": h.Name}
	if h.fallback != nil {
		t.Pass("the circuits of all upstreams of "+h.Name+" are open: the handlers of open answer", facts)
		return t.Through(h.Open, w, r)
	}
	return t.Refuse(unavailable(w, 0, kindOpen, h.upstreamsOpenDetail()), "", facts)
}

// explainOpen says who answers while the circuit is open.
func (h *Handler) explainOpen(t *explain.Trace, w http.ResponseWriter, r *http.Request, a registry.Admission, facts explain.Facts) error {
	note := "for " + max(a.Wait.Round(time.Second), time.Second).String()
	if a.Wait == 0 {
		note = "until its probes have returned"
	}
	facts["open_for_seconds"] = strconv.Itoa(int(a.Wait / time.Second))
	if h.fallback != nil {
		t.Pass("the circuit "+h.Name+" is "+a.State.String()+" "+note+": the handlers of open answer", facts)
		return t.Through(h.Open, w, r)
	}
	return t.Refuse(unavailable(w, a.Wait, kindOpen, h.openDetail()), note, facts)
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
