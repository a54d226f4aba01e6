package signature

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// ListScope is which certificates a revocation list tells of. What is not in a list
// counts as not revoked only if the list tells of it.
type ListScope struct {
	partial bool // what is not in it may be revoked all the same
	distribution
	urls []string // of the piece that the list is; empty if it is whole
}

// distribution is an issuing distribution point (RFC 5280, 5.2.5).
type distribution struct {
	Point        asn1.RawValue  `asn1:"optional,tag:0"`
	OnlyUsers    bool           `asn1:"optional,tag:1"`
	OnlyCAs      bool           `asn1:"optional,tag:2"`
	SomeReasons  asn1.BitString `asn1:"optional,tag:3"`
	Indirect     bool           `asn1:"optional,tag:4"`
	OnlyAttrCert bool           `asn1:"optional,tag:5"`
}

// ScopeOf reads the scope of a list. One that has only what is new since another,
// only some reasons, or extensions that nobody here knows, covers nothing.
func ScopeOf(l *x509.RevocationList) ListScope {
	var s ListScope
	for _, e := range l.Extensions {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}): // a delta
			s.partial = true
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}):
			s.partial = !s.read(e.Value) || s.partial
		case e.Critical:
			s.partial = true
		}
	}
	return s
}

// read reads an issuing distribution point, and reports whether a list with it
// tells of all reasons of its own issuer's certificates.
func (s *ListScope) read(der []byte) bool {
	rest, err := asn1.Unmarshal(der, &s.distribution)
	if err != nil || len(rest) > 0 || s.Indirect || s.OnlyAttrCert || s.SomeReasons.BitLength > 0 {
		return false
	}
	if len(s.Point.Bytes) == 0 {
		return true
	}
	var name asn1.RawValue // fullName [0], GeneralNames; relative names are nobody's
	if rest, err := asn1.Unmarshal(s.Point.Bytes, &name); err != nil || len(rest) > 0 || name.Tag != 0 {
		return false
	}
	for b := name.Bytes; len(b) > 0; {
		var v asn1.RawValue
		if b, err = asn1.Unmarshal(b, &v); err != nil {
			return false
		}
		if v.Tag == 6 { // uniformResourceIdentifier
			s.urls = append(s.urls, string(v.Bytes))
		}
	}
	return len(s.urls) > 0
}

// Covers reports whether the list would have the certificate if it were revoked.
// Authorities with many certificates cut their lists in pieces: each certificate
// names its piece.
func (s ListScope) Covers(c *x509.Certificate) bool {
	if s.partial || s.OnlyUsers && c.IsCA || s.OnlyCAs && !c.IsCA {
		return false
	}
	return len(s.urls) == 0 || slices.ContainsFunc(s.urls, func(u string) bool { return slices.Contains(c.CRLDistributionPoints, u) })
}
