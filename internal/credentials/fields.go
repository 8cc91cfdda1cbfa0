package credentials

import "strings"

// Fields are header fields in which credentials are commonly sent, beside
// Authorization, Proxy-Authorization and Cookie.
var Fields = []string{
	"Api-Key", "Apikey", "Cf-Access-Jwt-Assertion", "Client-Cert", "Dpop", "Job-Token", "Ocp-Apim-Subscription-Key", "Private-Token",
	"Signature", "X-Access-Key", "X-Access-Token", "X-Amz-Security-Token", "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Data", "X-Api-Key",
	"X-Api-Token", "X-Apikey", "X-Auth-Key", "X-Auth-Request-Access-Token", "X-Auth-Token", "X-Authorization", "X-Client-Cert",
	"X-Csrf-Token", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert", "X-Functions-Key", "X-Goog-Api-Key", "X-Goog-Iap-Jwt-Assertion",
	"X-Ms-Client-Principal", "X-Session-Id", "X-Session-Token", "X-Shopify-Access-Token", "X-Ssl-Client-Cert", "X-Token", "X-Vault-Token",
	"X-Xsrf-Token",
}

// Parameters are the query parameters in which credentials are commonly sent, in lower
// case.
var Parameters = []string{
	"access_token", "api-key", "api_key", "apikey", "assertion", "auth", "authorization", "bearer", "client_assertion", "client_secret", "code",
	"id_token", "jwt", "key", "passwd", "password", "refresh_token", "sas", "secret", "session", "sig", "signature", "subscription-key", "ticket",
	"token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-api-key",
}

// UserFields are header fields in which a proxy in front names the user. They are
// no secret.
var UserFields = []string{
	"Cf-Access-Client-Id", "Remote-Email", "Remote-User", "X-Amzn-Oidc-Identity", "X-Auth-Request-Email", "X-Auth-Request-User",
	"X-Authenticated-User", "X-Authentik-Username", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-User", "X-Goog-Authenticated-User-Email",
	"X-Goog-Authenticated-User-Id", "X-Ms-Client-Principal-Id", "X-Remote-User", "X-Ssl-Client-Verify", "X-User", "X-User-Id", "X-Webauth-User",
}

// IsName reports whether a request field, by its canonical name, most likely holds
// credentials: the last word of the name says so, as in Circle-Token or X-Acme-Api-Key.
func IsName(name string) bool {
	switch name[strings.LastIndexByte(name, '-')+1:] {
	case "Apikey", "Key", "Password", "Secret", "Session", "Signature", "Token":
		return !strings.HasPrefix(name, "Sec-") && !strings.HasPrefix(name, "Accept-") && !strings.HasSuffix(name, "Idempotency-Key")
	}
	return false
}
