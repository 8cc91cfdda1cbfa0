package jwtauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

var (
	errConfirmation = errors.New("cnf is not accepted")
	errUnbound      = fmt.Errorf("%w: the token must be bound to a key of the client", errConfirmation)
	errBoundDPoP    = fmt.Errorf("%w: the token is bound to a key: it needs the scheme DPoP and a proof", errConfirmation)
	errBoundNoDPoP  = fmt.Errorf("%w: the token is bound to a key, and DPoP is not accepted here", errConfirmation)
	errBoundNoTLS   = fmt.Errorf("%w: the token is bound to a certificate, which is not accepted here", errConfirmation)
	errCertificate  = fmt.Errorf("%w: the client's certificate is not the one that the token is bound to", errConfirmation)
)

// CertificateBound accepts tokens that are bound to the client's certificate
// (RFC 8705), as Caddy's `tls { client_auth … }` asks for it. The certificate
// must be the one in the token; whether it is issued by a trusted authority is up
// to client_auth.
type CertificateBound struct {
	// Refuse tokens that are not bound to a certificate. Default: false.
	Required bool `json:"required,omitempty"`
}

// confirmation is what the `cnf` of a token binds it to (RFC 7800 §3.1).
type confirmation struct {
	// key is the thumbprint of the client's key, `jkt` (RFC 9449 §6.1).
	key string
	// certificate is the hash of the client's certificate, `x5t#S256` (RFC 8705
	// §3.1).
	certificate string
	// err is why nothing can confirm the token.
	err error
}

// confirmationOf reads `cnf`. A token that is bound in an unknown way cannot be
// checked, and is not a bearer token either.
func confirmationOf(claims token.Claims) (c confirmation) {
	value, given := claims["cnf"]
	if !given {
		return c
	}
	members, ok := value.(map[string]any)
	if !ok || len(members) == 0 {
		c.err = fmt.Errorf("%w: it is not an object with members", errConfirmation)
		return c
	}
	for name, value := range members {
		text, ok := value.(string)
		switch {
		case name == "jkt" && ok && text != "":
			c.key = text
		case name == "x5t#S256" && ok && text != "":
			c.certificate = text
		default:
			c.err = fmt.Errorf("%w: it has other members than jkt and x5t#S256, which are strings", errConfirmation)
		}
	}
	return c
}

// confirm checks that the client is the one that the token was issued to.
// usesDPoP is true if the request has the scheme DPoP.
func (h *Handler) confirm(r *http.Request, p *Provider, v *verified, text string, usesDPoP bool) error {
	if h.IgnoreConfirmation {
		return nil
	}
	c := &v.confirmation
	if c.err != nil {
		return c.err
	}
	if err := h.confirmCertificate(r, c); err != nil {
		return err
	}
	switch {
	case h.DPoP == nil && c.key != "":
		return errBoundNoDPoP
	case h.DPoP == nil:
		return nil
	case c.key == "" && (usesDPoP || h.DPoP.Required):
		return errUnbound
	case c.key == "":
		return nil
	case !usesDPoP:
		// Else a stolen token would do without the key (RFC 9449 §7.2).
		return errBoundDPoP
	}
	return h.DPoP.check(r, p, c.key, text, h.now())
}

func (h *Handler) confirmCertificate(r *http.Request, c *confirmation) error {
	switch {
	case c.certificate == "" && h.CertificateBound != nil && h.CertificateBound.Required:
		return errUnbound
	case c.certificate == "":
		return nil
	case h.CertificateBound == nil:
		return errBoundNoTLS
	case r.TLS == nil || len(r.TLS.PeerCertificates) == 0:
		return fmt.Errorf("%w: it sent none", errCertificate)
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(c.certificate)) != 1 {
		return errCertificate
	}
	return nil
}

// provisionConfirmation needs the providers and sources.
func (h *Handler) provisionConfirmation(a *app.App) error {
	if h.IgnoreConfirmation && (h.DPoP != nil || h.CertificateBound != nil) {
		return errors.New("ignore_confirmation: it cannot be combined with dpop and certificate_bound")
	}
	if h.DPoP == nil {
		return nil
	}
	if !slices.Contains(h.sources, authorization) {
		return errors.New("dpop: sources: `header` is needed: the scheme DPoP is sent in Authorization")
	}
	if err := h.DPoP.provision(a, h.providers, h.now); err != nil {
		return fmt.Errorf("dpop: %w", err)
	}
	return nil
}
