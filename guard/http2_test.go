package guard_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pythopus/tentagate/internal/servertest"
)

// field is a field of a header section, as HTTP/2 sends it.
type field struct{ name, value string }

// framed sends one request over a connection of its own, exactly as given, and
// returns the status of the answer, or 400 where the stream is reset for a
// protocol error, which RFC 9113 §8.1.1 has for it too.
func framed(t *testing.T, server *httptest.Server, fields []field, body []byte) string {
	t.Helper()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
	}
	err = errors.Join(
		framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == nil}),
	)
	if body != nil {
		err = errors.Join(err, framer.WriteData(1, true, body))
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status[0] != '1' {
				return status
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode == http2.ErrCodeProtocol {
				return "400"
			}
			return f.ErrCode.String()
		}
	}
}

// What only HTTP/2 can carry never reaches a service (RFC 9113 §8.2, §8.3).
func TestFramedRequestsOverHTTP2(t *testing.T) {
	// A request whose length turns out wrong may come late: each case counts its own.
	var hits sync.Map
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Store(r.Header.Get("X-Case"), true)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(service.Close)
	server := servertest.NewTLS(t, ":80 {\n\tguard\n\treverse_proxy "+service.Listener.Addr().String()+"\n}")
	good := []field{{":method", "POST"}, {":scheme", "https"}, {":authority", "gateway.test"}, {":path", "/x?a=b"}}
	with := func(name, value string) []field {
		fields := append([]field(nil), good...)
		for i := range fields {
			if fields[i].name == name {
				fields[i].value = value
				return fields
			}
		}
		return append(fields, field{name, value})
	}
	for name, tc := range map[string]struct {
		fields []field
		body   []byte
		ok     bool
	}{
		"as it should be":       {good, nil, true},
		"with a body":           {with("content-length", "5"), []byte("hello"), true},
		"version in the query":  {with(":path", "/x?a HTTP/1.0"), nil, false},
		"blank in the query":    {with(":path", "/x?a b"), nil, false},
		"blank in the path":     {with(":path", "/x y"), nil, false},
		"fragment":              {with(":path", "/x#a"), nil, false},
		"fragment in the query": {with(":path", "/x?a#b"), nil, false},
		"no slash":              {with(":path", "x"), nil, false},
		"a URL":                 {with(":path", "http://other.test/x"), nil, false},
		"an asterisk":           {with(":path", "*"), nil, false},
		"line feed":             {with(":path", "/x?a\nb"), nil, false},
		"NUL":                   {with(":path", "/x?a\x00b"), nil, false},
		"parameters":            {with(":path", "/x;a/b"), nil, false},
		"encoded twice":         {with(":path", "/%2561dm"), nil, false},
		"blank in the method":   {with(":method", "G ET"), nil, false},
		"end of line":           {with(":method", "GET / HTTP/1.1\r\nX-A:"), nil, false},
		"another scheme":        {with(":scheme", "ftp"), nil, false},
		"no scheme":             {with(":scheme", ""), nil, false},
		"scheme with a path":    {with(":scheme", "https://other.test/"), nil, false},
		"no authority":          {with(":authority", ""), nil, false},
		"user in the authority": {with(":authority", "user@gateway.test"), nil, false},
		"blank in it":           {with(":authority", "gateway.test x"), nil, false},
		"path in it":            {with(":authority", "gateway.test/x"), nil, false},
		"port that is none":     {with(":authority", "gateway.test:http"), nil, false},
		"another host":          {with("host", "other.test"), nil, false},
		"the same host":         {with("host", "gateway.test"), nil, true},
		"blank in front":        {with("x-a", " b"), nil, false},
		"blank behind":          {with("x-a", "b "), nil, false},
		"tab behind":            {with("x-a", "b\t"), nil, false},
		"line feed in a value":  {with("x-a", "b\nc"), nil, false},
		"capital in a name":     {with("X-A", "b"), nil, false},
		"blank in a name":       {with("x a", "b"), nil, false},
		"connection":            {with("connection", "x-a"), nil, false},
		"transfer-encoding":     {with("transfer-encoding", "chunked"), nil, false},
		"length without body":   {with("content-length", "5"), nil, false},
		"length too small":      {with("content-length", "3"), []byte("hello"), false},
		"length too large":      {with("content-length", "7"), []byte("hello"), false},
		"length that is none":   {with("content-length", "5x"), []byte("hello"), false},
	} {
		status := framed(t, server, append(tc.fields, field{"x-case", name}), tc.body)
		_, asked := hits.Load(name)
		// A service may have been asked already when a length turns out wrong.
		mid := tc.body != nil && !tc.ok
		if want := map[bool]string{true: "204", false: "400"}[tc.ok]; status != want || !mid && asked != tc.ok {
			t.Errorf("%s: got %s, want %s, and the service was asked: %v", name, status, want, asked)
		}
	}
}
