package rediscache

import (
	"net/url"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

const (
	writeOff      = "off"
	writeAbove    = "above"
	writeSegments = "segments"
	writeAll      = "all"

	// maxSegments bounds how deep a path is looked at for invalidate_on_write.
	maxSegments = 16
)

// writeGroup is the name by which what is stored for one user is found when that
// user writes. It stands among the cache groups of the stored response, of which
// none can be equal: theirs are printable.
func (h *Handler) writeGroup(owner, path string) string {
	hash := object.NewKey(h.InvalidateOnWrite, owner, path).Hash
	return "\x00" + string(hash[:])
}

// readGroup returns the group of a response to the path that is stored for the
// owner, or for everybody if that is empty.
func (h *Handler) readGroup(owner, path string) string {
	switch segments := segmentsOf(path); h.InvalidateOnWrite {
	case writeAbove:
		return h.writeGroup(owner, strings.Join(segments, "/"))
	case writeSegments:
		return h.writeGroup(owner, strings.Join(segments[:min(len(segments), h.InvalidateSegments)], "/"))
	}
	return h.writeGroup(owner, "")
}

// writeScopes returns what a write to the target makes invalid for the user who
// wrote: without a partition of that user's own, what is stored for everybody.
func (h *Handler) writeScopes(t *target) []object.Scope {
	origin := t.scheme + "://" + t.host
	if h.InvalidateOnWrite != writeAbove {
		return []object.Scope{{Group: h.readGroup(t.owner, t.path), Origin: origin}}
	}
	segments := segmentsOf(t.path)
	var scopes []object.Scope
	for n := range len(segments) + 1 { // the target too: with any query
		scopes = append(scopes, object.Scope{Group: h.writeGroup(t.owner, strings.Join(segments[:n], "/")), Origin: origin})
	}
	return scopes
}

// segmentsOf splits a path as services read it: decoded, and without empty
// segments, so that `/users/` is `/users`.
func segmentsOf(escaped string) []string {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		path = escaped
	}
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	return segments[:min(len(segments), maxSegments)]
}

// groupsOf returns the groups of a response: its own (RFC 9875), and that of
// invalidate_on_write.
func (x *inquiry) groupsOf(values []string, v *rfc9111.Verdict) []string {
	groups := rfc9111.Groups(values)
	if x.h.InvalidateOnWrite == writeOff {
		return groups
	}
	owner := ""
	if v.Shared != rfc9111.Stored {
		owner = x.t.owner
	}
	return append(slices.Clip(groups), x.h.readGroup(owner, x.t.path))
}
