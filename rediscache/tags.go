package rediscache

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// maxTagBytes bounds the tags of one response. What has more is not stored, since a
// purge by what was left out would miss it.
const maxTagBytes = 16 << 10

// tagging reads the tags of responses, by which they can be purged.
type tagging struct {
	names  []string // of the fields
	logger *zap.Logger
	warned atomic.Int64 // when, in Unix nanoseconds
}

// of returns the tags of a response, and false if they are too many.
func (t *tagging) of(fields http.Header) (tags []string, ok bool) {
	size := 0
	for _, name := range t.names {
		for _, value := range fields[name] {
			if size += len(value); size > maxTagBytes {
				return nil, false
			}
			tags = splitTags(tags, value)
		}
	}
	return tags, true
}

// splitTags appends the tags of one field value, which has blanks or commas between
// them.
func splitTags(tags []string, value string) []string {
	return append(tags, strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })...)
}

// fit reports whether the tags and groups of a response can all be remembered.
func (t *tagging) fit(to *target, fields http.Header, now time.Time) bool {
	if _, ok := t.of(fields); ok && rfc9111.GroupsFit(fields["Cache-Groups"]) {
		return true
	}
	last := t.warned.Load() // at most once a minute: any request could cause it
	if now.UnixNano()-last >= int64(time.Minute) && t.warned.CompareAndSwap(last, now.UnixNano()) {
		t.logger.Warn("response not stored: it has more than 16 KiB of tags or cache groups, and a purge could miss it",
			zap.String("host", to.host), zap.String("path", to.path))
	}
	return false
}
