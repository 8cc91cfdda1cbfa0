package token

import (
	"strings"

	"github.com/google/uuid"
)

// TenantID is the placeholder in an issuer for the tenant's identifier, a GUID that
// the token has in `tid`: the issuer that Microsoft Entra names for all tenants is
// `https://login.microsoftonline.com/{tenantid}/v2.0`.
const TenantID = "{tenantid}"

// Selects reports whether the rules could accept tokens with this `iss`, and
// whether they name it exactly.
func (r *Rules) Selects(iss string) (selects, exact bool) {
	for _, issuer := range r.Issuers {
		tenant, template := tenantOf(issuer, iss)
		switch {
		case template:
			selects = selects || tenant != ""
		case issuer == iss:
			return true, true
		}
	}
	return selects, false
}

// tenantOf returns the part of iss in the place of TenantID, if it is a GUID and
// everything around it is equal.
func tenantOf(issuer, iss string) (tenant string, template bool) {
	before, after, template := strings.Cut(issuer, TenantID)
	if !template {
		return "", false
	}
	tenant, ok := strings.CutPrefix(iss, before)
	if ok {
		tenant, ok = strings.CutSuffix(tenant, after)
	}
	if !ok || !isGUID(tenant) {
		return "", true
	}
	return tenant, true
}

// isGUID reports whether s is written as 00000000-0000-0000-0000-000000000000.
func isGUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }
