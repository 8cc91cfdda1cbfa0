package app

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/resolve"
)

// Default limits of one call on the path of a request. A request waits no
// longer than its budget, whatever they are.
const (
	defaultTimeout     = 100 * time.Millisecond
	defaultDialTimeout = 250 * time.Millisecond
)

// RedisConfig says which Redis the gateways share. Every text may be a
// placeholder, `{env.REDIS_URL}` or `{file./run/secrets/redis}`; it is resolved
// when the configuration is loaded and appears nowhere else. A user name and
// password from a file are read again for each new connection. One that has no
// value then is an error, so that a misspelt variable cannot switch Redis or its
// password off; `{env.REDIS_URL}` alone may be unset.
type RedisConfig struct {
	// Addresses: `redis://[user:password@]host:port[/db]`, `rediss://…` for TLS,
	// or `unix:///path/to/socket`. One address is a single server, several are a
	// Cluster; with `sentinel` they are the Sentinels. A text may hold several
	// addresses separated by commas. If it is `{env.REDIS_URL}` and that is not
	// set, the file that REDIS_URL_FILE names has them; without one, everything is
	// kept in memory. Required.
	URLs []string `json:"urls,omitempty"`

	// The name of the master that the Sentinels watch. Default: no Sentinel.
	Sentinel string `json:"sentinel,omitempty"`

	// Treat a single address as the entry to a Cluster, as Azure Managed Redis
	// with the OSS cluster policy asks. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// What begins every key. Gateways with different prefixes do not know each
	// other. Default: `tentagate`.
	KeyPrefix string `json:"key_prefix,omitempty"`

	// User name of the Redis ACL. Default: the one in the address.
	Username string `json:"username,omitempty"`

	// Password. Default: the one in the address.
	Password string `json:"password,omitempty" secret:"true"`

	// TLS settings. Giving them turns TLS on. Default: TLS for `rediss://`, with
	// the system's certificate authorities.
	TLS *RedisTLS `json:"tls,omitempty"`

	// Sign in with tokens of Microsoft Entra ID (Azure Managed Redis). Needs
	// TLS. Default: off.
	Entra *Entra `json:"entra,omitempty"`

	// The longest that one call on the path of a request may take. Default:
	// 100ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The longest that one request waits for Redis, all features together, unless
	// a feature is configured with a longer time. Default: 25ms.
	Budget caddy.Duration `json:"budget,omitempty"`

	// The longest that opening a connection may take. Default: 250ms.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// The most connections to one server. Default: 10 for each CPU.
	PoolSize int `json:"pool_size,omitempty"`

	// Where the Caddyfile has this option; errors name it.
	Position string `json:"position,omitempty"`

	implicit bool // of the environment, without a configuration
}

// RedisTLS are the TLS settings of the connection to Redis.
type RedisTLS struct {
	// PEM file of the certificate authorities to trust. Default: the system's.
	CA string `json:"ca,omitempty"`

	// PEM file of the client certificate. Default: none.
	Cert string `json:"cert,omitempty"`

	// PEM file of the client certificate's key. Default: none.
	Key string `json:"key,omitempty"`

	// The name that the server's certificate must have. Default: the host of
	// the address.
	ServerName string `json:"server_name,omitempty"`
}

// redisSettings are resolved settings. Equal settings share a connection.
type redisSettings struct {
	options redis.UniversalOptions
	cluster bool
	prefix  string
	budget  time.Duration // 0: the default
	entra   *Entra
	tls     *RedisTLS
	key     string
}

// The variables that a gateway takes its Redis from by itself: the addresses, or
// the name of a file that has them.
const (
	envURL     = "REDIS_URL"
	envURLFile = "REDIS_URL_FILE"
)

// ofEnvironment returns the Redis of a configuration that does not have the app.
func ofEnvironment() *RedisConfig {
	return &RedisConfig{URLs: []string{"{env." + envURL + "}"}, implicit: true}
}

// option is what errors name: the option, or the variable where there is none.
func (c *RedisConfig) option() string {
	switch {
	case !c.implicit:
		return "redis"
	case len(c.URLs) == 1 && fromFile(c.URLs[0]):
		return envURLFile
	}
	return envURL
}

// useFile takes the addresses from the file that REDIS_URL_FILE names, if the
// only one is REDIS_URL and that is not set.
func (c *RedisConfig) useFile() error {
	file := os.Getenv(envURLFile)
	if file == "" || len(c.URLs) != 1 || c.URLs[0] != "{env."+envURL+"}" {
		return nil
	}
	if os.Getenv(envURL) != "" {
		return errors.New(envURL + " and " + envURLFile + " are both set, but only one may be: unset the other")
	}
	c.URLs = []string{"{file." + file + "}"}
	return nil
}

// address is an address, and the placeholder that has it, if it is one.
type address struct{ url, of string }

// addresses replaces the placeholders of the addresses, of which one text may hold
// several.
func (c *RedisConfig) addresses() (list []address, err error) {
	for _, text := range c.URLs {
		if c.implicit && !fromFile(text) && strings.TrimSpace(os.Getenv(envURL)) == "" {
			return nil, errors.New("it contains only white space: set a value, or unset it")
		}
		urls, err := resolve.SecretList("address", []string{text})
		if err != nil {
			return nil, err
		}
		a := address{}
		if names := resolve.Placeholders(text); !c.implicit && len(names) == 1 && text == "{"+names[0]+"}" {
			a.of = ": " + text
		}
		for _, a.url = range urls {
			list = append(list, a)
		}
	}
	return list, nil
}

// resolve replaces the placeholders and reads the addresses. It returns nil
// settings if everything is to be kept in memory.
func (c *RedisConfig) resolve() (*redisSettings, error) {
	if err := c.useFile(); err != nil {
		return nil, err
	}
	if len(c.URLs) == 0 {
		return nil, errors.New("no address: leave redis out to keep everything in memory")
	}
	if len(c.URLs) == 1 && resolve.Optional(c.URLs[0], envURL) {
		return nil, nil
	}
	urls, err := c.addresses()
	if err != nil {
		return nil, err
	}
	if err := c.checkBounds(); err != nil {
		return nil, err
	}
	text := texts{}
	s := &redisSettings{prefix: cmp.Or(text.of("key_prefix", c.KeyPrefix), defaultKeyPrefix), budget: time.Duration(c.Budget)}
	sentinel := text.of("sentinel", c.Sentinel)
	username := text.of("username", c.Username)
	password := strings.TrimRight(text.secret("password", c.Password), "\r\n")
	if c.TLS != nil {
		s.tls = &RedisTLS{
			CA: text.of("tls: ca", c.TLS.CA), Cert: text.of("tls: cert", c.TLS.Cert),
			Key: text.of("tls: key", c.TLS.Key), ServerName: text.of("tls: server_name", c.TLS.ServerName),
		}
	}
	if c.Entra != nil {
		s.entra = &Entra{
			ClientID: text.of("entra: client_id", c.Entra.ClientID), Username: text.of("entra: username", c.Entra.Username),
			Scope: text.of("entra: scope", c.Entra.Scope),
		}
	}
	if text.err != nil {
		return nil, text.err
	}
	if strings.ContainsAny(s.prefix, "{} \t\r\n") {
		return nil, fmt.Errorf("key_prefix %q: it must have no braces and no white space", s.prefix)
	}
	s.options = redis.UniversalOptions{
		ClientName:  "tentagate",
		MasterName:  sentinel,
		PoolSize:    c.PoolSize,
		DialTimeout: time.Duration(c.DialTimeout),
		ReadTimeout: time.Duration(c.Timeout),
	}
	var tlsConfig *tls.Config
	for i, one := range urls {
		opt, err := parseAddress(one.url)
		if err != nil {
			return nil, fmt.Errorf("address %d of %d%s: %w", i+1, len(urls), one.of, err)
		}
		if opt.Network == "unix" && len(urls) > 1 {
			return nil, errors.New("a unix socket can only be the one address there is")
		}
		if i > 0 && (opt.TLSConfig != nil) != (tlsConfig != nil) {
			return nil, errors.New("the addresses must be all redis:// or all rediss://")
		}
		s.options.Addrs = append(s.options.Addrs, opt.Addr)
		if i == 0 {
			s.options.DB, s.options.Username, s.options.Password = opt.DB, cmp.Or(username, opt.Username), cmp.Or(password, opt.Password)
			tlsConfig = opt.TLSConfig
		}
	}
	s.cluster = s.options.MasterName == "" && (len(urls) > 1 || c.Cluster)
	s.options.IsClusterMode = s.cluster
	if s.cluster && s.options.DB != 0 {
		return nil, fmt.Errorf("database %d: a Cluster has only database 0", s.options.DB)
	}
	if s.tls != nil {
		if tlsConfig, err = s.tls.build(tlsConfig); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	if c.Entra != nil {
		if tlsConfig == nil {
			return nil, errors.New("entra: tokens are only sent over TLS: write the address as rediss://")
		}
		if s.options.Password != "" {
			return nil, errors.New("entra: leave the password out: the token takes its place")
		}
	}
	s.options.TLSConfig = tlsConfig
	s.options.CredentialsProviderContext = c.rotating(s.options.Username, s.options.Password)
	s.key = s.hash()
	return s, nil
}

// maxWait is the longest that a request may be made to wait for Redis.
const maxWait = time.Minute

// checkBounds checks the options that are numbers.
func (c *RedisConfig) checkBounds() error {
	return cmp.Or(
		parse.Between("timeout", time.Duration(c.Timeout), 0, maxWait),
		parse.Between("dial_timeout", time.Duration(c.DialTimeout), 0, maxWait),
		parse.Between("budget", time.Duration(c.Budget), 0, maxWait),
		parse.Between("pool_size", c.PoolSize, 0, maxPoolSize),
	)
}

// maxPoolSize is the most connections to one server.
const maxPoolSize = 10_000

// texts resolves the options that have a text, and keeps the first error.
type texts struct{ err error }

// of returns the value of an option, or nothing where it is not given.
func (t *texts) of(option, text string) string {
	if text == "" || t.err != nil {
		return ""
	}
	var value string
	value, t.err = resolve.AtLoad(option, text)
	return value
}

// secret is of for an option that holds a secret.
func (t *texts) secret(option, text string) string {
	if text == "" || t.err != nil {
		return ""
	}
	var value string
	value, t.err = resolve.Secret(option, text)
	return value
}

// hash identifies the settings. The secrets among them only go in through the
// hash, so the result may be shown.
func (s *redisSettings) hash() string {
	o := &s.options
	return pool.Key(
		o.Addrs, o.MasterName, s.cluster, o.DB, o.Username, o.Password, o.PoolSize,
		o.DialTimeout, o.ReadTimeout, o.TLSConfig != nil, s.tls, s.entra, s.prefix, s.budget,
	)[:16]
}

// parseAddress reads one address. Its errors never repeat the address, which
// may hold a password.
func parseAddress(url string) (*redis.Options, error) {
	const accepted = "accepted are redis://[user:password@]host:port[/db], rediss://… and unix:///path"
	scheme, rest, ok := strings.Cut(url, "://")
	if strings.EqualFold(url, "off") || strings.EqualFold(url, "none") {
		return nil, fmt.Errorf("%q is not an address: leave it out, and everything is kept in memory", url)
	}
	if !ok {
		return nil, errors.New("it has no scheme: " + accepted)
	}
	switch scheme {
	case "redis", "rediss", "unix":
	default:
		return nil, fmt.Errorf("unknown scheme %q: %s", scheme, accepted)
	}
	if rest == "" {
		return nil, errors.New("it has no host: " + accepted)
	}
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("it cannot be read: " + accepted + "; special characters in a password are percent-encoded")
	}
	if opt.Network == "tcp" {
		host, port, err := net.SplitHostPort(opt.Addr)
		if err != nil || host == "" || port == "" {
			return nil, errors.New("it has no host or port: " + accepted)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("port %.20q is not a number from 1 to 65535", port)
		}
	}
	return opt, nil
}

// build makes the TLS configuration, on top of what the address asked for.
func (t *RedisTLS) build(base *tls.Config) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		cfg = base.Clone()
	}
	if t.ServerName != "" {
		cfg.ServerName = t.ServerName
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("cert and key must be given together")
	}
	if t.Cert == "" {
		return cfg, nil
	}
	if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
		return nil, fmt.Errorf("cert and key: %w", err)
	}
	// Read at each handshake, so that a renewed certificate is used at once.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		return &pair, err
	}
	return cfg, nil
}
