package credentials

import "testing"

func TestShown(t *testing.T) {
	for address, want := range map[string]string{
		"https://idp.example/keys":                               "https://idp.example/keys",
		"https://idp.example/keys?p=b2c_1_sign_in":               "https://idp.example/keys?p=b2c_1_sign_in",
		"https://s.example/keys.json?sv=1&Sig=abc%2F&se=2":       "https://s.example/keys.json?sv=1&Sig=REDACTED&se=2",
		"https://s.example/keys?api%5Fkey=abc":                   "https://s.example/keys?api%5Fkey=REDACTED",
		"https://user:abc@s.example/keys?code=abc#access_token=": "https://REDACTED@s.example/keys?code=REDACTED#access_token=REDACTED",
		"https://s.example/keys?sig":                             "https://s.example/keys?sig",
	} {
		if got := Shown(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
