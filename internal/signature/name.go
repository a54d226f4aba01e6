package signature

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxNameParts bounds a name. Real ones have four to eight parts.
const maxNameParts = 64

// nameTypes are the short names of RFC 4514, and the two more that Go and
// OpenSSL write.
var nameTypes = []struct {
	oid  string
	name string
}{
	{"2.5.4.3", "CN"}, {"2.5.4.6", "C"}, {"2.5.4.7", "L"}, {"2.5.4.8", "ST"}, {"2.5.4.9", "STREET"},
	{"2.5.4.10", "O"}, {"2.5.4.11", "OU"}, {"2.5.4.5", "SERIALNUMBER"}, {"2.5.4.17", "POSTALCODE"},
	{"0.9.2342.19200300.100.1.25", "DC"}, {"0.9.2342.19200300.100.1.1", "UID"},
}

// part is one attribute of a distinguished name. (SET OF is told by the name
// of the slice's type.)
type part struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type partSET []part

// DistinguishedName writes a certificate's subject or issuer as RFC 4514 does, but
// with the parts in the order in which the certificate has them, which is the order
// that people write them in. The name is escaped: no value can pass for two parts.
// What has no short name, or is no text, is written in hexadecimal.
func DistinguishedName(der []byte) (string, error) {
	var name []partSET
	rest, err := asn1.Unmarshal(der, &name)
	if err != nil {
		return "", fmt.Errorf("read a distinguished name: %w", err)
	}
	if len(rest) > 0 {
		return "", fmt.Errorf("read a distinguished name: %d bytes follow it", len(rest))
	}
	var b strings.Builder
	n := 0
	for i, set := range name {
		for j, p := range set {
			if n++; n > maxNameParts {
				return "", fmt.Errorf("a distinguished name has more than %d parts", maxNameParts)
			}
			switch {
			case j > 0:
				b.WriteByte('+')
			case i > 0:
				b.WriteByte(',')
			}
			writePart(&b, p)
		}
	}
	return b.String(), nil
}

func writePart(b *strings.Builder, p part) {
	oid := p.Type.String()
	for _, t := range nameTypes {
		if t.oid != oid {
			continue
		}
		if text, ok := nameText(p.Value); ok {
			b.WriteString(t.name + "=")
			writeEscaped(b, text)
			return
		}
	}
	b.WriteString(oid + "=#" + hex.EncodeToString(p.Value.FullBytes))
}

// nameText returns a value that is a text.
func nameText(v asn1.RawValue) (string, bool) {
	var text string
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, asn1.TagBMPString, asn1.TagNumericString:
		var any any
		if _, err := asn1.Unmarshal(v.FullBytes, &any); err != nil {
			return "", false
		}
		text, _ = any.(string)
	}
	return text, text != "" && utf8.ValidString(text)
}

func writeEscaped(b *strings.Builder, text string) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(b, `\%02x`, c)
		case strings.IndexByte(`"+,;<>\`, c) >= 0,
			c == ' ' && (i == 0 || i == len(text)-1),
			c == '#' && i == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}
