package proxyfields

import "testing"

func TestKinds(t *testing.T) {
	for name, want := range map[string]Kind{
		"X-Http-Method-Override": Override, "X-Original-Url": Override,
		"Forwarded": Asked, "X-Forwarded-Host": Asked, "X-Forwarded-Anything": Asked, "X-Original-Host": Asked, "Front-End-Https": Asked,
		"X-Forwarded-For": Client, "X-Real-Ip": Client, "Cf-Connecting-Ip": Client, "True-Client-Ip": Client,
		"Ssl-Client-Verify": Certificate, "Ssl-Client-Subject-Dn": Certificate, "X-Ssl-Client-S-Dn": Certificate, "X-Tls-Client-Cert": Certificate, "X-Client-Cert-Dn": Certificate,
		"X-Client-Verify": Certificate, "X-Client-Dn": Certificate, "X-Arr-Clientcert": Certificate, "X-Amzn-Mtls-Clientcert-Subject": Certificate, "Cf-Cert-Subject-Dn": Certificate, "Client-Cert": Certificate, "X-Ssl-Cert": Certificate, "Sslclientcertb64": Certificate, "Client-Cert-Chain": Certificate,
		"Cf-Visitor": Asked, "X-Forwarded-By": Other, "X-Original-Path": Asked, "X-Original-Scheme": Asked, "X-Original-Forwarded-Host": Asked, "X-Original-Remote-User": Asked,
		"X-Original-Forwarded-For": Client, "X-Original-Remote-Addr": Client, "X-Original-Client-Ip": Client, "X-Original-Ip": Client, "X-Client-Address": Client, "X-Peer-Addr": Client,
		"X-Original-Filename": None, "X-Original-Name": None, "X-User-Address": None, "X-From-Address": None, "X-Source-Address": None, "X-User-Ip": Client, "X-From-Ip": Client,
		"X-Envoy-Original-Host": Asked, "X-Envoy-Original-Path": Asked, "X-Forward-Host": Asked, "X-Forward-Proto": Asked, "X-Arr-Ssl": Asked, "X-Forward-For": Client,
		"X-Arr-Log-Id": Other, "X-Envoy-Attempt-Count": Other, "X-Client-Id": None,
		"X_forwarded_host": Asked, "X.real.ip": Client, "X~Http~Method~Override": Override, "Ssl_client_verify": Certificate, "X_tenant": None,
		"": None, "X-Tenant": None, "Accept": None, "Cookie": None, "From": None, "Te": None, "X-Request-Id": None,
	} {
		if got := Of(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	for _, name := range Changing() {
		if kind := Of(name); kind != Override && kind != Asked {
			t.Errorf("%s: %d", name, kind)
		}
	}
}
