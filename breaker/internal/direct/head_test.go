package direct

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// head returns the request as writeHead writes it, or false if it does not.
func head(t *testing.T, r *http.Request, o Options) (string, bool) {
	t.Helper()
	out, err := New(o).outgoing(r)
	if err != nil || !out.plain {
		return "", false
	}
	var b bytes.Buffer
	c := &conn{w: bufio.NewWriter(&b)}
	c.writeHead(out)
	if err := c.w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String(), true
}

// What writeHead writes is what net/http would have written.
func FuzzHead(f *testing.F) {
	f.Add("GET", "a.example:80", "/a b/%2F", "x=1&y=%20", "Accept: */*\nX-B: 2\nX-A: 1\nX-B: 1\nUser-Agent: \n")
	f.Add("POST", "[::1]:80", "", "", "User-Agent:  me \nConnection: close\nHost: b\nContent-Length: 5\nTe: trailers\n")
	f.Add("PATCH", "ä.example", "//b?", "#", "Transfer-Encoding: chunked\nTrailer: a\nx: \t y \n")
	f.Add("", "fe80::1%25en0", "*", "a b", "Upgrade: h2c\nX-\x7f: a\nX: \x00\n")
	f.Fuzz(func(t *testing.T, method, host, path, query, fields string) {
		r := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: "b:80", Path: path, RawQuery: query, ForceQuery: strings.HasSuffix(fields, "?")}, Host: host, Header: http.Header{}}
		for line := range strings.SplitSeq(fields, "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				r.Header[name] = append(r.Header[name], value)
			}
		}
		if strings.EqualFold(r.Header.Get("Upgrade"), "h2c") {
			return
		}
		got, ok := head(t, r, Options{NoCompression: true})
		if !ok {
			return
		}
		var want bytes.Buffer
		if err := r.Write(&want); err != nil || got != want.String() {
			t.Errorf("got %q\nwant %q, %v", got, want.String(), err)
		}
	})
}

// The usual requests are written by writeHead, others are left to net/http.
func TestHead(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *http.Request)
		plain  bool
		has    string
	}{
		"GET":         {func(*http.Request) {}, true, "Accept-Encoding: gzip\r\n\r\n"},
		"own coding":  {func(r *http.Request) { r.Header.Set("Accept-Encoding", "br") }, true, "Accept-Encoding: br\r\n"},
		"POST":        {func(r *http.Request) { r.Method = http.MethodPost }, true, "Content-Length: 0\r\n"},
		"no agent":    {func(r *http.Request) { r.Header["User-Agent"] = nil }, true, "Host: a\r\nAccept-Encoding"},
		"length":      {func(r *http.Request) { r.ContentLength = 1 }, false, ""},
		"chunked":     {func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }, false, ""},
		"close":       {func(r *http.Request) { r.Close = true }, false, ""},
		"opaque":      {func(r *http.Request) { r.URL.Opaque = "*" }, false, ""},
		"no host":     {func(r *http.Request) { r.Host = "" }, false, ""},
		"blank":       {func(r *http.Request) { r.URL.RawQuery = "a b" }, false, ""},
		"bad host":    {func(r *http.Request) { r.Host = "a/b c" }, false, ""},
		"CONNECT":     {func(r *http.Request) { r.Method = http.MethodConnect }, false, ""},
		"other names": {func(r *http.Request) { r.Host = "ä" }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, http.MethodGet, "http://a/", nil)
			tc.change(r)
			if got, ok := head(t, r, Options{}); ok != tc.plain || !strings.Contains(got, tc.has) {
				t.Errorf("%v, %q", ok, got)
			}
		})
	}
}
