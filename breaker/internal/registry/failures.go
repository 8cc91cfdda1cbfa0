package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

// Kinds of failures besides status codes.
const (
	failTransport = "transport" // the backend could not be reached, or broke off before it answered
	failTimeout   = "timeout"   // it did not answer in time
	failAbort     = "abort"     // it broke off within its answer
)

var defaultFailures = []string{"5xx", failTransport, failTimeout, failAbort}

// Failures is what counts as a failure.
type Failures struct {
	codes                     [600]bool
	transport, timeout, abort bool
	retryAfter                time.Duration
}

// parseFailures parses status codes, classes, transport, timeout and abort.
func parseFailures(texts []string) (*Failures, error) {
	f := new(Failures)
	for _, text := range texts {
		switch text {
		case failTransport:
			f.transport = true
		case failTimeout:
			f.timeout = true
		case failAbort:
			f.abort = true
		case "4xx", "5xx":
			for code := range 100 {
				f.codes[int(text[0]-'0')*100+code] = true
			}
		default:
			code, err := strconv.Atoi(text)
			if err != nil || code < 400 || code > 599 {
				return nil, fmt.Errorf("failure %q: accepted are status codes from 400 to 599, 4xx, 5xx, transport, timeout and abort", text)
			}
			f.codes[code] = true
		}
	}
	return f, nil
}

// Status classifies an answer of the backend.
func (f *Failures) Status(code int) circuit.Outcome {
	switch {
	case code >= 400 && code < 600 && f.codes[code]:
		return circuit.Failure
	case code >= 400 && code < 500:
		return circuit.Neutral
	default:
		return circuit.Success
	}
}

// GRPC classifies a gRPC answer by its status, which is in the trailer, or in the
// header of an answer without messages. Of the status codes, deadline exceeded
// (4) is a timeout, unless the client set the deadline; resource exhausted (8),
// internal (13) and unavailable (14) are what a 5xx is elsewhere. It reports
// false where there is no status yet.
func (f *Failures) GRPC(r *http.Request, fields http.Header) (circuit.Outcome, bool) {
	status := fields.Get("Grpc-Status")
	if status == "" {
		status = fields.Get(http.TrailerPrefix + "Grpc-Status")
	}
	switch status {
	case "":
		return circuit.Success, false
	case "0":
		return circuit.Success, true
	case "4":
		if r.Header.Get("Grpc-Timeout") != "" {
			return circuit.Neutral, true
		}
		return failureIf(f.timeout), true
	case "8", "13", "14":
		return failureIf(f.codes[http.StatusServiceUnavailable]), true
	default:
		return circuit.Neutral, true // as a 4xx
	}
}

// Abort classifies an answer that broke off.
func (f *Failures) Abort() circuit.Outcome { return failureIf(f.abort) }

// Error classifies an error of the proxy by its status: it is a failure if that
// status is, or if errors of its kind are.
func (f *Failures) Error(code int) circuit.Outcome {
	switch code {
	case http.StatusGatewayTimeout:
		return failureIf(f.timeout || f.codes[code])
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return failureIf(f.transport || f.codes[code])
	default:
		if code < 500 || code > 599 {
			return circuit.Ignored
		}
		return failureIf(f.codes[code])
	}
}

// retried is how Caddy's error begins when the last try brought an answer that
// lb_retry_match retries.
const retried = "upstream response matched retry_match"

// IsOwnRefusal reports whether an error is a 503 of the gateway itself:
// reverse_proxy found no upstream, or the configuration has `error 503`.
func IsOwnRefusal(he caddyhttp.HandlerError) bool {
	return he.StatusCode == http.StatusServiceUnavailable && (he.Err == nil || !strings.HasPrefix(he.Err.Error(), retried))
}

// Transport classifies an error of a transport.
func (f *Failures) Transport(err error) circuit.Outcome {
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return f.Error(http.StatusGatewayTimeout)
	}
	return f.Error(http.StatusBadGateway)
}

// RetryAfter returns for how long the backend asks for no requests (RFC 9110
// §10.2.3), capped at the maximum of the rules.
func (f *Failures) RetryAfter(fields http.Header, now time.Time) time.Duration {
	value := fields.Get("Retry-After")
	if f.retryAfter <= 0 || value == "" {
		return 0
	}
	var d time.Duration
	if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	} else if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		d = time.Duration(min(seconds, uint64(f.retryAfter/time.Second)+1)) * time.Second
	}
	return min(max(d, 0), f.retryAfter)
}

func failureIf(counts bool) circuit.Outcome {
	if counts {
		return circuit.Failure
	}
	return circuit.Ignored
}
