// Package proxyfields knows the header fields in which a proxy tells the next server
// what its client asked for and who that is. From anybody else they are claims of the
// client that many services believe.
package proxyfields

import (
	"slices"
	"strings"

	"github.com/pythopus/tentagate/internal/fieldname"
)

// Kind is what a field is about.
type Kind uint8

const (
	// None is a field that no proxy sets.
	None Kind = iota
	// Override replaces the method or the path of the request.
	Override
	// Asked says what the client asked for: host, scheme, port, path and the like.
	Asked
	// Client says which address the client has.
	Client
	// Certificate says which certificate the client has, and whether it was verified.
	Certificate
	// Other says something else about the client or its connection.
	Other
)

// kinds are the fields by their canonical names.
var kinds = map[string]Kind{}

// These are the fields of each kind whose names no rule below knows, and those that can
// change a response.
var (
	overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Override-Url", "X-Http-Path-Override"}
	asked     = []string{
		"Cf-Visitor", "Forwarded", "Front-End-Https", "X-Arr-Ssl", "X-Envoy-Original-Host", "X-Envoy-Original-Path", "X-Forward-Host", "X-Forward-Port", "X-Forward-Proto", "X-Forwarded-Host", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Uri", "X-Host",
		"X-Http-Destinationurl", "X-Http-Host-Override", "X-Original-Host", "X-Original-Method", "X-Original-Path", "X-Original-Port", "X-Original-Proto", "X-Original-Protocol", "X-Original-Query", "X-Original-Scheme", "X-Original-Uri", "X-Scheme", "X-Script-Name", "X-Url-Scheme",
	}
	client = []string{
		"Cf-Pseudo-Ipv4", "Client-Ip", "Forwarded-For", "Remote-Addr", "X-Custom-Ip-Authorization", "X-Forwarded-For",
		"X-Nf-Client-Connection-Ip", "X-Original-Ip",
	}
	other = []string{"X-Forwarded-By"} // the proxy itself
)

func init() {
	for kind, names := range map[Kind][]string{Override: overrides, Asked: asked, Client: client, Other: other} {
		for _, name := range names {
			kinds[name] = kind
		}
	}
}

// Changing returns the names of the fields, of those that have a name of their own,
// that say what is asked for, and so can change the response.
func Changing() []string { return slices.Concat(overrides, asked) }

// families are the beginnings of the names of further fields, behind X-.
var families = []struct {
	prefix string
	kind   Kind
}{
	{"Forwarded", Asked},
	{"Original-Client-", Asked},
	{"Original-Forwarded-", Asked},
	{"Original-Remote-", Asked},
	{"Forward-", Other},
	{"Envoy-", Other},
	{"Arr-", Other},
}

// certificates are the beginnings of the names of fields of kind Certificate.
var certificates = []string{
	"Cf-Cert-", "Client-Cert", "Ssl-Cert", "Ssl-Client", "Sslclientcert", "X-Amzn-Mtls-Clientcert", "X-Arr-Clientcert", "X-Client-Cert", "X-Client-Dn", "X-Client-Verify", "X-Ssl-Cert", "X-Ssl-Client", "X-Tls-Client",
}

// IsCertificate reports whether a field says which certificate a client has: it
// identifies the client. The name is as fieldname.Hyphenated returns it.
func IsCertificate(name string) bool {
	switch name[:min(1, len(name))] {
	case "X", "S", "C":
		for _, prefix := range certificates {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// Of returns the kind of a field, by its canonical name, in every spelling that a service
// may read as the same.
func Of(name string) Kind {
	name = fieldname.Hyphenated(name)
	if kind, ok := kinds[name]; ok {
		return kind
	}
	if hasAddress(name) {
		return Client
	}
	if IsCertificate(name) {
		return Certificate
	}
	if rest, ok := strings.CutPrefix(name, "X-"); ok {
		for i := range families {
			if strings.HasPrefix(rest, families[i].prefix) {
				return families[i].kind
			}
		}
	}
	return None
}

// hasAddress reports whether the last words of a name say that the field has the address
// of a client, as in True-Client-Ip, Incap-Client-Ip or X-Vercel-Forwarded-For.
func hasAddress(name string) bool {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return false
	}
	before := name[:at]
	switch name[at+1:] {
	case "Clientip", "Realip", "Remoteip", "Socketip", "Remoteaddr":
		return true
	case "For":
		return strings.HasSuffix(before, "-Forwarded") || strings.HasSuffix(before, "-Forward")
	case "Ip", "Ipv6":
		switch word := before[strings.LastIndexByte(before, '-')+1:]; word {
		case "Src", "Source", "User", "From", "For", "Forwarded", "Proxyuser":
			return true
		default:
			return isClient(word)
		}
	case "Addr", "Address": // elsewhere these are of mail, too
		return isClient(before[strings.LastIndexByte(before, '-')+1:])
	}
	return false
}

// isClient reports whether a word of a name stands for the client of a proxy.
func isClient(word string) bool {
	switch word {
	case "Client", "Real", "Remote", "Connecting", "Originating", "Peer", "Viewer", "External":
		return true
	}
	return false
}
