package integration

import (
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// A check that no request can reach is an error at load: it would be switched off.
func TestUnreachedChecks(t *testing.T) {
	const auth = "jwt_auth {$JWT_SECRET_KEY}\n"
	t.Setenv("JWT_SECRET_KEY", secret)
	for name, c := range map[string]struct {
		file string
		want string // in the error; "" loads
	}{
		"proxy before jwt_auth":   {":8000 {\nroute {\nreverse_proxy a:1\n" + auth + "}\n}", "jwt_auth: no request reaches it, so that it would check nothing: the reverse_proxy in front of it answers every request"},
		"files before a limit":    {"http://a.test {\nroute {\nfile_server\nratelimit 5/1m\n}\n}", "ratelimit: no request reaches it, so that it would check nothing: the file_server in front"},
		"a site that redirects":   {"http://a.test {\nratelimit 5/1m\nredir https://b.test\n}", ""},
		"maintenance":             {":8000 {\nroute {\nrespond closed 503\n" + auth + "reverse_proxy a:1\n}\n}", ""},
		"proxy before guard":      {":8000 {\nroute {\nreverse_proxy a:1\nguard\n}\n}", "guard: no request reaches it, so"},
		"in a block before it":    {":8000 {\nroute {\nroute {\nreverse_proxy a:1\n}\n" + auth + "}\n}", "jwt_auth: no request reaches it, so"},
		"the block of the check":  {":8000 {\nroute {\nreverse_proxy a:1\nroute {\n" + auth + "respond x\n}\n}\n}", "jwt_auth: no request reaches it, so"},
		"by the order":            {"{\norder jwt_auth after reverse_proxy\n}\n:8000 {\nreverse_proxy a:1\n" + auth + "}", "jwt_auth: no request reaches it, so"},
		"a matcher of the check":  {":8000 {\nroute {\nreverse_proxy a:1\njwt_auth /x {$JWT_SECRET_KEY}\n}\n}", "jwt_auth: no request reaches it, so"},
		"under one matcher":       {":8000 {\nroute {\n@a path /x\nreverse_proxy @a a:1\njwt_auth @a {$JWT_SECRET_KEY}\n}\n}", "jwt_auth: no request reaches it, so"},
		"an unset variable":       {":8000 {\n@a path {env.TG_UNSET_PATH}\njwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", `jwt_auth: no request reaches it: its matcher, or that of a block around it, matches none: path {env.TG_UNSET_PATH} = ""`},
		"an empty field":          {":8000 {\n@a not header X-Key {env.TG_UNSET}\njwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", "jwt_auth: the matcher header: {env.TG_UNSET} is empty, so that other requests match than should"},
		"a part of a path":        {":8000 {\njwt_auth /{env.TG_UNSET}/* {$JWT_SECRET_KEY}\nrespond x\n}", "jwt_auth: the matcher path: {env.TG_UNSET} is empty"},
		"an empty variable":       {":8000 {\n@a not vars {header.X-Key} {env.TG_UNSET}\nratelimit @a 5/1m\nrespond x\n}", "ratelimit: the matcher vars: {env.TG_UNSET} is empty"},
		"a public path":           {":8000 {\ntentagate {\nservice a http://a:1\njwt {$JWT_SECRET_KEY}\npublic /api/a/{env.TG_UNSET}*\n}\n}", "the matcher path: {env.TG_UNSET} is empty"},
		"a public parameter":      {":8000 {\n@a query k={env.TG_UNSET}\ntentagate {\nservice a http://a:1\njwt {$JWT_SECRET_KEY}\npublic @a\n}\n}", "the matcher query: {env.TG_UNSET} is empty"},
		"a block beside it":       {":8000 {\n@a header X-Key {env.TG_UNSET}\nhandle @a {\nreverse_proxy a:1\n}\nhandle {\n" + auth + "reverse_proxy a:1\n}\n}", "jwt_auth: the matcher header: {env.TG_UNSET} is empty"},
		"a variable with a value": {":8000 {\n@a not header X-Key {env.JWT_SECRET_KEY}\njwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"an expression":           {":8000 {\n@a expression `{env.TG_UNSET} != \"dev\"`\njwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"one empty host":          {":8000 {\n@a host a.test {env.TG_UNSET}\njwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"elsewhere":               {":8000 {\n@a header X-Key {env.TG_UNSET}\nrequest_header @a X-A b\n" + auth + "respond x\n}", ""},
		"a path without a slash":  {":8000 {\n@a path api/* b/*\nratelimit @a 5/1m\nrespond x\n}", "matches none: path api/* b/* (a path begins with / or *)"},
		"of a block around it":    {":8000 {\n@a host x.test:8000\nhandle @a {\nroute {\n" + auth + "respond x\n}\n}\n}", "matches none: host x.test:8000 (a host has a name, and no port)"},
		"a protocol":              {":8000 {\n@a protocol htps\nguard @a\nrespond x\n}", "matches none: protocol htps (accepted are grpc, https"},
		"one of several matches":  {":8000 {\n@a path api/* /b/*\n" + "jwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"a host of IPv6":          {":8000 {\n@a host ::1 [::1]\n" + "jwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"a value of the request":  {":8000 {\n@a path {header.X}\n" + "jwt_auth @a {$JWT_SECRET_KEY}\nrespond x\n}", ""},
		"default order":           {":8000 {\nreverse_proxy a:1\n" + auth + "ratelimit 5/1m\nguard\n}", ""},
		"a matcher of the answer": {":8000 {\nroute {\nreverse_proxy /x a:1\n" + auth + "respond x\n}\n}", ""},
		"forward_auth":            {":8000 {\nroute {\nforward_auth a:1 {\nuri /auth\n}\n" + auth + "reverse_proxy a:1\n}\n}", ""},
		"blocks side by side":     {":8000 {\nhandle /x {\nreverse_proxy a:1\n}\nhandle {\n" + auth + "reverse_proxy a:1\n}\n}", ""},
		"another site":            {"http://a.test {\nreverse_proxy a:1\n}\nhttp://b.test {\n" + auth + "reverse_proxy a:1\n}", ""},
	} {
		config, err := servertest.Adapt(c.file)
		if err == nil {
			_, err = servertest.LoadJSON(t, config)
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "at Caddyfile:")):
			t.Errorf("%s: got %v", name, err)
		}
	}
}
