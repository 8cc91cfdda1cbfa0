package credentials

import (
	"testing"

	"github.com/pythopus/tentagate/internal/fieldname"
)

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"Circle-Token": true, "X-Acme-Api-Key": true, "Token": true, "X-Nuget-Apikey": true, "X-Client-Secret": true, "X-Login-Session": true,
		"X-Auth": true, "X-Jwt": true, "X-Authentication": true, "Authentication": true, "Accesstoken": true, "X-Accesstoken": true, "X-Secretkey": true, "Session-Id": true,
		"Sessionid": true, "X-Bearer": true, "X-Credentials": true, "X-Otp": true, "X-Pin": true, "X-Sid": true, "X-Hub-Signature-256": true, "X.api.key": true, "Api_key": true, "X_api_key": true, "X~auth~token": true, "X_session_id": true, "Api_keys": false, "Accept_signature": false, "X.access.token": true,
		"Authorization": false, "X-Spin": false, "X-Inside": false, "X-Monkey": false, "X-Auth-Mode": false, "256": false, "-": false, "X-Request-Id": false, "X-Correlation-Id": false, "X-Tenant": false,
		"": false, "Accept": false, "Accept-Signature": false, "X-Tokens": false, "X-Key-Id": false, "Sec-Websocket-Key": false, "Idempotency-Key": false, "X-Idempotency-Key": false,
	} {
		if IsName(fieldname.Hyphenated(name)) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

func TestIsParameterName(t *testing.T) {
	for name, want := range map[string]bool{
		"access_token": true, "accesstoken": true, "access-token": true, "access.token": true, "apikey": true, "xapikey": true, "sid": true, "sessionid": true, "pwd": true,
		"": false, "_": false, "tokens": false, "page": false, "my_token": false, "keys": false, "side": false,
	} {
		if IsParameterName(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}
