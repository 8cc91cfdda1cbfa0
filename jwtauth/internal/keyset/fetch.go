package keyset

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/refresh"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// maxDocument is the longest answer that is read, in bytes.
const maxDocument = 1 << 20

// wellKnown is where an issuer's configuration is (OpenID Connect Discovery 1.0
// §4).
const wellKnown = "/.well-known/openid-configuration"

// configurationURL returns the address of an issuer's configuration. Parameters
// stay behind the path: Azure AD B2C has its policy there.
func configurationURL(issuer string) string {
	path, query, found := strings.Cut(issuer, "?")
	path = strings.TrimSuffix(path, "/") + wellKnown
	if found {
		path += "?" + query
	}
	return path
}

// jitter spreads the fetches of many gateways: up to a tenth earlier.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// schedule returns the time to the next fetch after an answer: what its
// Cache-Control says (RFC 9111 §5.2.2), within bounds.
func (r *Remote) schedule(h http.Header) time.Duration {
	d := r.Timing.Refresh
	for _, value := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(value, ",") {
			name, arg, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-cache":
				return jitter(r.Timing.Least)
			case "max-age":
				seconds, err := strconv.ParseInt(strings.Trim(arg, `"`), 10, 32)
				if err != nil || seconds < 0 {
					continue
				}
				age, err := strconv.ParseInt(h.Get("Age"), 10, 32)
				if err != nil || age < 0 {
					age = 0
				}
				d = min(max(time.Duration(seconds-age)*time.Second, r.Timing.Least), r.Timing.Most)
			}
		}
	}
	return jitter(d)
}

// retry returns the pause after a failed fetch. With keys it is not shorter than
// the cooldown; without, no token can be verified, and the source is tried soon.
func (r *Remote) retry() time.Duration {
	if r.usable() != nil {
		return r.Timing.Cooldown + rand.N(r.Timing.Cooldown/5+1)
	}
	pause := r.Timing.MostRetry
	if r.failures < 16 {
		pause = min(r.Timing.Retry<<r.failures, pause)
		r.failures++
	}
	return pause + rand.N(pause/10+1)
}

// fetch gets the set once, keeps it if it is good, and returns the time to the
// next fetch: soon, if this one failed.
func (r *Remote) fetch(life context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(life, r.Timing.Timeout)
	defer cancel()
	result, skipped, lifetime, err := r.fetchOnce(ctx)
	if err != nil {
		lifetime = r.retry()
	} else {
		r.failures = 0
	}
	r.failure.Store(&failure{err})
	if life.Err() == nil && r.Observe != nil {
		r.Observe(result, skipped, err)
	}
	return lifetime
}

func (r *Remote) fetchOnce(ctx context.Context) (result string, skipped []error, lifetime time.Duration, err error) {
	// A document that makes a parser panic must not end the gateway.
	defer func() {
		if p := recover(); p != nil {
			result, skipped, lifetime, err = "error", nil, 0, fmt.Errorf("panic: %v", p)
		}
	}()
	if err := r.readCA(); err != nil {
		return "error", nil, 0, err
	}
	address := r.url
	if r.Discovery {
		if address, err = r.discover(ctx); err != nil {
			return "error", nil, 0, err
		}
	}
	data, header, err := r.get(ctx, address, r.etag)
	if err != nil {
		return "error", nil, 0, err
	}
	if data == nil {
		r.fetched.Store(r.now().UnixNano())
		return "unchanged", nil, r.schedule(header), nil
	}
	set, skipped, err := ParseJWKS(data, r.Algorithms, false)
	if err != nil {
		return "error", skipped, 0, fmt.Errorf("%s: %w", credentials.Shown(address), err)
	}
	r.etag = header.Get("ETag")
	if old := r.set.Load(); old == nil || !old.equal(set) {
		r.set.Store(set)
	} else {
		skipped = nil // observed before
	}
	r.fetched.Store(r.now().UnixNano())
	return "ok", skipped, r.schedule(header), nil
}

// discover reads the issuer's configuration (OpenID Connect Discovery 1.0 §4).
func (r *Remote) discover(ctx context.Context) (string, error) {
	data, _, err := r.get(ctx, r.url, "")
	if err != nil {
		return "", err
	}
	// Names are exact and unique: a struct would accept `ISSUER` too.
	document, err := token.DecodeObject(string(data))
	if err != nil {
		return "", fmt.Errorf("%s: the issuer's configuration is not JSON", credentials.Shown(r.url))
	}
	found, _ := document["issuer"].(string)
	if found != r.URL && !slices.Contains(r.Issuers, found) {
		expected := []string{credentials.Shown(r.URL)}
		for _, issuer := range r.Issuers {
			if issuer = credentials.Shown(issuer); !slices.Contains(expected, issuer) {
				expected = append(expected, issuer)
			}
		}
		return "", fmt.Errorf("%s: the configuration is of another issuer: found %.200q, expected %q, compared exactly", credentials.Shown(r.url), found, expected)
	}
	address, _ := document["jwks_uri"].(string)
	if err := CheckURL(address, r.AllowHTTP); err != nil {
		return "", fmt.Errorf("%s: jwks_uri %.200q: %w", credentials.Shown(r.url), credentials.Shown(address), err)
	}
	if address != r.keysURL {
		r.keysURL, r.etag = address, ""
	}
	return address, nil
}

// get returns the body, or nil if the server answers 304 to the tag. Its errors
// name the address, without credentials.
func (r *Remote) get(ctx context.Context, address, etag string) (data []byte, header http.Header, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", credentials.Shown(address), err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" && r.set.Load() != nil {
		req.Header.Set("If-None-Match", etag)
	}
	if r.TokenFile != "" && r.mayHaveToken(req.URL) {
		bearer, err := readToken(r.TokenFile)
		if err != nil {
			return nil, nil, err
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		err = refresh.Cause(err)
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			err = fmt.Errorf("%w: `ca` names the file of a private authority", err)
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "":
		return nil, resp.Header, nil
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, nil, fmt.Errorf("status %d: `token_file` names the file of a bearer token that the server accepts", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxDocument {
		return nil, nil, fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	if data == nil {
		data = []byte{}
	}
	return data, resp.Header, nil
}
