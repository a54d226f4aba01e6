package signature_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/signature"
)

func TestDistinguishedName(t *testing.T) {
	type rdn = []pkix.AttributeTypeAndValue
	cn, o, c := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 6}
	mail := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	var many []rdn
	for range 65 {
		many = append(many, rdn{{Type: cn, Value: "x"}})
	}
	for _, tc := range []struct {
		name string
		in   []rdn
		want string
	}{
		{"none", nil, ""},
		{"in the certificate's order", []rdn{{{Type: c, Value: "US"}}, {{Type: o, Value: "Acme"}}, {{Type: cn, Value: "build"}}}, "C=US,O=Acme,CN=build"},
		{"two values in one part, which DER sorts", []rdn{{{Type: o, Value: "A"}, {Type: cn, Value: "b"}}}, "CN=b+O=A"},
		{"a value that plays two parts", []rdn{{{Type: cn, Value: "build,O=Acme"}}}, `CN=build\,O=Acme`},
		{"quotes and blanks", []rdn{{{Type: cn, Value: ` a"b\c+d;e<f> `}}}, `CN=\ a\"b\\c\+d\;e\<f\>\ `},
		{"a number sign first", []rdn{{{Type: cn, Value: "#a#"}}}, `CN=\#a#`},
		{"control characters", []rdn{{{Type: cn, Value: "a\x00b\nc\x7f"}}}, `CN=a\00b\0ac\7f`},
		{"no short name", []rdn{{{Type: mail, Value: "a"}}}, "1.2.840.113549.1.9.1=#130161"},
		{"no text", []rdn{{{Type: cn, Value: 7}}}, "2.5.4.3=#020107"},
		{"an empty value", []rdn{{{Type: cn, Value: ""}}}, "2.5.4.3=#1300"},
		{"too many", many, "error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seq := pkix.RDNSequence{}
			for _, r := range tc.in {
				seq = append(seq, r)
			}
			der, err := asn1.Marshal(seq)
			if err != nil {
				t.Fatal(err)
			}
			got, err := signature.DistinguishedName(der)
			if err != nil {
				got = "error"
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	if got, err := signature.DistinguishedName([]byte("nothing")); err == nil {
		t.Errorf("bytes that are no name: got %s, want an error", got)
	}
}

func FuzzDistinguishedName(f *testing.F) {
	der, err := asn1.Marshal(pkix.Name{CommonName: "build,x", Country: []string{"US"}}.ToRDNSequence())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		name, err := signature.DistinguishedName(der)
		if err == nil && strings.ContainsAny(name, "\x00\n\x1b") {
			t.Errorf("control characters in %q", name)
		}
	})
}
