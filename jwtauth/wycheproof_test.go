package jwtauth

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/jwtauth/keyset"
	"github.com/pythopus/tentagate/jwtauth/token"
)

// vectors are C2SP/wycheproof's, read from beside the repository.
const vectors = "../../shared/vectors/wycheproof/json_web_signature_test.json"

// contradictory are the vectors that contradict themselves: 346, 347, 350 and
// 351 call a token valid whose algorithm is not its key's; 367 and 370 are
// invalid twins of 357; 372 and 373 are valid with a `?` in a segment.
var contradictory = []int{346, 347, 350, 351, 367, 370, 372, 373}

func TestWycheproof(t *testing.T) {
	data, err := os.ReadFile(vectors)
	if err != nil {
		t.Skipf("the Wycheproof vectors are not there: %v", err)
	}
	var document struct {
		TestGroups []struct {
			Public, Private json.RawMessage
			Tests           []struct {
				TcID        int
				Comment     string
				JWS, Result string
			}
		}
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, g := range document.TestGroups {
		set := keysOf(t, g.Public, g.Private)
		for _, tc := range g.Tests {
			if slices.Contains(contradictory, tc.TcID) {
				continue
			}
			ran++
			if valid := verifies(set, tc.JWS); valid != (tc.Result == "valid") {
				t.Errorf("%d %s: got valid %v, want %s", tc.TcID, tc.Comment, valid, tc.Result)
			}
		}
	}
	if ran < 390 {
		t.Errorf("only %d vectors", ran)
	}
}

// keysOf makes a set of the group's public key, or of its secret.
func keysOf(t *testing.T, public, private json.RawMessage) *keyset.Set {
	t.Helper()
	if public != nil {
		set, _, _ := keyset.ParseJWKS([]byte(`{"keys":[`+string(public)+`]}`), nil)
		return set // nil if the key itself is refused
	}
	var oct struct {
		K, Alg, Use string
		KeyOps      []string `json:"key_ops"`
	}
	if err := json.Unmarshal(private, &oct); err != nil {
		t.Fatal(err)
	}
	if oct.Use != "" && oct.Use != "sig" || oct.KeyOps != nil && !slices.Contains(oct.KeyOps, "verify") {
		return nil
	}
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(oct.K, "="))
	if err != nil {
		return nil
	}
	set, _ := keyset.Secrets([][]byte{secret}, []string{oct.Alg})
	return set
}

func verifies(set *keyset.Set, text string) bool {
	tok, err := token.Parse(text)
	if err != nil {
		return false
	}
	keys, _ := set.Find(tok.KeyID, tok.Algorithm)
	for _, k := range keys {
		if tok.Verify(tok.Algorithm, k.Value) == nil {
			return true
		}
	}
	return false
}
