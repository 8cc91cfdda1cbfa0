package breaker

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/pythopus/tentagate/breaker/circuit"
)

// failureSet is what counts as a failure.
type failureSet struct {
	codes                     map[int]bool
	classes                   [6]bool
	transport, timeout, abort bool
}

func parseFailures(texts []string) (failureSet, error) {
	f := failureSet{codes: map[int]bool{}}
	for _, text := range texts {
		switch text {
		case failTransport:
			f.transport = true
		case failTimeout:
			f.timeout = true
		case failAbort:
			f.abort = true
		default:
			if len(text) == 3 && text[1:] == "xx" && text[0] >= '4' && text[0] <= '5' {
				f.classes[text[0]-'0'] = true
				continue
			}
			code, err := strconv.Atoi(text)
			if err != nil || code < 400 || code > 599 {
				return f, fmt.Errorf("failure %q: accepted are status codes from 400 to 599, 4xx, 5xx, transport, timeout and abort", text)
			}
			f.codes[code] = true
		}
	}
	return f, nil
}

// status sorts an answer of the backend.
func (f *failureSet) status(code int) circuit.Outcome {
	switch {
	case f.codes[code] || code >= 400 && code < 600 && f.classes[code/100]:
		return circuit.Failure
	case code >= 400 && code < 500:
		return circuit.Neutral
	default:
		return circuit.Success
	}
}

// grpc sorts a gRPC answer by its status, which is in the trailer, or in the
// header of an answer without messages. 4, 8, 13 and 14 are deadline exceeded,
// resource exhausted, internal and unavailable.
func (f *failureSet) grpc(fields http.Header) circuit.Outcome {
	status := fields.Get("Grpc-Status")
	if status == "" {
		status = fields.Get(http.TrailerPrefix + "Grpc-Status")
	}
	switch status {
	case "4":
		return failureIf(f.timeout)
	case "8", "13", "14":
		return failureIf(f.classes[5] || f.codes[http.StatusServiceUnavailable])
	default:
		return circuit.Success
	}
}

func failureIf(counts bool) circuit.Outcome {
	if counts {
		return circuit.Failure
	}
	return circuit.Ignored
}
