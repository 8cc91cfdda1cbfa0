package credentials

import "testing"

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"Circle-Token": true, "X-Acme-Api-Key": true, "Token": true, "X-Nuget-Apikey": true, "X-Client-Secret": true, "X-Login-Session": true,
		"": false, "Accept": false, "Accept-Signature": false, "X-Tokens": false, "X-Key-Id": false, "Sec-Websocket-Key": false, "Idempotency-Key": false, "X-Idempotency-Key": false,
	} {
		if IsName(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}
