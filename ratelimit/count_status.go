package ratelimit

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// statusSet are the status codes of responses that count.
type statusSet [600]bool

func (s *statusSet) has(status int) bool {
	return status >= 0 && status < len(s) && s[status]
}

// parseStatuses reads codes such as 401 and classes such as 5xx.
func parseStatuses(texts []string) (s statusSet, err error) {
	for _, text := range texts {
		if len(text) == 3 && text[1:] == "xx" && text[0] >= '1' && text[0] <= '5' {
			first := int(text[0]-'0') * 100
			for i := first; i < first+100; i++ {
				s[i] = true
			}
			continue
		}
		code, err := strconv.Atoi(text)
		if err != nil || code < 100 || code > 599 {
			return s, fmt.Errorf("%q is neither a status code from 100 to 599 nor a class such as 5xx", text)
		}
		s[code] = true
	}
	return s, nil
}

// countByStatus runs the handlers behind, and reconciles what was taken as soon
// as the status of the response is known.
func (c *check) countByStatus(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	c.writer.Init(w, c)
	status := 0 // of a panic: the connection is cut without a response
	defer func() { c.writer.Send(status) }()
	err := next.ServeHTTP(&c.writer, r)
	status = http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
			status = he.StatusCode
		}
	}
	return err
}

// BeforeHeader reconciles the units with the status. They were reserved before,
// so that requests in progress cannot together exceed the limit, and are given
// back for a status that does not count; with count_after they are taken only
// now, for one that does.
func (c *check) BeforeHeader(header http.Header, status int) {
	h := c.handler
	switch counts := h.statuses.has(status); {
	case h.CountAfter && counts:
		c.take()
		h.zone.topKeys.add(c.key, c.cost)
		if !h.Shadow {
			c.writeFields(header)
		}
	case !h.CountAfter && !counts:
		c.refund()
		c.rewriteFields(header)
	}
}
