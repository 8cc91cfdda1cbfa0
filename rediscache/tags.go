package rediscache

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// maxTagBytes bounds the tags of one response. What has more is not stored, since
// a purge by what was left out would miss it.
const maxTagBytes = 16 << 10

// splitTags appends the tags of one field value, which has blanks or commas
// between them.
func splitTags(tags []string, value string) []string {
	return append(tags, strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })...)
}

// tagsOf returns the tags of a response, and false if they are too many.
func (h *Handler) tagsOf(fields http.Header) (tags []string, ok bool) {
	size := 0
	for _, name := range h.Tags {
		for _, value := range fields[name] {
			if size += len(value); size > maxTagBytes {
				return nil, false
			}
			tags = splitTags(tags, value)
		}
	}
	return tags, true
}

// named reports whether the tags and groups of a response can all be remembered.
func (c *fill) named(fields http.Header) bool {
	h := c.x.h
	if _, ok := h.tagsOf(fields); ok && rfc9111.GroupsFit(fields["Cache-Groups"]) {
		return true
	}
	if h.warnedOfTags.due(c.received) {
		h.logger.Warn("a response with more than 16 KiB of tags or groups is not stored: a purge could miss it",
			zap.String("host", c.x.t.host), zap.String("path", c.x.t.path))
	}
	return false
}

// seldom lets a message that each request could cause appear once a minute.
type seldom struct{ last atomic.Int64 }

func (s *seldom) due(now time.Time) bool {
	last := s.last.Load()
	return now.UnixNano()-last >= int64(time.Minute) && s.last.CompareAndSwap(last, now.UnixNano())
}
