// Package snapshot makes what the dashboard shows of metrics that are gathered once a
// second and of the status of the features, and passes it to those who watch.
package snapshot

import (
	"encoding/json"
	"time"
)

// Snapshot is the state of the gateway at a time, as the page reads it.
type Snapshot struct {
	// Time is in milliseconds of Unix time.
	Time int64 `json:"time"`
	// Rated: there was a snapshot before, since which rates are.
	Rated bool `json:"rated"`
	// Telemetry: there are metrics of services.
	Telemetry bool      `json:"telemetry"`
	Total     Traffic   `json:"total"`
	Services  []Service `json:"services"`
	// MoreRoutes are routes for which there was no room.
	MoreRoutes int `json:"more_routes,omitempty"`
	// CircuitsNotClosed are the circuits of all breakers that are open or half open.
	CircuitsNotClosed int `json:"circuits_not_closed"`
	// MoreCircuits and MoreUpstreams are those for which there was no room in Status.
	MoreCircuits  int `json:"more_circuits,omitempty"`
	MoreUpstreams int `json:"more_upstreams,omitempty"`
	// Cache is null without a cache.
	Cache    *Cache     `json:"cache"`
	Refusals []Refusal  `json:"refusals"`
	Failures []Failure  `json:"failures"`
	Unused   []Unused   `json:"unused"`
	Problems []Problem  `json:"problems"`
	Status   StatusPart `json:"status"`
}

// StatusPart has parts of the status of the gateway, by name, as they are but for the circuits
// and upstreams for which there is no room.
type StatusPart map[string]json.RawMessage

// Traffic is how a service is used. Rates are per second since the snapshot before, and
// quantiles in seconds over the last 10 snapshots; they are null without requests.
type Traffic struct {
	Requests float64 `json:"requests"`
	Rate     float64 `json:"rate"`
	// Classes are rates by the first digit of the status, and first those of other codes.
	Classes  [6]float64 `json:"classes"`
	InFlight float64    `json:"in_flight"`
	P50      *float64   `json:"p50"`
	P95      *float64   `json:"p95"`
	P99      *float64   `json:"p99"`
}

// Service is how a service and its routes are used.
type Service struct {
	Name string `json:"name"`
	Traffic
	// LastRequest is in RFC 3339, and null if there was none.
	LastRequest *string `json:"last_request"`
	Routes      []Route `json:"routes"`
}

// Route is how a route is used.
type Route struct {
	Route       string  `json:"route"`
	Requests    float64 `json:"requests"`
	Rate        float64 `json:"rate"`
	Failed      float64 `json:"failed"` // answered with 5xx, since the start of the process
	LastRequest *string `json:"last_request"`
}

// Cache is how the cache is used, in requests per second. HitRatio is null without
// requests that it could have answered.
type Cache struct {
	Hits     float64  `json:"hits"`
	Requests float64  `json:"requests"`
	HitRatio *float64 `json:"hit_ratio"`
}

// Refusal is how often requests are refused for a reason.
type Refusal struct {
	By     string  `json:"by"`
	Reason string  `json:"reason"`
	Total  float64 `json:"total"`
	Rate   float64 `json:"rate"`
}

// Failure are responses with a status of 500 or more since the snapshot before Time.
// RequestID is that of the latest, if it is known.
type Failure struct {
	Time    int64   `json:"time"`
	Service string  `json:"service"`
	Route   string  `json:"route"`
	Code    string  `json:"code"`
	Count   float64 `json:"count"`

	RequestID string `json:"request_id,omitempty"`
}

// Failed is a request that was answered with a status of 500 or more.
type Failed struct {
	ID, Service, Route string
	Status             int
	Ended              time.Time
}

// Unused are the operations of a service's OpenAPI document that nobody called.
type Unused struct {
	Service    string      `json:"service"`
	Operations []Operation `json:"never_called"`
	// More are those for which there was no room.
	More int `json:"more,omitempty"`
}

// Operation is an operation of an OpenAPI document.
type Operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Problem is an error that a feature reports.
type Problem struct {
	// Of is the feature and the thing that has the problem.
	Of     string `json:"of"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
}
