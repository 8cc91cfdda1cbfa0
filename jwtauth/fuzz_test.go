package jwtauth

import (
	"strings"
	"testing"
	"time"
)

// FuzzRevocation sends any body: what is accepted names one thing to revoke, in
// one way of reading.
func FuzzRevocation(f *testing.F) {
	for _, s := range []string{
		`{"jti":"a","provider":"main"}`, `{"sub":"a","issuer":"i","before":"2026-01-01T00:00:00Z","ttl":"48h"}`, `{"sub":"a"}{}`, `{"SUB":"a"}`,
		`{"id":"` + strings.Repeat("0", 64) + `"}`, `{"sub":"a","sub":"b"}`, `[]`, `{"sub":1}`, `{"sub":"a","ttl":-1}`, `{"sub":"a","ttl":1e99}`, `{"sub":"a","before":"9999-12-31T23:59:59Z"}`,
	} {
		f.Add([]byte(s))
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := parseRevocation(data)
		if err != nil {
			return
		}
		id, idErr := q.id(now)
		e, err := q.entry(now, time.Hour)
		if err != nil {
			if idErr == nil && q.ID == "" {
				t.Fatalf("%q is restored but not revoked", data)
			}
			return
		}
		if id != e.ID || (q.JTI == "") == (q.Subject == "") || !e.Expires.After(now) || e.Expires.After(now.Add(maxRevocation)) {
			t.Fatalf("%q is %+v until %s", data, q, e.Expires)
		}
	})
}
