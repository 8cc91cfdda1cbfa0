package apidocs

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/running"
)

// Service is a service whose document is merged.
type Service struct {
	// Name of the service: its path at the gateway is the prefix with the name
	// behind. Required.
	Name string `json:"name,omitempty"`

	// Addresses of the service, such as `http://users:8000`, with the path that the
	// gateway puts in front of those of requests. The first that answers is asked for
	// the document. They may have placeholders that are known when the configuration
	// loads. Default: none; the document is then that of Spec.
	Addresses []string `json:"addresses,omitempty"`

	// Where the document is: a URL, the path of a file, or `off` for none. Default: at
	// the addresses.
	Spec string `json:"spec,omitempty"`

	// Path of the document at the addresses. Default: `/openapi.json`.
	SpecPath string `json:"spec_path,omitempty"`

	// Validation of requests of this service: `observe`, `enforce` or `off`. Default:
	// that of the handler.
	Validate string `json:"validate,omitempty"`

	// The requests whose clients see this service in the document. Default: all.
	VisibleTo caddyhttp.RawMatcherSets `json:"visible_to,omitempty" caddy:"namespace=http.matchers"`

	visible caddyhttp.MatcherSets
	base    string // its path at the gateway
	prefix  string // the path of its addresses
	ref     *pool.Ref[*source]
	series  *pool.Ref[string]
	checks  bool // requests are validated
	checked *validationCounters
}

// defaultSpecPath is where services have their document.
const defaultSpecPath = "/openapi.json"

// source is a document and whose it is.
type source struct {
	*fetch.Source
	service string
	where   string // as it was configured
	contracts
}

// sources are shared by the handlers and configurations that have the same ones, so
// that the last good documents outlive a reload.
var sources = pool.New(func(s *source) error { return s.Destruct() })

// provision prepares the source of the document, and the matchers.
func (s *Service) provision(ctx caddy.Context, h *Handler) error {
	s.base = h.Prefix + s.Name
	if len(s.VisibleTo) > 0 {
		loaded, err := ctx.LoadModule(s, "VisibleTo")
		if err != nil {
			return fmt.Errorf("visible_to: %w", err)
		}
		if err := s.visible.FromInterface(loaded); err != nil {
			return fmt.Errorf("visible_to: %w", err)
		}
	}
	options, err := s.options()
	if err != nil || options == nil {
		return err
	}
	if s.series, err = seriesOf.Acquire(s.Name, func() (string, error) { return s.Name, nil }); err != nil {
		return err
	}
	options.Interval, options.Timeout, options.Delay = time.Duration(h.Refresh), time.Duration(h.Timeout), time.Duration(h.Delay)
	key := pool.Key(s.Name, s.base, s.prefix, options.URLs, options.File, options.H2C, options.Interval, options.Timeout, options.Delay)
	if caddy.ActiveContext().Context != nil {
		options.Delay = 0 // the gateway runs, and so do services
	}
	older := s.predecessor(options)
	s.ref, err = sources.Acquire(key, func() (*source, error) {
		w := &watch{service: s.Name}
		options.Observe = w.observe
		where := options.File
		if where == "" {
			var shown []string
			for _, address := range options.URLs {
				shown = append(shown, fetch.Shown(address))
			}
			where = strings.Join(shown, " ")
		}
		added := &source{service: s.Name, where: where, contracts: newContracts(s.base, s.prefix)}
		options.Prepare = added.prepare
		added.Source = fetch.New(*options)
		if older != nil {
			added.Adopt(older.Status())
			added.adopt(&older.contracts)
		}
		return added, nil
	})
	if err == nil {
		s.provisionChecks(h)
	}
	return err
}

// predecessor returns a source that has a document of the service already, from the same
// file or from an address that is still one of its own, or nil. A reload that changes the
// times of fetches, or adds an address, then leaves no time without a document.
func (s *Service) predecessor(o *fetch.Options) (latest *source) {
	var fetched time.Time
	for _, known := range sources.Values() {
		status := known.Status()
		same := o.File != "" && o.File == known.File || slices.ContainsFunc(o.URLs, func(address string) bool {
			return fetch.Shown(address) == status.From && slices.Contains(known.URLs, address)
		})
		if same && known.service == s.Name && known.base == s.base && known.prefix == s.prefix && status.Document != nil && !status.Fetched.Before(fetched) {
			latest, fetched = known, status.Fetched
		}
	}
	return latest
}

// options returns where the document is, or nil for nowhere.
func (s *Service) options() (*fetch.Options, error) {
	bases, err := s.addresses()
	if err != nil {
		return nil, err
	}
	if s.Spec != "" && s.SpecPath != "" {
		return nil, errors.New("spec_path: it has no effect beside spec: set one of them")
	}
	if s.SpecPath != "" && !strings.HasPrefix(s.SpecPath, "/") {
		return nil, fmt.Errorf("spec_path: %q is not a path: it begins with a slash", s.SpecPath)
	}
	if s.Spec == off {
		return nil, nil
	}
	if s.Spec != "" {
		return ofSpec(s.Spec)
	}
	path := cmp.Or(s.SpecPath, defaultSpecPath)
	if len(bases) == 0 {
		if s.SpecPath != "" {
			return nil, errors.New("spec_path: the service has no address: write it as `service <name> <url>`, or set spec to a URL or file")
		}
		return nil, nil
	}
	o := new(fetch.Options)
	for _, base := range bases {
		o.H2C = base.Scheme == "h2c"
		o.URLs = append(o.URLs, httpScheme(base.Scheme)+"://"+base.Host+s.prefix+path)
	}
	return o, nil
}

// addresses resolves and checks the addresses.
func (s *Service) addresses() (bases []*url.URL, err error) {
	for i, text := range s.Addresses {
		if text, err = resolve.AtLoad("service", text); err != nil {
			return nil, err
		}
		base, err := parseURL(text)
		if err != nil {
			return nil, err
		}
		if base.RawQuery != "" || base.Fragment != "" {
			return nil, fmt.Errorf("%q: an address has no query and no fragment", text)
		}
		prefix := strings.TrimRight(base.EscapedPath(), "/")
		if i > 0 && (prefix != s.prefix || base.Scheme != bases[0].Scheme) {
			return nil, fmt.Errorf("%q: all addresses of a service have the same scheme and path", text)
		}
		s.prefix = prefix
		bases = append(bases, base)
	}
	return bases, nil
}

// ofSpec returns where the document is that the option spec names.
func ofSpec(text string) (*fetch.Options, error) {
	text, err := resolve.AtLoad("spec", text)
	if err != nil {
		return nil, err
	}
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL {
		return &fetch.Options{File: text}, nil
	}
	if file, ok := strings.CutPrefix(text, "file://"); ok {
		return &fetch.Options{File: file}, nil
	}
	u, err := parseURL(text)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	u.Scheme = httpScheme(scheme)
	return &fetch.Options{URLs: []string{u.String()}, H2C: scheme == "h2c"}, nil
}

// parseURL reads the URL of a service or a document. Its errors do not repeat a
// password.
func parseURL(text string) (*url.URL, error) {
	const accepted = "accepted are http://…, https://… and h2c://…"
	u, err := url.Parse(text)
	switch {
	case err != nil && strings.Contains(text, "@") || u != nil && u.User != nil:
		return nil, errors.New("the URL has a user name or password in it: leave it out")
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL: %s", fetch.Shown(text), accepted)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" || u.Host == "":
		return nil, fmt.Errorf("%q is not a URL of a service: %s", fetch.Shown(text), accepted)
	}
	return u, nil
}

// httpScheme returns the scheme that requests are made with.
func httpScheme(scheme string) string {
	if scheme == "h2c" {
		return "http"
	}
	return scheme
}

func (s *Service) start() {
	if s.ref == nil {
		return
	}
	if s.checks {
		s.ref.Value.wantChecks()
	}
	s.ref.Value.Start()
}

func (s *Service) release() error {
	if s.checks && s.ref != nil {
		s.ref.Value.checkers.Add(-1)
		s.checks = false
	}
	err := errors.Join(s.ref.Release(), s.series.Release())
	s.ref, s.series = nil, nil
	return err
}

// status returns what is known of the document.
func (s *Service) status() fetch.Status {
	if s.ref == nil {
		return fetch.Status{Result: fetch.None}
	}
	return s.ref.Value.Status()
}

// visibleFor reports whether the client of a request sees the service.
func (s *Service) visibleFor(r *http.Request) bool {
	if len(s.visible) == 0 {
		return true
	}
	ok, err := s.visible.AnyMatchWithError(r)
	return ok && err == nil
}

// watch logs and counts the fetches of one document. It may outlive the
// configuration that it was made for, and so does not use its logger.
type watch struct {
	service string
	failure string // of the last fetch, if it failed
}

func (w *watch) observe(result string, err error) {
	fetches.WithLabelValues(w.service, result).Inc()
	log := running.Logger("http.handlers." + directive)
	switch {
	case err == nil && w.failure != "":
		log.Info("the OpenAPI document of a service can be used again", zap.String("service", w.service))
		w.failure = ""
	case err != nil && err.Error() != w.failure:
		level := zap.WarnLevel
		if result == fetch.None {
			level = zap.InfoLevel
		}
		log.Log(level, "the OpenAPI document of a service cannot be used: the last good one stays in use, or only the path of the service is documented",
			zap.String("service", w.service), zap.Error(err))
		w.failure = err.Error()
	}
}
