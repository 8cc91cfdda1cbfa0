package app

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/redis/go-redis/v9/auth"
	"go.uber.org/zap"
)

// entraScope is the audience of tokens for Azure Managed Redis.
const entraScope = "https://redis.azure.com/.default"

const (
	entraFirstWait  = 2 * time.Second  // longest wait of a first connection for a token
	entraRetryFirst = time.Second      // pause after the first failed fetch
	entraRetryMax   = 30 * time.Second // longest pause between failed fetches
	entraFetchTime  = 20 * time.Second // longest a fetch may take
)

// Entra signs in to Azure Managed Redis with tokens of Microsoft Entra ID, of
// the workload's or the machine's managed identity or of the environment (the
// Azure SDK's default chain).
type Entra struct {
	// Client id of a user-assigned managed identity. Default: the one that the
	// environment or the workload identity names.
	ClientID string `json:"client_id,omitempty"`

	// The Redis user name. Default: the `oid` claim of the token.
	Username string `json:"username,omitempty"`

	// The scope of the token. Default: https://redis.azure.com/.default
	Scope string `json:"scope,omitempty"`
}

// entraProvider gives the current token to every connection, and a new one
// before it expires. Loading a configuration does not depend on the token
// endpoint: the first token is fetched in the background, and a connection that
// comes before it waits a bounded time and fails like any other.
type entraProvider struct {
	credential azcore.TokenCredential
	scope      string
	username   string
	logger     *zap.Logger
	now        func() time.Time

	cancel context.CancelFunc
	done   chan struct{}
	ready  chan struct{} // closed when there is a first token

	mu        sync.Mutex
	current   auth.Credentials                      // guarded by mu
	expires   time.Time                             // guarded by mu
	listeners map[auth.CredentialsListener]struct{} // guarded by mu
}

func newEntraProvider(e *Entra, logger *zap.Logger) (*entraProvider, error) {
	var credential azcore.TokenCredential
	var err error
	if e.ClientID != "" {
		credential, err = azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ID: azidentity.ClientID(e.ClientID),
		})
	} else {
		credential, err = azidentity.NewDefaultAzureCredential(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("entra: %w", err)
	}
	return startEntraProvider(credential, cmp.Or(e.Scope, entraScope), e.Username, logger), nil
}

func startEntraProvider(credential azcore.TokenCredential, scope, username string, logger *zap.Logger) *entraProvider {
	ctx, cancel := context.WithCancel(context.Background())
	p := &entraProvider{
		credential: credential, scope: scope, username: username, logger: logger, now: time.Now,
		cancel: cancel, done: make(chan struct{}), ready: make(chan struct{}),
		listeners: map[auth.CredentialsListener]struct{}{},
	}
	go p.run(ctx)
	return p
}

// run keeps the token fresh until the provider is closed.
func (p *entraProvider) run(ctx context.Context) {
	defer close(p.done)
	retry := entraRetryFirst
	for {
		wait, err := p.fetch(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			p.logger.Warn("fetching a Microsoft Entra ID token for Redis failed", zap.Error(err), zap.Duration("retry_in", retry))
			wait, retry = retry+rand.N(retry/2), min(2*retry, entraRetryMax)
		} else {
			retry = entraRetryFirst
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// fetch gets one token, hands it to the connections and returns when to get the
// next: after three quarters of its life, less up to a tenth, so that gateways
// do not all ask at once.
func (p *entraProvider) fetch(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, entraFetchTime)
	defer cancel()
	token, err := p.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{p.scope}})
	if err != nil {
		return 0, err
	}
	username := p.username
	if username == "" {
		if username, err = objectID(token.Token); err != nil {
			return 0, err
		}
	}
	life := token.ExpiresOn.Sub(p.now())
	if life <= 0 {
		return 0, errors.New("the token has expired already")
	}
	p.publish(auth.NewBasicCredentials(username, token.Token), token.ExpiresOn)
	wait := life * 3 / 4
	return max(wait-rand.N(max(wait/10, 1)), time.Second), nil
}

// publish makes the credentials the current ones. Listeners are called without
// the lock: they re-authenticate connections, which may subscribe or
// unsubscribe.
func (p *entraProvider) publish(credentials auth.Credentials, expires time.Time) {
	p.mu.Lock()
	first := p.current == nil
	p.current, p.expires = credentials, expires
	listeners := make([]auth.CredentialsListener, 0, len(p.listeners))
	for l := range p.listeners {
		listeners = append(listeners, l)
	}
	p.mu.Unlock()
	if first {
		close(p.ready)
	}
	for _, l := range listeners {
		l.OnNext(credentials)
	}
}

// Subscribe implements auth.StreamingCredentialsProvider. It is called for each
// new connection.
func (p *entraProvider) Subscribe(listener auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	timer := time.NewTimer(entraFirstWait)
	defer timer.Stop()
	select {
	case <-p.ready:
	case <-p.done:
		return nil, nil, errors.New("entra: the connection is closed")
	case <-timer.C:
		return nil, nil, errors.New("entra: there is no token yet")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.now().Before(p.expires) {
		return nil, nil, errors.New("entra: the last token has expired and there is no new one yet")
	}
	p.listeners[listener] = struct{}{}
	unsubscribe := func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listeners, listener)
		return nil
	}
	return p.current, unsubscribe, nil
}

// Close ends the fetching.
func (p *entraProvider) Close() error {
	p.cancel()
	<-p.done
	return nil
}

// objectID reads the `oid` claim, which is the user name that Azure Managed
// Redis expects. The token is Redis' to verify, not ours.
func objectID(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is not a JWT: give the Redis user name in `entra { username … }`")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("the token's payload is not base64url")
	}
	var claims struct {
		OID string `json:"oid"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.OID == "" {
		return "", errors.New("the token has no oid claim: give the Redis user name in `entra { username … }`")
	}
	return claims.OID, nil
}

// Interface guard
var _ auth.StreamingCredentialsProvider = (*entraProvider)(nil)
