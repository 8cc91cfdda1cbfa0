package credentials

// Fields are header fields in which credentials are commonly sent, beside
// Authorization, Proxy-Authorization and Cookie.
var Fields = []string{
	"Api-Key", "Apikey", "Cf-Access-Jwt-Assertion", "Client-Cert", "Dpop", "Job-Token", "Ocp-Apim-Subscription-Key", "Private-Token",
	"X-Access-Key", "X-Access-Token", "X-Amz-Security-Token", "X-Api-Key", "X-Api-Token", "X-Apikey", "X-Auth-Key",
	"X-Auth-Request-Access-Token", "X-Auth-Token", "X-Authorization", "X-Client-Cert", "X-Csrf-Token", "X-Forwarded-Access-Token",
	"X-Forwarded-Client-Cert", "X-Functions-Key", "X-Goog-Api-Key", "X-Goog-Iap-Jwt-Assertion", "X-Ms-Client-Principal",
	"X-Session-Id", "X-Session-Token", "X-Shopify-Access-Token", "X-Ssl-Client-Cert", "X-Token", "X-Vault-Token", "X-Xsrf-Token",
}

// UserFields are header fields in which a proxy in front names the user. They are
// no secret.
var UserFields = []string{
	"Cf-Access-Client-Id", "Remote-User", "X-Auth-Request-Email", "X-Auth-Request-User", "X-Forwarded-Email", "X-Forwarded-User",
	"X-Ms-Client-Principal-Id", "X-Remote-User", "X-Ssl-Client-Verify", "X-User", "X-User-Id",
}
