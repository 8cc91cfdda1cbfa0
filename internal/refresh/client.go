package refresh

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// maxRedirects is how many redirects are followed.
const maxRedirects = 3

// NewTransport returns a transport with bounds of its own.
func NewTransport() *http.Transport {
	own := http.DefaultTransport.(*http.Transport).Clone()
	own.MaxResponseHeaderBytes = 64 << 10
	own.MaxIdleConnsPerHost = 1
	return own
}

// NewClient returns a client for documents. It follows no redirect to another host, which
// would let a server choose what the gateway asks and believes.
func NewClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme:
				return errors.New("a redirect to another host is not followed")
			case len(via) > maxRedirects:
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return nil
		},
	}
}

// Cause returns the error of a request without its URL, which may have a secret in it.
func Cause(err error) error {
	if named, ok := errors.AsType[*url.Error](err); ok {
		return named.Err
	}
	return err
}
