package jwtauth

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// vectors are C2SP/wycheproof's, read from beside the repository.
const vectors = "../../shared/vectors/wycheproof/"

// contradictory are the vectors that contradict themselves: 346, 347, 350 and
// 351 call a token valid whose algorithm is not its key's; 367 and 370 are
// invalid twins of 357; 372 and 373 are valid with a `?` in a segment.
var contradictory = []int{346, 347, 350, 351, 367, 370, 372, 373}

type group struct {
	Type            string
	Public, Private json.RawMessage
	Tests           []struct {
		TcID        int
		Comment     string
		JWS, Result string
	}
}

func groups(t *testing.T, file string) []group {
	t.Helper()
	data, err := os.ReadFile(vectors + file)
	if err != nil {
		t.Skipf("the Wycheproof vectors are not there: %v", err)
	}
	var document struct{ TestGroups []group }
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	return document.TestGroups
}

func TestWycheproofSignatures(t *testing.T) {
	ran := 0
	for _, g := range groups(t, "json_web_signature_test.json") {
		key := g.Public
		if key == nil {
			key = g.Private
		}
		set, _, _ := keyset.ParseJWKS([]byte(`{"keys":[`+string(key)+`]}`), nil, g.Public == nil)
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
	if ran != 401-len(contradictory) {
		t.Errorf("%d vectors were run", ran)
	}
}

func TestWycheproofKeySets(t *testing.T) {
	ran := 0
	for _, g := range groups(t, "json_web_key_test.json") {
		keys := g.Public
		if keys == nil {
			keys = g.Private
		}
		set, _, _ := keyset.ParseJWKS(keys, nil, g.Public == nil)
		for _, tc := range g.Tests {
			ran++
			if valid := verifies(set, tc.JWS); valid != (tc.Result == "valid") {
				t.Errorf("%d %s: got valid %v, want %s", tc.TcID, tc.Comment, valid, tc.Result)
			}
		}
	}
	if ran != 26 {
		t.Errorf("%d vectors were run", ran)
	}
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
