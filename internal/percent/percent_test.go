package percent

import "testing"

func TestDecode(t *testing.T) {
	for text, want := range map[string]byte{"%2f": '/', "%2Frest": '/', "%00": 0, "%fF": 0xff} {
		if c, ok := Decode(text); !ok || c != want {
			t.Errorf("%q: %q, %v", text, c, ok)
		}
	}
	for _, text := range []string{"", "%", "%2", "%g0", "%0g", "2f", "a%2f", "%%2f"} {
		if c, ok := Decode(text); ok {
			t.Errorf("%q: %q", text, c)
		}
	}
}

func TestUnreserved(t *testing.T) {
	n := 0
	for c := range 256 {
		if Unreserved(byte(c)) {
			n++
		}
	}
	if n != 66 || !Unreserved('~') || Unreserved('/') {
		t.Errorf("%d characters", n)
	}
}
