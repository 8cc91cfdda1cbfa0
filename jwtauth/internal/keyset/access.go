package keyset

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/pythopus/tentagate/internal/refresh"
)

// CheckAccess checks the files that are needed to reach a server. Either may be "".
func CheckAccess(caFile, tokenFile string) error {
	if caFile != "" {
		if _, _, err := readAuthorities(caFile); err != nil {
			return err
		}
	}
	if tokenFile != "" {
		if _, err := readToken(tokenFile); err != nil {
			return err
		}
	}
	return nil
}

// readCA makes a new transport if the file of authorities changed.
func (r *Remote) readCA() error {
	if r.CAFile == "" || r.Transport != nil {
		return nil
	}
	text, authorities, err := readAuthorities(r.CAFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, r.ca) {
		r.client.CloseIdleConnections()
		own := refresh.NewTransport()
		own.TLSClientConfig = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
		r.client.Transport, r.ca = own, text
	}
	return nil
}

func readAuthorities(file string) (text []byte, authorities *x509.CertPool, err error) {
	if text, err = os.ReadFile(file); err != nil {
		return nil, nil, fmt.Errorf("ca: %w", err)
	}
	authorities = x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("ca: the file %s has no certificate in PEM form", file)
	}
	return text, authorities, nil
}

// readToken returns the token of a file. Its errors show nothing of it.
func readToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("token_file: the file %s is empty", file)
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", fmt.Errorf("token_file: the file %s has more than one token in it: it takes the token alone", file)
	}
	return text, nil
}

// mayHaveToken reports whether the token may be sent there: never in plain text
// over a network, and to the host that was configured. Another host, which the
// issuer's configuration may name, must be vouched for by the private authority,
// as the addresses of a Kubernetes API server are.
func (r *Remote) mayHaveToken(to *url.URL) bool {
	if to.Scheme != "https" && !loopback(to.Hostname()) {
		return false
	}
	own, err := url.Parse(r.URL)
	return err == nil && (own.Host == to.Host || r.CAFile != "" && to.Scheme == "https")
}

// CheckToken refuses to send a token in plain text over a network.
func CheckToken(address string) error {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && !loopback(u.Hostname()) {
		return errors.New("a token is only sent over https, or to this machine")
	}
	return nil
}
