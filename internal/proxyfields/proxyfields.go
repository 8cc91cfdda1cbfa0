// Package proxyfields knows the header fields in which a proxy tells the next server
// what its client asked for and who that is. From anybody else they are claims of the
// client that many services believe.
package proxyfields

import (
	"slices"
	"strings"
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
	// Client says who the client is.
	Client
)

// kinds are the fields by their canonical names. All fields that begin with
// X-Forwarded belong to them too.
var kinds = map[string]Kind{}

// These are the fields of each kind that have a name of their own.
var (
	overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}
	asked     = []string{
		"Forwarded", "Front-End-Https", "X-Envoy-Original-Path", "X-Forwarded-Host", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Uri", "X-Host",
		"X-Http-Destinationurl", "X-Http-Host-Override", "X-Original-Host", "X-Original-Method", "X-Original-Proto", "X-Original-Uri", "X-Scheme", "X-Url-Scheme",
	}
	client = []string{
		"Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Cf-Visitor", "Client-Ip", "Cloudfront-Viewer-Address", "Fastly-Client-Ip",
		"Fly-Client-Ip", "Forwarded-For", "True-Client-Ip", "X-Appengine-User-Ip", "X-Azure-Clientip", "X-Azure-Socketip", "X-Client-Ip",
		"X-Cluster-Client-Ip", "X-Envoy-External-Address", "X-Forwarded-By", "X-Forwarded-For", "X-Nf-Client-Connection-Ip",
		"X-Original-Forwarded-For", "X-Proxyuser-Ip", "X-Real-Ip", "X-Remote-Addr", "X-Remote-Ip",
	}
)

func init() {
	for kind, names := range map[Kind][]string{Override: overrides, Asked: asked, Client: client} {
		for _, name := range names {
			kinds[name] = kind
		}
	}
}

// Changing returns the names of the fields, of those that have a name of their own,
// that say what is asked for, and so can change the response.
func Changing() []string { return slices.Concat(overrides, asked) }

// Of returns the kind of a field, by its canonical name.
func Of(name string) Kind {
	switch name[:min(1, len(name))] {
	case "X", "F", "C", "T":
	default:
		return None
	}
	if kind, ok := kinds[name]; ok {
		return kind
	}
	if strings.HasPrefix(name, "X-Forwarded") {
		return Asked
	}
	return None
}
