package credentials

import "testing"

func TestNamesUser(t *testing.T) {
	for name, want := range map[string]bool{
		"X-User": true, "X-User-Id": true, "X-Auth-User": true, "X-Auth-Username": true, "X-Forwarded-User": true, "X-Forwarded-Preferred-Username": true, "Sm-User": true, "X-Current-User": true,
		"X-Goog-Authenticated-User-Email": true, "X-Userinfo": true, "X-Apigateway-Api-Userinfo": true, "Teleport-Jwt-Assertion": true, "X-Ms-Client-Principal-Name": true, "X-User-Roles": true,
		"Remote-Name": true, "Remote-Groups": true, "X-Remote-Group": true, "X-Authentik-Uid": true, "X-Pomerium-Claim-Email": true, "Tailscale-User-Login": true, "X-Hasura-Role": true,
		"Cf-Access-Authenticated-User-Email": true, "Oidc-Claim-Sub": true, "X-Amzn-Oidc-Identity": true, "X-Consumer-Groups": true, "Impersonate-Uid": true, "X-Webauth-Email": true,
		"": false, "-": false, "User-Agent": false, "X-User-Agent": false, "X-User-Ip": false, "X-User-Country": false, "Remote-Addr": false, "X-Remote-Addr": false, "X-Request-Id": false,
		"X-Client-Id": false, "X-Tenant-Id": false, "X-Role": false, "X-Name": false, "From": false, "Id": false, "X-Super": false, "Sec-Fetch-User": false,
	} {
		if NamesUser(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}
