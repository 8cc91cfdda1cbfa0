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
	"id_token", "jwt", "key", "otp", "passcode", "passphrase", "passwd", "password", "pwd", "refresh_token", "sas", "secret", "session", "session_id", "sid", "sig",
	"signature", "subscription-key", "ticket", "token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-api-key",
}

// IsName reports whether a request field most likely holds credentials: the last word of
// the name says so, as in Circle-Token, X-Acme-Api-Key or AccessToken. A number behind
// it, as in X-Hub-Signature-256, is no word. Authorization itself has rules of its own.
// The name is as fieldname.Hyphenated returns it.
func IsName(name string) bool {
	if name == "Authorization" || strings.HasPrefix(name, "Sec-") || strings.HasPrefix(name, "Accept-") || strings.HasSuffix(name, "Idempotency-Key") {
		return false
	}
	rest, word := name, ""
	for word == "" && rest != "" {
		at := len(rest) - 1
		for at >= 0 && rest[at] != '-' {
			at--
		}
		word = strings.TrimLeft(rest[at+1:], "0123456789")
		rest = rest[:max(at, 0)]
	}
	if word == "" {
		return false
	}
	switch word {
	case "Id": // Session-Id
		return strings.HasSuffix(rest, "Session")
	case "Auth", "Key", "Otp", "Pin", "Sid":
		return true
	}
	for _, end := range endsBy[word[len(word)-1]] {
		if n := len(word) - len(end); n == 0 && strings.EqualFold(word, end) || n > 0 && word[n:] == end {
			return true
		}
	}
	return false
}

// ends are how words end that stand for credentials, also if another word is in front
// without a hyphen.
var ends = []string{
	"accesskey", "apikey", "authentication", "authkey", "authorization", "bearer", "credential", "credentials", "jwt", "passcode", "passphrase",
	"passwd", "password", "privatekey", "secret", "secretkey", "session", "sessionid", "signature", "token",
}

// endsBy are the ends by their last byte.
var endsBy = func() (by [256][]string) {
	for _, end := range ends {
		last := end[len(end)-1]
		by[last] = append(by[last], end)
	}
	return by
}()

// IsParameterName reports whether a query parameter, by its name in lower case, is one of
// Parameters, however its words are separated, as in accessToken.
func IsParameterName(name string) bool {
	for _, known := range Parameters {
		if sameWords(name, known) {
			return true
		}
	}
	return false
}

// sameWords reports whether two texts are equal but for hyphens, underscores and dots.
func sameWords(a, b string) bool {
	for {
		a, b = strings.TrimLeft(a, "-_."), strings.TrimLeft(b, "-_.")
		if a == "" || b == "" {
			return a == b
		}
		if a[0] != b[0] {
			return false
		}
		a, b = a[1:], b[1:]
	}
}
