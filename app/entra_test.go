package app

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"go.uber.org/zap"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// fakeCredential gives numbered tokens, the first with another life than the later ones,
// or fails while it is down.
type fakeCredential struct {
	mu    sync.Mutex
	down  bool
	n     int
	life  time.Duration
	later time.Duration
	calls chan struct{}
}

func (f *fakeCredential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		select {
		case f.calls <- struct{}{}:
		default:
		}
	}()
	if f.down {
		return azcore.AccessToken{}, errors.New("the token endpoint is down")
	}
	if len(o.Scopes) != 1 || o.Scopes[0] != entraScope {
		return azcore.AccessToken{}, fmt.Errorf("scopes %v", o.Scopes)
	}
	life := f.life
	if f.n++; f.n > 1 {
		life = f.later
	}
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"oid":"the-object-id"}`))
	return azcore.AccessToken{Token: fmt.Sprintf("h.%s.s%d", payload, f.n), ExpiresOn: time.Now().Add(life)}, nil
}

type listener struct{ got chan string }

func (l *listener) OnNext(c auth.Credentials) {
	_, token := c.BasicAuth()
	l.got <- token
}
func (*listener) OnError(error) {}

func TestEntraToken(t *testing.T) {
	synctest.Test(t, testEntraToken)
}

func testEntraToken(t *testing.T) {
	f := &fakeCredential{life: 2 * time.Second, later: 2 * time.Second, calls: make(chan struct{}, 1)}
	p := startEntraProvider(f, entraScope, "", zap.NewNop())
	defer p.Close()

	l := &listener{got: make(chan string, 10)}
	first, unsubscribe, err := p.Subscribe(l)
	if err != nil {
		t.Fatal(err)
	}
	if user, token := first.BasicAuth(); user != "the-object-id" || !strings.HasSuffix(token, ".s1") {
		t.Errorf("got %q with token %q", user, token)
	}
	// The same listener again is one subscription.
	if _, _, err := p.Subscribe(l); err != nil || len(p.listeners) != 1 {
		t.Errorf("%d listeners, %v", len(p.listeners), err)
	}
	if second := <-l.got; !strings.HasSuffix(second, ".s2") {
		t.Errorf("refreshed token %q", second)
	}
	once, again := unsubscribe(), unsubscribe()
	if once != nil || again != nil || len(p.listeners) != 0 {
		t.Error("unsubscribing twice is not one unsubscription")
	}
}

// A token endpoint that is down delays the connection, never the start, and
// the provider gets over it by itself, with or without subscribers.
func TestEntraEndpointDown(t *testing.T) {
	f := &fakeCredential{life: time.Hour, down: true, calls: make(chan struct{}, 1)}
	p := startEntraProvider(f, entraScope, "", zap.NewNop())
	defer p.Close()
	<-f.calls
	if _, _, err := p.Subscribe(&listener{}); err == nil {
		t.Fatal("there was a token while the endpoint was down")
	}
	f.mu.Lock()
	f.down = false
	f.mu.Unlock()
	testkit.Eventually(t, "the token after the return", func() bool {
		_, unsubscribe, err := p.Subscribe(&listener{})
		if err != nil {
			return false
		}
		return unsubscribe() == nil
	})
}

func TestEntraExpired(t *testing.T) {
	p := &entraProvider{ready: make(chan struct{}), done: make(chan struct{}), listeners: map[auth.CredentialsListener]struct{}{}, now: time.Now}
	p.publish(auth.NewBasicCredentials("u", "t"), time.Now().Add(-time.Second))
	if _, _, err := p.Subscribe(&listener{}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

// Open connections of a real server sign in again with the new token.
func TestEntraReauthenticates(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"oid":"the-object-id"}`))
	for i := 1; i <= 2; i++ {
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "the-object-id", "on", fmt.Sprintf(">h.%s.s%d", payload, i), "~*", "+@all", "allchannels").Err(); err != nil {
			t.Fatal(err)
		}
	}
	f := &fakeCredential{life: 3 * time.Second, later: time.Hour, calls: make(chan struct{}, 2)}
	p := startEntraProvider(f, entraScope, "", zap.NewNop())
	defer p.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), StreamingCredentialsProvider: p, PoolSize: 1})
	defer client.Close()
	if user, err := client.Do(t.Context(), "ACL", "WHOAMI").Text(); err != nil || user != "the-object-id" {
		t.Fatalf("signed in as %q, %v", user, err)
	}
	<-f.calls
	<-f.calls // the refresh
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after the new token: %v", err)
	}
}

func TestObjectID(t *testing.T) {
	for _, token := range []string{"", "a.b", "a.!.c", "a." + base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + ".c", "a." + base64.RawURLEncoding.EncodeToString([]byte(`{"oid":7}`)) + ".c"} {
		if id, err := objectID(token); err == nil {
			t.Errorf("%q: got %q", token, id)
		}
	}
}
