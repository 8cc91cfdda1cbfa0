package credentials

import "strings"

// users are how the names of fields begin in which a proxy in front says who the user is,
// and what else it knows of the user.
var users = []string{
	"Cf-Access-", "Impersonate-", "Oidc-", "Remote-Email", "Remote-Groups", "Remote-Name", "Tailscale-User-", "X-Amzn-Oidc-", "X-Auth-Email", "X-Auth-Request-",
	"X-Authenticated-", "X-Authentik-", "X-Consumer-", "X-Credential-", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Hasura-", "X-Jwt-", "X-Ms-Client-Principal",
	"X-Pomerium-", "X-Remote-Extra-", "X-Remote-Group", "X-Vouch-", "X-Webauth-",
}

// NamesUser reports whether a request field most likely names its user, as proxies in front
// do: X-Auth-Request-Email, or by its last words X-Forwarded-User and X-User-Id. It is no
// secret. The name is as fieldname.Hyphenated returns it.
func NamesUser(name string) bool {
	if strings.HasPrefix(name, "Sec-") { // a browser's own, as Sec-Fetch-User
		return false
	}
	at := strings.LastIndexByte(name, '-')
	switch name[at+1:] {
	case "User", "Username", "Userid", "Userinfo", "Assertion", "Principal":
		return true
	case "Id", "Uid", "Name", "Email", "Login", "Group", "Groups", "Role", "Roles":
		switch before := name[:max(at, 0)]; before[strings.LastIndexByte(before, '-')+1:] {
		case "User", "Principal":
			return true
		}
	}
	if name == "" {
		return false
	}
	switch name[0] {
	case 'C', 'I', 'O', 'R', 'T', 'X':
		for _, prefix := range users {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}
