package app

import (
	"crypto/x509"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/running"
)

var (
	notBeforeDesc = metrics.Desc("certificate_not_before_timestamp_seconds", "When the certificate of a configured host becomes valid.", "subject")
	notAfterDesc  = metrics.Desc("certificate_not_after_timestamp_seconds", "When the certificate of a configured host expires.", "subject")
)

// collectCertificates sends the validity of the certificates of the running configuration,
// by configured host. Names that clients ask for, with on-demand TLS, have no series: there
// is no bound to them.
func collectCertificates(ch chan<- prometheus.Metric) {
	tls, ok := running.App[*caddytls.TLS]("tls")
	if !ok {
		return
	}
	for subject := range subjects(tls) {
		leaf := latest(caddytls.AllMatchingCertificates(subject))
		if leaf == nil {
			continue
		}
		metrics.SendGauge(ch, notBeforeDesc, float64(leaf.NotBefore.Unix()), subject)
		metrics.SendGauge(ch, notAfterDesc, float64(leaf.NotAfter.Unix()), subject)
	}
}

// subjects returns the names in the configuration that may have a certificate: the hosts of
// all sites, and those that Caddy is told to obtain certificates for.
func subjects(tls *caddytls.TLS) map[string]struct{} {
	names := map[string]struct{}{}
	if tls.Automation != nil {
		for _, policy := range tls.Automation.Policies {
			for _, name := range policy.Subjects() {
				names[name] = struct{}{}
			}
		}
	}
	http, ok := running.App[*caddyhttp.App]("http")
	if !ok {
		return names
	}
	for _, server := range http.Servers {
		if len(server.TLSConnPolicies) == 0 {
			continue
		}
		for _, route := range server.Routes {
			for _, set := range route.MatcherSets {
				addHosts(names, set)
			}
		}
	}
	return names
}

func addHosts(names map[string]struct{}, set caddyhttp.MatcherSet) {
	for _, matcher := range set {
		hosts, ok := matcher.(*caddyhttp.MatchHost)
		if !ok {
			continue
		}
		for _, host := range *hosts {
			names[caddy.NewReplacer().ReplaceAll(host, "")] = struct{}{}
		}
	}
}

// latest returns the certificate that expires last: a renewed one is kept beside the one
// that it replaces for a while.
func latest(certificates []certmagic.Certificate) (leaf *x509.Certificate) {
	for _, c := range certificates {
		if c.Leaf != nil && (leaf == nil || c.Leaf.NotAfter.After(leaf.NotAfter)) {
			leaf = c.Leaf
		}
	}
	return leaf
}
