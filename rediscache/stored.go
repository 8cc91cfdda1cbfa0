package rediscache

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

const (
	// storedURI is the endpoint of the admin API for what is stored for a URL.
	storedURI = "/tentagate/cache/stored"
	// maxStored is how many responses are listed.
	maxStored = 1000
)

// storedAnswer is what is stored for a URL.
type storedAnswer struct {
	URL string `json:"url"`
	// Responses are the variants in the memory of this gateway, the newest first, and at
	// most 1000. Those in Redis come there when a request asks for them.
	Responses []storedView `json:"responses"`
	// More: there are more than those.
	More bool `json:"more,omitempty"`
}

// storedView is one stored response.
type storedView struct {
	URL    string `json:"url"`
	Status int    `json:"status"`
	// Use is what a request gets: fresh, stale (it may be served while a new one is
	// fetched, or instead of an error), expired (the origin is asked to validate it), or
	// purged.
	Use string `json:"use"`
	// Age and Fresh are in seconds. Fresh is how long it is still fresh, or negative.
	Age   int64 `json:"age_seconds"`
	Fresh int64 `json:"fresh_seconds"`
	// StaleWhileRevalidate and StaleIfError are how long it may be used afterwards.
	StaleWhileRevalidate int64     `json:"stale_while_revalidate_seconds,omitempty"`
	StaleIfError         int64     `json:"stale_if_error_seconds,omitempty"`
	MustRevalidate       bool      `json:"must_revalidate,omitempty"`
	NoCache              bool      `json:"no_cache,omitempty"`
	Received             time.Time `json:"received"`
	// Vary are the request fields that select it among the variants.
	Vary        []string `json:"vary,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Bytes       int      `json:"bytes"`
	ContentType string   `json:"content_type,omitempty"`
	ETag        string   `json:"etag,omitempty"`
}

func init() {
	admin.Register(admin.Command{
		Name:  "cache",
		Usage: "[<url>]",
		Short: "Shows what the cache of a running gateway has stored",
		Long: `
Without arguments it shows the statistics of the cache; with a URL, the responses that
the gateway has in memory for it: all variants, for all users. http and https are the
same. A response that is only in Redis is not shown until a request asks for it.`,
		Examples: []string{"cache", "cache 'https://example.com/shop/cart?id=7'"},
		Args:     cobra.MaximumNArgs(1),
		Run: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return admin.Do(cmd, http.MethodGet, statsURI, nil, printStats)
			}
			return admin.Do(cmd, http.MethodGet, storedURI+"?url="+url.QueryEscape(args[0]), nil, printStored)
		},
	})
}

// serveStored finds what is stored for a URL.
func serveStored(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("url")
	if text == "" {
		return admin.Error(http.StatusBadRequest, errors.New("url: missing: GET "+storedURI+"?url=https://example.com/a"))
	}
	matches, err := epoch.Match(text)
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	all := locals.Values()
	if len(all) == 0 {
		return admin.Error(http.StatusNotFound, errNoCache)
	}
	answer := storedAnswer{URL: text, Responses: []storedView{}}
	now := time.Now()
	for _, l := range all {
		l.memory.Each(func(e *object.Entry) bool {
			for _, o := range e.Variants {
				if !matches(o) {
					continue
				}
				if answer.More = len(answer.Responses) == maxStored; answer.More {
					return false
				}
				answer.Responses = append(answer.Responses, describeStored(o, l.table.Check(o), now))
			}
			return true
		})
	}
	slices.SortFunc(answer.Responses, func(a, b storedView) int { return b.Received.Compare(a.Received) })
	return admin.JSON(w, answer)
}

func describeStored(o *object.Object, state object.Freshness, now time.Time) storedView {
	fresh := o.Fresh(now)
	if state == object.Soft {
		fresh = min(fresh, 0)
	}
	s := storedView{
		URL: o.Scheme + "://" + o.Host + o.Path, Status: o.Status, Use: "fresh", Age: seconds(o.Age(now)), Fresh: seconds(fresh),
		StaleWhileRevalidate: seconds(o.StaleWhileRevalidate), StaleIfError: seconds(o.StaleIfError),
		MustRevalidate: o.MustRevalidate, NoCache: o.NoCache, Received: o.ResponseTime.UTC(), Vary: o.Vary, Tags: o.Tags, Bytes: len(o.Body),
		ContentType: o.Header.Get("Content-Type"), ETag: o.Header.Get("ETag"),
	}
	switch {
	case state == object.Hard:
		s.Use = "purged"
	case fresh > 0 && !o.NoCache:
	case !o.NoCache && !o.MustRevalidate && -fresh < max(o.StaleWhileRevalidate, o.StaleIfError, o.Keep):
		s.Use = "stale"
	default:
		s.Use = "expired"
	}
	return s
}

func printStored(w io.Writer, answer storedAnswer) error {
	if len(answer.Responses) == 0 {
		_, err := fmt.Fprintf(w, "nothing is stored in memory for %s\n", answer.URL)
		return err
	}
	fmt.Fprintln(w, "URL\tSTATUS\tUSE\tAGE\tFRESH FOR\tSIZE\tVARY\tTAGS")
	for _, s := range answer.Responses {
		fmt.Fprintf(w, "%s\t%d\t%s\t%ds\t%ds\t%s\t%s\t%s\n", s.URL, s.Status, s.Use, s.Age, s.Fresh, bytesText(int64(s.Bytes)),
			cmp.Or(strings.Join(s.Vary, ", "), "-"), cmp.Or(strings.Join(s.Tags, " "), "-"))
	}
	return nil
}
