package epoch

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/internal/percent"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// The table is laid out alike in every process that shares a Redis: a change
// here needs another name for what is kept there.
const (
	// buckets is the number of places for names.
	buckets = 1 << 18
	// MaxPrefix is the longest prefix of host and path that can be invalidated,
	// in bytes.
	MaxPrefix = 2048

	allIndex   = buckets
	lenIndex   = buckets + 1 // plus the length of a prefix
	indexCount = lenIndex + MaxPrefix + 1
	markCount  = indexCount * 2
)

// Mark is one place of the table: for hard invalidations, or for soft ones.
type Mark uint32

func mark(index uint32, soft bool) Mark {
	m := Mark(index) << 1
	if soft {
		m |= 1
	}
	return m
}

// soft reports whether the mark is for soft invalidations.
func (m Mark) soft() bool { return m&1 == 1 }

// String returns the mark as it is written in Redis.
func (m Mark) String() string {
	kind := "h"
	if m.soft() {
		kind = "s"
	}
	return kind + strconv.FormatUint(uint64(m>>1), 10)
}

// ParseMark reads what String wrote.
func ParseMark(s string) (Mark, bool) {
	if len(s) < 2 || (s[0] != 'h' && s[0] != 's') {
		return 0, false
	}
	index, err := strconv.ParseUint(s[1:], 10, 32)
	if err != nil || index >= indexCount {
		return 0, false
	}
	return mark(uint32(index), s[0] == 's'), true
}

// The kinds of names. A name is hashed with its kind in front.
const (
	kindURL    = 'u'
	kindQuery  = 'q' // a URL without its query, whatever query it is asked for with
	kindPrefix = 'p'
	kindHost   = 'h'
	kindTag    = 't'
	kindGroup  = 'g'
)

// places is how many buckets a name has.
const places = 4

// place returns the buckets of a name. They differ from each other.
func place(name []byte) [places]uint32 {
	h := xxh3.Hash128(name)
	var at [places]uint32
	for i := range at {
		at[i] = uint32((h.Lo + uint64(i)*(h.Hi|1)) % buckets)
	}
	return at
}

// nameMarks returns the marks of a name.
func nameMarks(name []byte, soft bool) []Mark {
	marks := make([]Mark, 0, places+1)
	for _, i := range place(name) {
		marks = append(marks, mark(i, soft))
	}
	return marks
}

// Marks returns the places that an invalidation of the scopes writes to. The
// scheme of a URL is left out: behind a proxy that ends TLS the operator's
// https:// is the gateway's http://.
func Marks(scopes ...object.Scope) ([]Mark, error) {
	var all []Mark
	for _, s := range scopes {
		marks, err := scopeMarks(s)
		if err != nil {
			return nil, err
		}
		all = append(all, marks...)
	}
	return all, nil
}

// ValidMarks is Marks that passes invalid scopes over.
func ValidMarks(scopes ...object.Scope) []Mark {
	var all []Mark
	for _, s := range scopes {
		marks, _ := scopeMarks(s)
		all = append(all, marks...)
	}
	return all
}

func scopeMarks(s object.Scope) ([]Mark, error) {
	if err := validate(s); err != nil {
		return nil, err
	}
	var buf []byte
	switch {
	case s.All:
		return []Mark{mark(allIndex, s.Soft)}, nil
	case s.URL != "":
		host, path, err := splitURL(s.URL)
		if err != nil {
			return nil, fmt.Errorf("url %q: %w", s.URL, err)
		}
		buf = append(append(append(buf, kindURL), host...), path...)
		marks := nameMarks(buf, s.Soft)
		if bare := withoutQuery(buf); len(bare) < len(buf) {
			// A response to several queries does not know all of them.
			bare[0] = kindQuery
			marks = append(marks, nameMarks(bare, s.Soft)...)
		}
		return marks, nil
	case s.Prefix != "":
		host, path, err := splitURL(s.Prefix)
		if err != nil {
			return nil, fmt.Errorf("prefix %q: %w", s.Prefix, err)
		}
		buf = append(append(append(buf, kindPrefix), host...), path...)
		if len(buf)-1 > MaxPrefix {
			return nil, fmt.Errorf("prefix: host and path have %d bytes, accepted are up to %d", len(buf)-1, MaxPrefix)
		}
		return append(nameMarks(buf, s.Soft), mark(lenIndex+uint32(len(buf)-1), s.Soft)), nil
	case s.Host != "":
		host, err := normalHost(s.Host)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", s.Host, err)
		}
		buf = append(append(buf, kindHost), host...)
	case s.Tag != "":
		buf = append(append(buf, kindTag), s.Tag...)
	default:
		host, _, err := splitURL(s.Origin)
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w", s.Origin, err)
		}
		buf = appendGroup(buf, host, s.Group)
	}
	return nameMarks(buf, s.Soft), nil
}

func validate(s object.Scope) error {
	n := 0
	for _, given := range []bool{s.URL != "", s.Prefix != "", s.Host != "", s.Tag != "", s.Group != "", s.All} {
		if given {
			n++
		}
	}
	if n != 1 {
		return errors.New("exactly one of url, prefix, host, tag, group and all must be given")
	}
	if (s.Group != "") != (s.Origin != "") {
		return errors.New("group and origin belong together")
	}
	return nil
}

func appendGroup(buf []byte, host, group string) []byte {
	buf = append(append(buf, kindGroup), host...)
	return append(append(buf, 0), group...)
}

// splitURL returns the host and the rest of an absolute URL as stored
// responses have them.
func splitURL(url string) (host, path string, err error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || (!strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https")) {
		return "", "", errors.New("it must begin with http:// or https://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if host, err = normalHost(rest[:end]); err != nil {
		return "", "", err
	}
	return host, string(appendPath(nil, rest[end:])), nil
}

// normalHost returns the host in lower case, without a default port and
// without the dot that may end it.
func normalHost(host string) (string, error) {
	if host == "" {
		return "", errors.New("it has no host")
	}
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`/?#\@*,`, c) >= 0 {
			return "", fmt.Errorf("the host has the character %q, accepted is host or host:port", c)
		}
	}
	if strings.Trim(host, ".:0123456789") == "" && strings.HasPrefix(host, ":") || strings.HasSuffix(host, ":") {
		return "", fmt.Errorf("%q has no host or an empty port, accepted is host or host:port", host)
	}
	return hostname.Normal(host), nil
}

// withoutQuery returns the part of a name before the query.
func withoutQuery(name []byte) []byte {
	if before, _, ok := bytes.Cut(name, []byte{'?'}); ok {
		return before
	}
	return name
}

// appendPath appends the path and query, escaping what a request target should
// not hold as browsers do, so that a URL copied from an address bar fits, and
// with one spelling for what RFC 3986 §6.2.2 calls equivalent. Responses and
// invalidations go through it alike.
func appendPath(buf []byte, path string) []byte {
	if path == "" || path[0] != '/' {
		buf = append(buf, '/')
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '#':
			return buf
		case c == '%':
			decoded, ok := percent.Decode(path[i:])
			switch {
			case !ok:
				buf = append(buf, c)
				continue
			case percent.Unreserved(decoded):
				buf = append(buf, decoded)
			default:
				buf = append(buf, '%', percent.Upper[decoded>>4], percent.Upper[decoded&15])
			}
			i += 2
		case c <= ' ' || c == '"' || c == '<' || c == '>' || c >= 0x7f:
			buf = append(buf, '%', percent.Upper[c>>4], percent.Upper[c&15])
		default:
			buf = append(buf, c)
		}
	}
	return buf
}

// Match returns what reports whether a stored response is that of a URL, which is spelled
// as in an invalidation: http and https are the same.
func Match(url string) (func(*object.Object) bool, error) {
	host, path, err := splitURL(url)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", url, err)
	}
	return func(o *object.Object) bool {
		return hostname.Normal(o.Host) == host && string(appendPath(nil, o.Path)) == path
	}, nil
}
