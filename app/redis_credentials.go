package app

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/running"
)

// fromFile reports whether a text is read from a file, which may change.
func fromFile(text string) bool { return strings.Contains(text, "{file.") }

// rotating returns what new connections sign in with: the credentials as the files
// have them then. It is nil where none are in a file. While a file cannot be read,
// the last credentials are used.
func (c *RedisConfig) rotating(username, password string) func(context.Context) (string, string, error) {
	if c.Entra != nil || !slices.ContainsFunc(append([]string{c.Username, c.Password}, c.URLs...), fromFile) {
		return nil
	}
	return func(context.Context) (string, string, error) {
		u, p, err := c.credentials()
		if err != nil {
			running.Logger("tentagate.redis").Warn("reading the credentials of Redis again; the old ones are used", zap.Error(err))
			return username, password, nil
		}
		return u, p, nil
	}
}

// credentials reads the user name and the password.
func (c *RedisConfig) credentials() (username, password string, err error) {
	urls, err := resolve.SecretList("address", c.URLs)
	if err != nil {
		return "", "", err
	}
	o, err := parseAddress(urls[0])
	if err != nil {
		return "", "", err
	}
	text := texts{}
	username, password = text.of("username", c.Username), strings.TrimRight(text.secret("password", c.Password), "\r\n")
	if text.err != nil {
		return "", "", text.err
	}
	return cmp.Or(username, o.Username), cmp.Or(password, o.Password), nil
}
