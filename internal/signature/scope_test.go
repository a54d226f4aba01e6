package signature_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/castellan-security/castellan/internal/signature"
)

// A list without a scope tells of all, and one with a scope that can't be read of
// nobody, whatever stands in it.
func TestScopeOf(t *testing.T) {
	point := asn1.ObjectIdentifier{2, 5, 29, 28}
	for name, tc := range map[string]struct {
		extensions []pkix.Extension
		user, ca   bool
	}{
		"none":                         {nil, true, true},
		"not critical":                 {[]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}}}, true, true},
		"critical":                     {[]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true}}, false, false},
		"empty":                        {[]pkix.Extension{{Id: point, Value: []byte{0x30, 0}}}, true, true},
		"users":                        {[]pkix.Extension{{Id: point, Value: []byte{0x30, 3, 0x81, 1, 0xff}}}, true, false},
		"authorities":                  {[]pkix.Extension{{Id: point, Value: []byte{0x30, 3, 0x82, 1, 0xff}}}, false, true},
		"rubbish":                      {[]pkix.Extension{{Id: point, Value: []byte{1}}}, false, false},
		"two of them":                  {[]pkix.Extension{{Id: point, Value: []byte{1}}, {Id: point, Value: []byte{0x30, 0}}}, false, false},
		"more behind it":               {[]pkix.Extension{{Id: point, Value: []byte{0x30, 0, 0}}}, false, false},
		"a delta that is not critical": {[]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Value: []byte{2, 1, 1}}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := signature.ScopeOf(&x509.RevocationList{Extensions: tc.extensions})
			if user, ca := s.Covers(&x509.Certificate{}), s.Covers(&x509.Certificate{IsCA: true}); user != tc.user || ca != tc.ca {
				t.Errorf("covers users %v and authorities %v, want %v and %v", user, ca, tc.user, tc.ca)
			}
		})
	}
}

// FuzzScope wants an answer for whatever stands in an issuing distribution point.
func FuzzScope(f *testing.F) {
	f.Add([]byte{0x30, 3, 0x81, 1, 0xff})
	f.Add([]byte{0x30, 12, 0xa0, 10, 0xa0, 8, 0x86, 6, 'h', 't', 't', 'p', ':', '/'})
	f.Fuzz(func(t *testing.T, value []byte) {
		s := signature.ScopeOf(&x509.RevocationList{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: value}}})
		if s.Covers(&x509.Certificate{}) && len(value) < 2 {
			t.Errorf("%x covers certificates", value)
		}
	})
}
