package token

import (
	"testing"
	"time"
)

// Several issuers, and one for each tenant of Entra.
func TestIssuers(t *testing.T) {
	const tenant, other = "9188040d-6c67-4c5b-b112-36a304b66dad", "72f988bf-86f1-41af-91ab-2d7cd011db47"
	entra := "https://login.microsoftonline.com/{tenantid}/v2.0"
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		issuers  []string
		iss, tid any
		want     bool
	}{
		{nil, "https://a.test", nil, true},
		{nil, nil, nil, true},
		{[]string{"https://accounts.google.com", "accounts.google.com"}, "https://accounts.google.com", nil, true},
		{[]string{"https://accounts.google.com", "accounts.google.com"}, "accounts.google.com", nil, true},
		{[]string{"https://accounts.google.com", "accounts.google.com"}, "ccounts.google.com", nil, false},
		{[]string{"https://accounts.google.com", "accounts.google.com"}, "", nil, false},
		{[]string{"https://accounts.google.com", "accounts.google.com"}, nil, nil, false},
		{[]string{"a"}, 1.0, nil, false},
		{[]string{entra}, "https://login.microsoftonline.com/" + tenant + "/v2.0", tenant, true},
		{[]string{entra}, "https://login.microsoftonline.com/" + tenant + "/v2.0", other, false},
		{[]string{entra}, "https://login.microsoftonline.com/" + tenant + "/v2.0", nil, false},
		{[]string{entra}, "https://login.microsoftonline.com/" + tenant + "/v2.0", []any{tenant}, false},
		{[]string{entra}, "https://login.microsoftonline.com/" + tenant + "/v2.0/", tenant, false},
		{[]string{entra}, "https://evil.test/" + tenant + "/v2.0", tenant, false},
		{[]string{entra}, "https://login.microsoftonline.com/{tenantid}/v2.0", "{tenantid}", false},
		{[]string{entra}, "https://login.microsoftonline.com//v2.0", "", false},
		{[]string{entra}, "https://login.microsoftonline.com/x/v2.0", "x", false},
		{[]string{entra}, "https://login.microsoftonline.com/../../../../../../../../../../../x/v2.0", "../../../../../../../../../../../x", false},
		{[]string{"https://sts.windows.net/{tenantid}/", entra}, "https://sts.windows.net/" + other + "/", other, true},
		{[]string{"https://a.test", entra}, "https://a.test", nil, true},
	} {
		r := &Rules{Issuers: tc.issuers}
		claims := Claims{"exp": float64(now.Unix() + 60)}
		for name, value := range map[string]any{"iss": tc.iss, "tid": tc.tid} {
			if value != nil {
				claims[name] = value
			}
		}
		err := claims.Check(r, now)
		if (err == nil) != tc.want {
			t.Errorf("%q: iss %v, tid %v: %v", tc.issuers, tc.iss, tc.tid, err)
		}
		if selects, _ := r.Selects(claims.Text("iss")); err == nil && len(tc.issuers) > 0 && !selects {
			t.Errorf("%q does not select %v", tc.issuers, tc.iss)
		}
	}
}
