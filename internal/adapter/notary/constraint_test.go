package notary_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
)

// TestConstrainedAuthorities has an authority that its root lets issue for a
// partner only, or only for servers, issue a signer of somebody else.
func TestConstrainedAuthorities(t *testing.T) {
	w := newWorld(t)
	issuer := func(by *notarytest.Holder, edit func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Authority, "partner", key(t, elliptic.P256()), edit)
	}
	leaf := func(by *notarytest.Holder, edit func(*x509.Certificate)) *notarytest.Holder {
		return issue(t, by, notarytest.Signer, "build", key(t, elliptic.P256()), edit)
	}
	mail := func(s string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.EmailAddresses = []string{s} }
	}
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	unknown := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
	}
	partner := issuer(w.root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedEmailAddresses = true, []string{"partner.example"}
	})
	old := issuer(w.root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedEmailAddresses = true, []string{"partner.example"}
		c.NotAfter = june
	})
	anyone := mail("build@anyone.example")
	for _, tc := range []struct {
		name string
		h    *notarytest.Holder
		want string
	}{
		{"a name within the constraints", leaf(partner, mail("build@partner.example")), "good: claimed"},
		{"a name beyond the constraints", leaf(partner, mail("build@acme.example")), "forbidden"},
		{"a name beyond the constraints of one above", leaf(issuer(partner, usage()), mail("build@acme.example")), "forbidden"},
		{"a name beyond the constraints of one that has expired", leaf(old, mail("build@acme.example")), "forbidden"},
		{"an authority for servers", leaf(issuer(w.root, usage(x509.ExtKeyUsageServerAuth)), anyone), "forbidden"},
		{"an authority for servers above", leaf(issuer(issuer(w.root, usage(x509.ExtKeyUsageServerAuth)), usage(x509.ExtKeyUsageCodeSigning)), anyone), "forbidden"},
		{"an authority for signers", leaf(issuer(w.root, usage(x509.ExtKeyUsageCodeSigning)), anyone), "good: claimed"},
		{"an authority for everything", leaf(issuer(w.root, usage(x509.ExtKeyUsageAny)), anyone), "good: claimed"},
		{"a signer with an unknown critical extension", leaf(w.ca, unknown), "unsupported"},
		{"an authority with an unknown critical extension", leaf(issuer(w.root, unknown), anyone), "unsupported"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, _ := verdict(t, opener(t, w.roots(), notary.Options{}), seal2(t, tc.h), june.Add(time.Hour)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestNamesOfAnotherForm has names of one kind that read like those of another,
// to which name constraints may not reach.
func TestNamesOfAnotherForm(t *testing.T) {
	w := newWorld(t)
	h := issue(t, w.ca, notarytest.Signer, "build", key(t, elliptic.P256()), func(c *x509.Certificate) {
		c.DNSNames = []string{"a.partner.example"}
		c.URIs = []*url.URL{{Path: "build.acme.example"}, {Scheme: "mailto", Opaque: "build@acme.example"}, {Scheme: "https", Host: "acme.example", Path: "/build"}}
		c.EmailAddresses = []string{"build@acme.example"}
	})
	got, s := verdict(t, opener(t, w.roots(), notary.Options{}), seal2(t, h), july)
	if want := []string{"build@acme.example", "a.partner.example", "https://acme.example/build"}; got != "good: claimed" || !slices.Equal(s.Identity.Names, want) {
		t.Errorf("got %s by %q, want the names %q", got, s.Identity.Names, want)
	}
}
