package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/resolve"
)

// wellKnown is where a resource without a path has its metadata (RFC 9728 §3).
const wellKnown = "/.well-known/oauth-protected-resource"

// Metadata describes where clients get a token (RFC 9728). The challenge has its
// URL.
type Metadata struct {
	// URL of a document that another server has. Excludes the other options. Default:
	// none, this handler serves the document.
	URL string `json:"url,omitempty"`

	// The resource's identifier, an https URL without query and fragment. With
	// it, this handler serves the document, at the path of RFC 9728 §3.1. Required
	// without `url`.
	Resource string `json:"resource,omitempty"`

	// Issuers that clients get tokens from. Default: those of the providers that
	// are https URLs.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`

	// Scopes to list. Default: those that the handler requires.
	ScopesSupported []string `json:"scopes_supported,omitempty"`

	parameter string // of the challenge
	path      string // of the document
	document  []byte
}

// metadataDocument is what is served (RFC 9728 §2).
type metadataDocument struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`

	DPoPAlgorithms   []string `json:"dpop_signing_alg_values_supported,omitempty"`
	DPoPRequired     bool     `json:"dpop_bound_access_tokens_required,omitempty"`
	CertificateBound bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// provisionMetadata needs the providers and sources.
func (h *Handler) provisionMetadata() error {
	m := h.ResourceMetadata
	if m == nil {
		return nil
	}
	if err := m.resolve(); err != nil {
		return err
	}
	if (m.URL == "") == (m.Resource == "") {
		return errors.New("resource_metadata: give it either the address of a document or a resource")
	}
	if m.URL != "" {
		if len(m.AuthorizationServers)+len(m.ScopesSupported) > 0 {
			return errors.New("resource_metadata: a document of another server takes no options")
		}
		if _, err := publicURL(m.URL); err != nil {
			return fmt.Errorf("resource_metadata: %w", err)
		}
		m.parameter = `, resource_metadata="` + m.URL + `"`
		return nil
	}
	u, err := publicURL(m.Resource)
	if err != nil {
		return fmt.Errorf("resource_metadata: resource: %w", err)
	}
	for _, issuer := range m.AuthorizationServers {
		if _, err := publicURL(issuer); err != nil {
			return fmt.Errorf("resource_metadata: authorization_servers: %w", err)
		}
	}
	if u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("resource_metadata: %q: a resource has no query", m.Resource)
	}
	m.path = wellKnown
	if u.Path != "/" {
		m.path += u.Path
	}
	at := *u
	at.Path, at.RawPath = m.path, ""
	m.parameter = `, resource_metadata="` + at.String() + `"`
	doc := metadataDocument{
		Resource: m.Resource, AuthorizationServers: m.AuthorizationServers,
		ScopesSupported: m.ScopesSupported, BearerMethods: []string{},
	}
	if doc.AuthorizationServers == nil {
		for _, p := range h.providers {
			for _, issuer := range p.rules.Issuers {
				if _, err := publicURL(issuer); err == nil && !strings.Contains(issuer, "{") {
					doc.AuthorizationServers = append(doc.AuthorizationServers, issuer)
				}
			}
		}
	}
	if doc.ScopesSupported == nil {
		for _, s := range h.Scopes {
			for _, name := range s.Values {
				if !slices.Contains(doc.ScopesSupported, name) {
					doc.ScopesSupported = append(doc.ScopesSupported, name)
				}
			}
		}
	}
	// Other fields, parameters and cookies are not methods of RFC 6750.
	for _, s := range h.sources {
		if s == authorization {
			doc.BearerMethods = append(doc.BearerMethods, "header")
		} else if s.kind == kindQuery && s.name == "access_token" {
			doc.BearerMethods = append(doc.BearerMethods, "query")
		}
	}
	if h.DPoP != nil {
		doc.DPoPAlgorithms, doc.DPoPRequired = h.DPoP.algorithms(), h.DPoP.Required
	}
	doc.CertificateBound = h.CertificateBound != nil
	m.document, err = json.Marshal(doc)
	return err
}

// resolve replaces placeholders.
func (m *Metadata) resolve() (err error) {
	for _, text := range []*string{&m.URL, &m.Resource} {
		if *text != "" {
			if *text, err = resolve.AtLoad("resource_metadata", *text); err != nil {
				return err
			}
		}
	}
	if m.AuthorizationServers, err = values("resource_metadata: authorization_servers", m.AuthorizationServers); err != nil {
		return err
	}
	m.ScopesSupported, err = values("resource_metadata: scopes_supported", m.ScopesSupported)
	return err
}

// publicURL parses an https URL that can be in a challenge. http is accepted for
// loopback hosts.
func publicURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || strings.Contains(text, "#") || quotable(text) != text || strings.Contains(text, " ") {
		return nil, fmt.Errorf("%q is not a URL such as https://api.example.com, without a user, a fragment, quotes and blanks", text)
	}
	host := u.Hostname()
	if u.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback()) || u.Scheme == "https" {
		return u, nil
	}
	return nil, fmt.Errorf("%q is not an https URL", text)
}

// challengeParameter returns the parameter of the challenge with the URL of the
// metadata (RFC 9728 §5.1).
func (h *Handler) challengeParameter() string {
	if h.ResourceMetadata == nil {
		return ""
	}
	return h.ResourceMetadata.parameter
}

// isMetadata reports whether the request is for the document.
func (h *Handler) isMetadata(r *http.Request) bool {
	m := h.ResourceMetadata
	return m != nil && m.document != nil && r.URL.Path == m.path
}

// serveMetadata needs no token: clients read the document before they have one.
func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request) error {
	if err := problem.Allow(w, r, "the metadata can only be read", http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	document := h.ResourceMetadata.document
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	w.Header().Set("Cache-Control", "public, max-age=3600")
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(document)
	return err
}
