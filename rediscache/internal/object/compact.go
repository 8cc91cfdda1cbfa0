package object

import (
	"net/http"
	"strings"
)

// Compact returns the fields with all their text in one piece of memory and all
// their values in one slice. What lies together is at hand together when the
// response is sent, and the collector has three things to look at in place of
// one for each name and value.
func Compact(fields http.Header) http.Header {
	size, count := 0, 0
	names := make([]string, 0, len(fields))
	for name, values := range fields {
		names = append(names, name)
		size += len(name)
		count += len(values)
		for _, v := range values {
			size += len(v)
		}
	}
	var b strings.Builder
	b.Grow(size)
	for _, name := range names {
		b.WriteString(name)
		for _, v := range fields[name] {
			b.WriteString(v)
		}
	}
	rest := b.String()
	take := func(n int) (s string) {
		s, rest = rest[:n], rest[n:]
		return s
	}
	all := make([]string, 0, count)
	compact := make(http.Header, len(fields))
	for _, name := range names {
		at, key := len(all), take(len(name))
		for _, v := range fields[name] {
			all = append(all, take(len(v)))
		}
		compact[key] = all[at:len(all):len(all)]
	}
	return compact
}
