package jwtauth

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	// protocolField is Go's spelling of Sec-WebSocket-Protocol. In responses, Caddy's
	// proxy uses that of the RFC.
	protocolField    = "Sec-Websocket-Protocol"
	protocolFieldRFC = "Sec-WebSocket-Protocol"
	// kubernetesProtocol is the prefix of a token in base64url, as Kubernetes clients
	// send it.
	kubernetesProtocol = "base64url.bearer.authorization.k8s.io."
)

// tokenMarks are subprotocols that only mean that a token follows.
var tokenMarks = []string{"bearer", "access_token", "authorization", "token", "jwt"}

// isWebSocket reports whether the request opens a WebSocket (RFC 6455 §4.1, RFC
// 8441 §5, RFC 9220 §3).
func isWebSocket(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return r.ProtoMajor > 2 && strings.EqualFold(r.Proto, "websocket") ||
			r.ProtoMajor == 2 && slices.Equal(r.Header[":protocol"], []string{"websocket"})
	}
	return r.Method == http.MethodGet && httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket")
}

// protocols are the subprotocols that a client offers, by kind.
type protocols struct {
	tokens []string
	// real are those that a service can choose from.
	real []string
	// mark is the token mark in front of a token, if there is one.
	mark string
}

// protocolsOf reads what the client offers. A browser cannot set Authorization
// for a WebSocket, so that clients send the token among the subprotocols: by
// itself, after a mark such as `bearer`, or as Kubernetes has it.
func protocolsOf(r *http.Request) (p protocols) {
	for _, line := range r.Header[protocolField] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); name == "" {
				continue
			}
			text, ok := protocolToken(name)
			if !ok {
				p.real = append(p.real, name)
				continue
			}
			p.tokens = append(p.tokens, text)
			if last := len(p.real) - 1; last >= 0 && slices.Contains(tokenMarks, strings.ToLower(p.real[last])) {
				p.mark, p.real = p.real[last], p.real[:last]
			}
		}
	}
	return p
}

// protocolToken returns the token that a subprotocol is. One that cannot be
// decoded is a token too, a bad one.
func protocolToken(name string) (string, bool) {
	if encoded, ok := strings.CutPrefix(name, kubernetesProtocol); ok {
		text, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil {
			return "", true
		}
		return string(text), true
	}
	return name, strings.HasPrefix(name, "ey") && strings.Count(name, ".") == 2
}

// rewriteProtocols leaves only the subprotocols that the service can choose from,
// and moves the token to Authorization, unless it is stripped: a service that
// chooses the first subprotocol would choose the token.
func (h *Handler) rewriteProtocols(r *http.Request, p *protocols) {
	delete(r.Header, protocolField)
	if len(p.real) > 0 {
		r.Header[protocolField] = []string{strings.Join(p.real, ", ")}
	}
	if !h.StripToken && r.Header["Authorization"] == nil {
		r.Header["Authorization"] = []string{"Bearer " + p.tokens[0]}
	}
}

// answer makes the service's choice one that the client offered: a browser ends
// a connection whose subprotocol it did not offer, and one without any if it
// offered some (WebSockets standard §2.1; RFC 6455 §4.1).
func (p *protocols) answer(fields http.Header, status int) {
	if status != http.StatusSwitchingProtocols && status/100 != 2 {
		return
	}
	chosen := slices.Concat(fields[protocolField], fields[protocolFieldRFC])
	if len(chosen) == 1 && slices.Contains(p.real, strings.TrimSpace(chosen[0])) {
		return
	}
	delete(fields, protocolField)
	delete(fields, protocolFieldRFC)
	if len(p.real) == 0 && p.mark != "" {
		fields[protocolFieldRFC] = []string{p.mark}
	}
}
