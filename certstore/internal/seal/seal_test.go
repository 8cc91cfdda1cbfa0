package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

const (
	keyA = "3f0c9a51e7d24b86a1f05c7be93d6812f4a07716cc58e29b0d41a3fe65b7928c"
	keyB = "a81d64f0375ec29b6e0f417ad5938c2217be6904d3fa85c0129e7b4d6f83a05c"
)

func key(t testing.TB, text string) *Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseKey(t *testing.T) {
	raw, _ := hex.DecodeString(keyA)
	want := key(t, keyA).ID()
	for _, text := range []string{
		keyA, strings.ToUpper(keyA), " " + keyA + "\n", base64.StdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw) + "\r\n",
	} {
		if k, err := ParseKey(text); err != nil || k.ID() != want {
			t.Errorf("%q: got %v", text, err)
		}
	}
	const secret = "not!a!key"
	for text, want := range map[string]string{
		"": "has 0 bytes", secret: "neither hexadecimal nor base64", keyA[:32]: "has 24 bytes",
		base64.StdEncoding.EncodeToString(raw[:16]):                                  "has 16 bytes",
		strings.Repeat("00", KeySize):                                                "not random",
		base64.StdEncoding.EncodeToString([]byte(strings.Repeat("abcdefg", 5)[:32])): "not random",
	} {
		_, err := ParseKey(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestRing(t *testing.T) {
	for _, tc := range []struct {
		texts []string
		want  string
	}{
		{nil, "no key"},
		{[]string{keyA, "x"}, "key 2 of 2"},
		{[]string{keyA, keyB, strings.ToUpper(keyA)}, "key 3 of 3: it is the same as key 1"},
	} {
		if _, err := NewRing(tc.texts); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v", tc.texts, err)
		}
	}
	ring, err := NewRing([]string{keyA, keyB})
	if err != nil || len(ring.IDs()) != 2 || ring.Primary().ID() != ring.IDs()[0] {
		t.Errorf("got %v and %v", ring, err)
	}
}

func TestSealAndOpen(t *testing.T) {
	a, b := key(t, keyA), key(t, keyB)
	text := []byte("-----BEGIN PRIVATE KEY-----")
	sealed := a.Seal(text, "x")
	if got, err := a.Open(sealed, "x"); err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %q and %v", got, err)
	}
	if bytes.Contains(sealed, text[:8]) || bytes.Equal(sealed, a.Seal(text, "x")) {
		t.Error("the sealed text shows something")
	}
	if _, err := a.Open(sealed, "y"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("under another name: got %v", err)
	}
	if _, err := b.Open(sealed, "x"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with another key: got %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := a.Open(changed, "x"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d changed: got %v", i, err)
		}
	}
	if got, err := a.Open(a.Seal(nil, ""), ""); err != nil || len(got) != 0 {
		t.Errorf("empty: got %q and %v", got, err)
	}
}

func TestNames(t *testing.T) {
	a, b := key(t, keyA), key(t, keyB)
	if a.Name("v", "example.com") != key(t, keyA).Name("v", "example.com") {
		t.Error("a name is not the same each time")
	}
	seen := map[string]bool{}
	for _, name := range []string{
		a.Name("v", "example.com"), a.Name("d", "example.com"), b.Name("v", "example.com"), a.Name("v", "example.net"), a.Name("v", ""),
	} {
		if seen[name] || strings.Contains(name, "example") {
			t.Errorf("%s stands for two names, or shows one", name)
		}
		seen[name] = true
	}
}

func FuzzOpen(f *testing.F) {
	k := key(f, keyA)
	f.Add(k.Seal([]byte("text"), "name"), "name")
	f.Add([]byte{version}, "")
	f.Add([]byte{}, "x")
	f.Fuzz(func(t *testing.T, sealed []byte, name string) {
		text, err := k.Open(sealed, name)
		if err == nil && name != "name" && len(text) > 0 {
			t.Errorf("%q was opened under %q", sealed, name)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(keyA)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err == nil {
			if got, err := k.Open(k.Seal([]byte("x"), "n"), "n"); err != nil || string(got) != "x" {
				t.Errorf("got %q and %v", got, err)
			}
		}
	})
}
