package jwtauth

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// oidcVersion is the version of the npm package oidc-provider.
const oidcVersion = "9.13.3"

// oidc is a real OpenID provider in a process of its own.
type oidc struct {
	t    *testing.T
	dir  string
	port string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// installOIDC installs the package where tests of later runs find it.
func installOIDC(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not there: the test against a real OpenID provider needs it", name)
		}
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = t.TempDir()
	}
	dir := filepath.Join(base, "tentagate-tests", "oidc-provider-"+oidcVersion)
	if _, err := os.Stat(filepath.Join(dir, "installed")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "oidc-provider@"+oidcVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("oidc-provider cannot be installed: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "installed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (o *oidc) start() {
	o.t.Helper()
	script, err := filepath.Abs("testdata/oidc/provider.mjs")
	if err != nil {
		o.t.Fatal(err)
	}
	o.cmd = exec.Command("node", script, o.port)
	o.cmd.Dir = o.dir
	o.cmd.Stderr = io.Discard
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		o.t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.out = bufio.NewScanner(out)
	o.port = strings.TrimPrefix(o.line("ready "), "ready ")
}

// line returns the next line that begins so; other lines are the package's.
func (o *oidc) line(prefix string) string {
	o.t.Helper()
	for o.out.Scan() {
		if strings.HasPrefix(o.out.Text(), prefix) {
			return o.out.Text()
		}
	}
	o.t.Fatalf("the provider ended before %q", prefix)
	return ""
}

func (o *oidc) send(command string) {
	o.t.Helper()
	fmt.Fprintln(o.in, command)
	o.line("done ")
}

func (o *oidc) stop() {
	if o.cmd != nil {
		o.in.Close()
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
		o.cmd = nil
	}
}

func (o *oidc) issuer() string { return "http://127.0.0.1:" + o.port }

// token asks for an access token by client credentials.
func (o *oidc) token() string {
	o.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"orders:read"}}
	req, _ := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.issuer()+"/token", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("service", "service-secret-of-the-tests")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	body, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(body, &answer); err != nil || strings.Count(answer.AccessToken, ".") != 2 {
		o.t.Fatalf("no JWT from the provider: %d %s", resp.StatusCode, body)
	}
	return answer.AccessToken
}

func TestRealOpenIDProvider(t *testing.T) {
	dir := installOIDC(t)
	// The same rules in less time. Waits stay as they are, for slow machines.
	before := timing
	timing.Cooldown, timing.Refresh, timing.Least = time.Second, 2*time.Second, 2*time.Second
	timing.Wait, timing.Timeout = 10*time.Second, 10*time.Second
	t.Cleanup(func() { timing = before })

	o := &oidc{t: t, dir: dir, port: "0"}
	o.start()
	defer func() { o.stop() }()

	for name, options := range map[string]string{"with the cache": "", "without a cache": "\n token_cache off"} {
		h := must(t, "jwt_auth {\n discovery "+o.issuer()+"\n audience https://api.test\n scopes all orders:read"+options+"\n}")
		source := h.providers[0].source.(*keyset.Remote)
		tokens := []string{o.token()}
		if got := send(t, h, tokens[0]); got != 200 {
			t.Fatalf("%s: the first token: %d", name, got)
		}
		if got := send(t, h, tokens[0][:len(tokens[0])-8]+"AAAAAAAA"); got != 401 {
			t.Errorf("%s: a forged token: %d", name, got)
		}
		if got := send(t, must(t, "jwt_auth {\n discovery "+o.issuer()+"\n audience https://other.test\n}"), tokens[0]); got != 401 {
			t.Errorf("%s: a token for another: %d", name, got)
		}

		// Traffic with every token so far, whatever happens to the provider.
		var mu sync.Mutex
		var good, wrong atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					mu.Lock()
					text := tokens[i%len(tokens)]
					mu.Unlock()
					if send(t, h, text) == 200 {
						good.Add(1)
					} else {
						wrong.Add(1)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		// Rotations, each key published before its first token is used.
		for range 3 {
			set := source.Keys()
			o.send("rotate")
			testkit.Eventually(t, "the new key is fetched", func() bool { return source.Keys() != set })
			mu.Lock()
			tokens = append(tokens, o.token())
			mu.Unlock()
			n := good.Load()
			testkit.Eventually(t, "traffic", func() bool { return good.Load() > n+200 })
		}
		if wrong.Load() > 0 {
			t.Errorf("%s: %d wrong answers of %d while keys rotated", name, wrong.Load(), wrong.Load()+good.Load())
		}
		// Down for longer than the refresh: several fail.
		failed := refreshes.WithLabelValues(mainProvider, "error")
		errors := testutil.ToFloat64(failed)
		o.stop()
		testkit.Eventually(t, "three refreshes fail", func() bool { return testutil.ToFloat64(failed) >= errors+3 })
		if age := source.Age(); age < timing.Refresh {
			t.Errorf("%s: the age of the keys is %s", name, age)
		}
		if wrong.Load() > 0 {
			t.Errorf("%s: %d wrong answers while the provider was down", name, wrong.Load())
		}
		close(stop)
		wg.Wait()
		// Back, with new keys: the old tokens end, the new ones pass.
		set := source.Keys()
		o.start()
		testkit.Eventually(t, "the keys of the provider that is back", func() bool { return source.Keys() != set })
		if got := send(t, h, o.token()); got != 200 {
			t.Errorf("%s: a token of the provider that is back: %d", name, got)
		}
		for _, text := range tokens {
			if got := send(t, h, text); got != 401 {
				t.Errorf("%s: a token of a key that is gone: %d", name, got)
			}
		}
		t.Logf("%s: %d right answers", name, good.Load())
	}
}
