package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/jwtauth/internal/deny"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

func init() {
	none := map[int]string{http.StatusNotFound: "No jwt_auth with a deny_list is running"}
	fails := map[int]string{
		http.StatusBadRequest: "The request is malformed, or names what is not configured",
		http.StatusNotFound:   "No jwt_auth with a deny_list is running, or it was not revoked", http.StatusServiceUnavailable: "Redis is unavailable",
		http.StatusInsufficientStorage: "The deny list is full",
	}
	admin.RegisterStatus("revocations", statusOfRevocations, printRevocations)
	admin.RegisterAPI("revocations", admin.Endpoint{Pattern: revocationsURI, Serve: serveRevocations, Operations: []admin.Operation{
		{Method: http.MethodGet, Summary: "The number of revocations, and up to 1000 of them", Answer: revocationList{}, Fails: none},
		{Method: http.MethodPost, Summary: "Revokes a token, or all tokens of a subject", Body: revocation{}, Answer: revocationResult{}, Fails: fails},
		{Method: http.MethodDelete, Summary: "Removes a revocation", Body: revocation{}, Answer: revocationResult{}, Fails: fails},
	}})
}

const (
	// revocationsURI is the endpoint of the admin API.
	revocationsURI = "/tentagate/revocations"
	// revocationsWait is how long a change waits for Redis.
	revocationsWait = 5 * time.Second
	// maxRevocationBody bounds the body of a request.
	maxRevocationBody = 16 << 10
	// maxName bounds a jti, a subject, a provider and an issuer.
	maxName = 4 << 10
	// maxListed is how many revocations are listed.
	maxListed = 1000
	// clockSkew is how far in the future `before` may be.
	clockSkew = 5 * time.Minute
)

// revocation is the body of a request.
type revocation struct {
	ID       string         `json:"id,omitempty"`
	JTI      string         `json:"jti,omitempty"`
	Subject  string         `json:"sub,omitempty"`
	Provider string         `json:"provider,omitempty"`
	Issuer   string         `json:"issuer,omitempty"`
	Before   *time.Time     `json:"before,omitempty"`
	TTL      caddy.Duration `json:"ttl,omitempty"`
}

// revocationMembers are the names in the body, exactly.
var revocationMembers = []string{"id", "jti", "sub", "provider", "issuer", "before", "ttl"}

// parseRevocation reads a body as strictly as a token: an ambiguous one could
// revoke something else than was meant.
func parseRevocation(body []byte) (*revocation, error) {
	members, err := token.DecodeObject(string(body))
	if err != nil {
		return nil, err
	}
	for name := range members {
		if !slices.Contains(revocationMembers, name) {
			return nil, fmt.Errorf("unknown name %.40q: accepted are %s", name, strings.Join(revocationMembers, ", "))
		}
	}
	q := new(revocation)
	return q, json.Unmarshal(body, q)
}

// entry returns the revocation that is requested. Its errors do not contain a
// subject.
func (q *revocation) entry(now time.Time, ttl time.Duration) (deny.Entry, error) {
	var e deny.Entry
	for _, name := range []string{q.JTI, q.Subject, q.Provider, q.Issuer} {
		if len(name) > maxName {
			return e, fmt.Errorf("jti, sub, provider and issuer have at most %d bytes", maxName)
		}
	}
	scope := deny.Scope{Provider: q.Provider, Issuer: q.Issuer}
	switch {
	case q.ID != "":
		return e, errors.New("id: only what is revoked has one; revoke by jti or by sub")
	case (q.JTI == "") == (q.Subject == ""):
		return e, errors.New("exactly one of jti and sub must be given")
	case q.Provider != "" && q.Issuer != "":
		return e, errors.New("provider and issuer: give one of them")
	case q.JTI != "" && scope == deny.Scope{}:
		return e, errors.New("jti: the provider or the issuer is needed too: a jti is unique only there")
	case q.JTI != "" && q.Before != nil:
		return e, errors.New("before: it is only accepted with sub")
	case q.Before != nil && (q.Before.After(now.Add(clockSkew)) || q.Before.Unix() <= 0):
		return e, errors.New("before: a moment after 1970 that is not in the future is needed")
	case q.TTL < 0 || time.Duration(q.TTL) > maxRevocation:
		return e, errors.New("ttl: more than 0s and up to 366d is accepted")
	case q.TTL > 0:
		ttl = time.Duration(q.TTL)
	}
	e.Expires = now.Add(ttl)
	if q.JTI != "" {
		e.ID = deny.Token(scope, q.JTI)
		return e, nil
	}
	e.ID, e.Before = deny.Subject(scope, q.Subject), now
	if q.Before != nil {
		e.Before = *q.Before
	}
	return e, nil
}

// revocationResult is the answer to a change.
type revocationResult struct {
	// ID identifies the revocation: subjects and jtis are not stored.
	ID string `json:"id"`
	// Revoked or Restored is what happened.
	Revoked  bool `json:"revoked,omitempty"`
	Restored bool `json:"restored,omitempty"`
	// Before and Expires are its moments.
	Before  *time.Time `json:"before,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	// Shared is "yes" if the other gateways have it, "no" without Redis, and
	// "pending" while Redis is unreachable.
	Shared deny.Shared `json:"shared,omitempty"`
}

// revocationList is the answer to a GET.
type revocationList struct {
	Count       int                `json:"count"`
	Fresh       bool               `json:"fresh"`
	Revocations []revocationResult `json:"revocations"`
}

// serveRevocations is the endpoint of the deny list:
//
//   - `POST /tentagate/revocations` revokes. The body is
//     `{"jti": "…", "provider": "main"}` (or `"issuer": "https://…"`), of those
//     that are configured, or
//     `{"sub": "…"}` with, if wanted, `provider` or `issuer` and
//     `"before": "2026-01-01T00:00:00Z"` (default: now). `"ttl": "48h"` is how
//     long it lasts.
//   - `DELETE` with the same body, or with `{"id": "…"}`, removes a revocation.
//   - `GET` returns the number of revocations, and lists up to 1000.
func serveRevocations(w http.ResponseWriter, r *http.Request) error {
	var stores []*deny.Store
	for _, l := range denyLists.Values() {
		stores = append(stores, l.Store)
	}
	var change func(context.Context, []*deny.Store, *revocation) (revocationResult, error)
	switch r.Method {
	case http.MethodPost:
		change = revokeIn
	case http.MethodDelete:
		change = restoreIn
	}
	if len(stores) == 0 {
		return admin.Error(http.StatusNotFound, errors.New("no jwt_auth with a deny_list is running here"))
	}
	if change == nil {
		return admin.JSON(w, listRevocations(stores))
	}
	body, err := admin.ReadBody(r, maxRevocationBody)
	if err != nil {
		return err
	}
	q, err := parseRevocation(body)
	if err != nil {
		return admin.Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	ctx, cancel := context.WithTimeout(r.Context(), revocationsWait)
	defer cancel()
	result, err := change(ctx, stores, q)
	if err != nil {
		return err
	}
	return admin.JSON(w, result)
}

func revokeIn(ctx context.Context, stores []*deny.Store, q *revocation) (revocationResult, error) {
	var result revocationResult
	if err := q.checkNames(); err != nil {
		return result, admin.Error(http.StatusBadRequest, err)
	}
	for _, s := range stores {
		e, err := q.entry(s.Now(), s.TTL())
		if err != nil {
			return result, admin.Error(http.StatusBadRequest, err)
		}
		shared, err := s.Revoke(ctx, e)
		switch {
		case errors.Is(err, deny.ErrFull):
			return result, admin.Error(http.StatusInsufficientStorage, err)
		case err != nil:
			return result, admin.Error(http.StatusServiceUnavailable, fmt.Errorf("redis unreachable, so the revocation is not shared; retry: %w", err))
		}
		if result.Shared == "" || result.Shared == deny.SharedNo || shared == deny.SharedPending {
			result.Shared = shared
		}
		result.describe(&e)
	}
	result.Revoked = true
	return result, nil
}

func restoreIn(ctx context.Context, stores []*deny.Store, q *revocation) (revocationResult, error) {
	var result revocationResult
	for _, s := range stores {
		id, err := q.id(s.Now())
		if err != nil {
			return result, admin.Error(http.StatusBadRequest, err)
		}
		ok, err := s.Restore(ctx, id)
		if err != nil {
			return result, admin.Error(http.StatusServiceUnavailable, fmt.Errorf("redis unreachable, nothing is restored; retry: %w", err))
		}
		result.ID, result.Restored, result.Shared = id.String(), result.Restored || ok, s.Reach()
	}
	if !result.Restored {
		// A revocation can be removed when its provider is no longer configured.
		if err := q.checkNames(); err != nil {
			return result, admin.Error(http.StatusBadRequest, err)
		}
		return result, admin.Error(http.StatusNotFound, errors.New("it is not revoked"))
	}
	return result, nil
}

func (q *revocation) id(now time.Time) (deny.ID, error) {
	if q.ID != "" {
		if *q != (revocation{ID: q.ID}) {
			return deny.ID{}, errors.New("id: it cannot be combined with other parameters")
		}
		return deny.ParseID(q.ID)
	}
	e, err := q.entry(now, 0)
	return e.ID, err
}

func (x *revocationResult) describe(e *deny.Entry) {
	expires := e.Expires.UTC()
	x.ID, x.Expires = e.ID.String(), &expires
	if !e.Before.IsZero() {
		before := e.Before.UTC()
		x.Before = &before
	}
}

func listRevocations(stores []*deny.Store) revocationList {
	l := revocationList{Fresh: true, Revocations: []revocationResult{}}
	for _, s := range stores {
		now := s.Now()
		l.Count += s.Live()
		l.Fresh = l.Fresh && s.Fresh(now)
		for _, e := range s.Entries(now, maxListed-len(l.Revocations)) {
			var x revocationResult
			x.describe(&e)
			l.Revocations = append(l.Revocations, x)
		}
	}
	return l
}

// revocationsStatus is the state of the deny lists.
type revocationsStatus struct {
	Count int `json:"count"`
	// Fresh is false if Redis has not answered lately.
	Fresh bool `json:"fresh"`
}

// statusOfRevocations returns nil where there is no deny list.
func statusOfRevocations() *revocationsStatus {
	lists := denyLists.Values()
	if len(lists) == 0 {
		return nil
	}
	s := &revocationsStatus{Fresh: true}
	for _, l := range lists {
		s.Count += l.Live()
		s.Fresh = s.Fresh && l.Fresh(l.Now())
	}
	return s
}

func printRevocations(w io.Writer, s *revocationsStatus) error {
	state := "up to date"
	if !s.Fresh {
		state = "Redis unreachable; the known revocations stay in effect"
	}
	_, err := fmt.Fprintf(w, "REVOCATIONS\tSTATE\n%d\t%s\n", s.Count, state)
	return err
}
