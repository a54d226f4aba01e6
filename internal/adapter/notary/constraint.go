package notary

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"

	"github.com/castellan-security/castellan/internal/signature"
)

// checkConstraints holds a chain to what its authorities may vouch for (RFC 5280,
// 4.2.1.10 and 4.2.1.12). The specification of the Notary Project doesn't ask for
// it; but a policy may name a signer by an alternative name, and who was given an
// authority for his own names, or for servers, must not write another's.
func checkConstraints(chain []*x509.Certificate, p purpose) error {
	wanted := x509.ExtKeyUsageCodeSigning
	if p.stamping {
		wanted = x509.ExtKeyUsageTimeStamping
	}
	constrained := false
	for i, c := range chain {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return signature.Refuse(signature.Unsupported, "the certificate of %s has a critical extension that is not known (%s)", named(c), c.UnhandledCriticalExtensions[0])
		}
		limited := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
		if i > 0 && limited && !slices.Contains(c.ExtKeyUsage, wanted) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return signature.Refuse(signature.Forbidden, "the authority %s is for something else than %s", named(c), p.name)
		}
		constrained = constrained || i > 0 && limitsNames(c)
	}
	v := validityOf(chain)
	if !constrained || v.to.Before(v.from) { // such a chain is valid at no time
		return nil
	}
	last := len(chain) - 1
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[last])
	for _, c := range chain[1:last] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: v.from, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return signature.Refuse(signature.Forbidden, "an authority of %s may not vouch for its names: %s", named(chain[0]), shown(err.Error()))
	}
	return nil
}

// limitsNames reports whether an authority may vouch for some names only.
func limitsNames(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) })
}
