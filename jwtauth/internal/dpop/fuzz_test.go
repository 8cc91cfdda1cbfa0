package dpop

import (
	"errors"
	"strings"
	"testing"
)

// FuzzProof: what is not signed by the key is never accepted, and every refusal
// has one of the three reasons.
func FuzzProof(f *testing.F) {
	h := newHolder(f, "ES256")
	good := h.sign(f, h.header(), claims())
	f.Add(good)
	for part := range strings.SplitSeq(good, ".") {
		f.Add(part)
		f.Add("e30." + part + "." + part)
	}
	f.Add(h.sign(f, `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`, `{}`))
	f.Add(h.sign(f, `{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"AA"}}`, `{}`))
	f.Fuzz(func(t *testing.T, proof string) {
		r := rules()
		err := r.Check(t.Context(), proof, h.request(), now)
		if err == nil && proof != good {
			t.Errorf("accepted: %q", proof)
		}
		if err != nil && !errors.Is(err, ErrProof) && !errors.Is(err, ErrKey) && !errors.Is(err, ErrNonce) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzTarget: what is in the one form stays in it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"https://a.test", "http://a:80/b/../%7e?c#d", "https://[::1]:443//%2F/./", "HTTP://A:/%25%2e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		once, err := Target(address)
		if err != nil {
			return
		}
		if twice, err := Target(once); err != nil || twice != once {
			t.Errorf("%q: %q, then %q, %v", address, once, twice, err)
		}
	})
}
