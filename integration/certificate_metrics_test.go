package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// certificatesOfHosts has two hosts, and names for which any client gets a certificate.
const certificatesOfHosts = `{
	admin $ADMIN
	skip_install_trust
	auto_https disable_redirects
	on_demand_tls {
		ask http://$ADMIN/metrics
	}
}
https://shop.test:$PORT, https://docs.test:$PORT {
	tls internal
	tentagate {
		jwt off
		service users http://127.0.0.1:1
	}
}
https://*.tenants.test:$PORT {
	tls {
		on_demand
		issuer internal
	}
	respond tenant
}
`

// The validity of certificates is in the metrics by configured host, before and after a
// reload. Names that clients come up with have no series.
func TestCertificateMetrics(t *testing.T) {
	g := start(t, certificatesOfHosts)
	// subjects returns the hosts with certificates that are valid now.
	subjects := func() (hosts []string) {
		validity := map[string][2]float64{}
		for name, family := range families(t, g.adminGet("/metrics")) {
			i := map[string]int{"tentagate_certificate_not_before_timestamp_seconds": 0, "tentagate_certificate_not_after_timestamp_seconds": 1}
			at, ok := i[name]
			if !ok {
				continue
			}
			for _, m := range family.GetMetric() {
				host := m.GetLabel()[0].GetValue()
				both := validity[host]
				both[at] = m.GetGauge().GetValue()
				validity[host] = both
			}
		}
		for host, v := range validity {
			if lifetime := v[1] - v[0]; lifetime < 3600 || lifetime > 7*86400 {
				t.Errorf("%s: the certificate is valid from %v to %v", host, v[0], v[1])
			}
			hosts = append(hosts, host)
		}
		return hosts
	}
	certificateOf(t, g, "shop.test")
	certificateOf(t, g, "docs.test")
	for i := range 3 {
		certificateOf(t, g, fmt.Sprintf("a%d.tenants.test", i))
	}
	testkit.Eventually(t, "two hosts have series", func() bool { return len(subjects()) == 2 })
	if err := g.reload(strings.Replace(certificatesOfHosts, "https://shop.test:$PORT, ", "", 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the host that is left has series", func() bool {
		all := subjects()
		return len(all) == 1 && all[0] == "docs.test"
	})
}
