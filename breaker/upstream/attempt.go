package upstream

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
)

// attempt is one try to send a request to an upstream.
type attempt struct {
	exchange.Exchange

	t     *Transport
	vars  map[string]any // of the request
	trial *trial         // nil where nothing is tried again
}

func (a *attempt) run() (*http.Response, error) {
	returned := false
	defer func() {
		if !returned {
			a.Ignore() // a panic passes on; the permit must not be lost with it
		}
	}()
	if a.trial != nil && a.trial.spent {
		return nil, errSpent // no upstream's failure
	}
	resp, err := a.send()
	returned = true
	if err != nil {
		return a.failed(err)
	}
	return a.observed(resp), nil
}

// send makes the round trip. The request belongs to reverse_proxy: the transport
// gets one of its own.
func (a *attempt) send() (*http.Response, error) {
	own := *a.Request
	switch {
	case a.trial.replays():
		own.Body, own.ContentLength = a.trial.body(), int64(len(a.trial.content))
	case exchange.HasBody(a.Request):
		own.Body = a.ObservedBody()
		if a.trial.keeps(&own) {
			if err := a.trial.keep(&own); err != nil {
				return nil, err
			}
		}
	}
	resp, err := a.bounded(&own)
	if err != nil {
		return nil, err
	}
	if err := exchange.CheckAnswer(a.Request, resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// observed notes the header of an answer, and observes its body if that decides
// the outcome.
func (a *attempt) observed(resp *http.Response) *http.Response {
	a.Answered(resp.StatusCode, resp.Header)
	if resp.Body == nil || resp.Body == http.NoBody {
		a.Ended(resp.Trailer)
	}
	if !a.Reported() {
		resp.Body = &answer{ReadCloser: resp.Body, a: a, resp: resp}
	}
	return resp
}

// failed reports an attempt without an answer, and returns the result for
// reverse_proxy. Where the client is to blame that is an answer: reverse_proxy
// would count an error against the upstream, and may retry the request.
func (a *attempt) failed(err error) (*http.Response, error) {
	fault, left := a.ClientFault(err)
	if left {
		a.Canceled()
		return nil, err
	}
	if fault == nil {
		fault, _ = errors.AsType[*clientfault.Error](clientfault.Fields(a.Request))
	}
	if fault != nil {
		a.Ignore()
		return a.t.blame(a.Request, a.vars, fault), nil
	}
	if a.t.member != nil {
		a.Failed(err, a.t.member.Failures().Transport(err))
	}
	a.trial.spend(a.Body.Started())
	if a.trial.again(a.Request) {
		return nil, retryable{reverseproxy.NewDialError(err), err}
	}
	return nil, err
}

// answer is the body of a response whose end decides the outcome: whether it
// breaks off, and for gRPC what the trailer says.
type answer struct {
	io.ReadCloser
	a       *attempt
	resp    *http.Response
	reading time.Duration // how long the upstream was waited for
}

func (b *answer) Read(p []byte) (int, error) {
	began := registry.Now()
	n, err := b.ReadCloser.Read(p)
	b.reading += registry.Since(began)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.a.Ended(b.resp.Trailer)
	default:
		b.a.Aborted(b.a.SinceAnswer() - b.reading)
	}
	return n, err
}

// Close is also called when the client does not want the rest of the answer. What
// there was of it was good.
func (b *answer) Close() error {
	err := b.ReadCloser.Close()
	b.a.Ended(b.resp.Trailer)
	return err
}
