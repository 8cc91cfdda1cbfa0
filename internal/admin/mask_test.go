package admin

import (
	"encoding/json"
	"strings"
	"testing"
)

// What may be a secret is masked; what only says where one is, and what is harmless, is
// not.
func TestMasked(t *testing.T) {
	for text, want := range map[string]string{
		`{"secrets":["s3cret"]}`: `{"secrets":["*****"]}`,

		`{"secrets":["{env.JWT_SECRET}","{file./run/secrets/jwt}"]}`:                                                   `{"secrets":["{env.JWT_SECRET}","{file./run/secrets/jwt}"]}`,
		`{"secrets":["{env.A}s3cret"]}`:                                                                                `{"secrets":["*****"]}`,
		`{"nonce_secrets":["s3cret"],"password":"s3cret","api_token":"s3cret"}`:                                        `{"api_token":"*****","nonce_secrets":["*****"],"password":"*****"}`,
		`{"keys":["s3cret"],"hash_salt":"s3cret","mac_key":"s3cret","key":"s3cret"}`:                                   `{"hash_salt":"*****","key":"*****","keys":["*****"],"mac_key":"*****"}`,
		`{"key":{"headers":["Accept"]},"keys":3,"max_keys":5}`:                                                         `{"key":{"headers":["Accept"]},"keys":3,"max_keys":5}`,
		`{"request":{"set":{"Authorization":["Bearer s3cret"],"X-Api-Key":["s3cret"],"X-Forwarded-Prefix":["/api"]}}}`: `{"request":{"set":{"Authorization":["*****"],"X-Api-Key":["*****"],"X-Forwarded-Prefix":["/api"]}}}`,
		`{"headers":{"request":{"add":{"X-Origin-Verify":["s3cret"]},"replace":{"X-A":[{"search":"a","replace":"s3cret"}]}},"response":{"set":{"X-Plain":["shown"]}}}}`:                                `{"headers":{"request":{"add":{"X-Origin-Verify":["*****"]},"replace":{"X-A":[{"replace":"*****","search":"*****"}]}},"response":{"set":{"X-Plain":["shown"]}}}}`,
		`{"match":[{"header":{"X-From":["s3cret"],"Accept":["a/b"]},"not":[{"query":{"t":["s3cret"]},"vars":{"{http.vars.a}":["s3cret"]}}],"header_regexp":{"X-A":{"name":"a","pattern":"s3cret"}}}]}`: `{"match":[{"header":{"Accept":["a/b"],"X-From":["*****"]},"header_regexp":{"X-A":{"name":"*****","pattern":"*****"}},"not":[{"query":{"t":["*****"]},"vars":{"{http.vars.a}":["*****"]}}]}]}`,
		`{"header":"X-User","query":["q"],"set":{"X-Plain":["shown"]}}`:                                 `{"header":"X-User","query":["q"],"set":{"X-Plain":["shown"]}}`,
		`{"client_secret":{"value":"s3cret"}}`:                                                          `{"client_secret":{"value":"*****"}}`,
		`{"name":"X-Api-Key","value":"s3cret"}`:                                                         `{"name":"X-Api-Key","value":"*****"}`,
		`{"address":"redis://user:s3cret@redis:6379/0"}`:                                                `{"address":"redis://*****@redis:6379/0"}`,
		`{"url":"https://h/p?access_token=s3cret&page=2&key=s3cret"}`:                                   `{"url":"https://h/p?access_token=*****&page=2&key=*****"}`,
		`{"spec":"https://h/p?sv=1&sig=s3cret&SAS=s3cret&code=s3cret&jwt=s3cret&ticket=s3cret"}`:        `{"spec":"https://h/p?sv=1&sig=*****&SAS=*****&code=*****&jwt=*****&ticket=*****"}`,
		`{"expr":"{http.request.header.X} == 's3cret' || a == \"s3cret\""}`:                             `{"expr":"{http.request.header.X} == '*****' || a == '*****'"}`,
		`{"value":"Bearer s3cret"}`:                                                                     `{"value":"Bearer *****"}`,
		`{"certificate":"-----BEGIN EC PRIVATE KEY-----\ns3cret"}`:                                      `{"certificate":"*****"}`,
		`{"token_file":"/run/token","public_keys":["-----BEGIN PUBLIC KEY-----"],"missing_key":"skip"}`: `{"missing_key":"skip","public_keys":["-----BEGIN PUBLIC KEY-----"],"token_file":"/run/token"}`,
		`{"password":""}`: `{"password":""}`,
		`{"handler":"map","source":"{path}","destinations":["{plan}","{api_key}"],"mappings":[{"input":"/a","outputs":["s3cret","s3cret"]}],"defaults":["s3cret"]}`: `{"defaults":["*****"],"destinations":["{plan}","{api_key}"],"handler":"map","mappings":[{"input":"*****","outputs":["*****","*****"]}],"source":"{path}"}`,
		`{"handler":"map","destinations":["{plan}"],"mappings":[{"outputs":["gold"]}],"defaults":["free"]}`:                                                         `{"defaults":["free"],"destinations":["{plan}"],"handler":"map","mappings":[{"outputs":["gold"]}]}`,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(text, err)
		}
		got := new(strings.Builder)
		enc := json.NewEncoder(got)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(masked(v)); err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(got.String()) != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}
