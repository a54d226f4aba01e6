package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// maxAttributes bounds the parts of one name.
const maxAttributes = 50

// Attribute is one part of a certificate's subject.
type Attribute struct {
	Type, Value string
	BER         bool // Value is written in hexadecimal, as it is no text that is known
}

// ParseName reads a distinguished name as RFC 4514 writes it. Names whose parts
// have several attributes are refused. A value in hexadecimal is only ever the same
// as one in hexadecimal.
func ParseName(s string) ([]Attribute, error) {
	var out []Attribute
	for rest := s; ; {
		typ, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, fmt.Errorf("name %q: %q has no =", s, rest)
		}
		t, err := attributeType(strings.TrimSpace(typ))
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", s, err)
		}
		value, left, ber, err := attributeValue(after)
		if err != nil {
			return nil, fmt.Errorf("name %q: %s: %w", s, t, err)
		}
		if out = append(out, Attribute{t, value, ber}); len(out) > maxAttributes {
			return nil, fmt.Errorf("a name of more than %d parts", maxAttributes)
		}
		if left == "" {
			return out, nil
		}
		rest = left[1:]
	}
}

// attributeType returns the short name of an attribute's type, in capitals.
func attributeType(s string) (string, error) {
	t := strings.ToUpper(s)
	if t == "" || strings.Trim(t, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" {
		return "", fmt.Errorf("%q is no type of attribute", s)
	}
	switch strings.TrimPrefix(t, "OID.") {
	case "2.5.4.3":
		return "CN", nil
	case "2.5.4.5":
		return "SERIALNUMBER", nil
	case "2.5.4.6":
		return "C", nil
	case "2.5.4.7":
		return "L", nil
	case "2.5.4.8", "S":
		return "ST", nil
	case "2.5.4.9":
		return "STREET", nil
	case "2.5.4.10":
		return "O", nil
	case "2.5.4.11":
		return "OU", nil
	case "2.5.4.17":
		return "POSTALCODE", nil
	case "0.9.2342.19200300.100.1.1":
		return "UID", nil
	case "0.9.2342.19200300.100.1.25":
		return "DC", nil
	}
	return t, nil
}

// attributeValue reads a value up to the next unescaped comma, which is the first
// byte of what is left.
func attributeValue(s string) (value, left string, ber bool, err error) {
	s = strings.TrimLeft(s, " ")
	if digits, isBER := strings.CutPrefix(s, "#"); isBER {
		if i := strings.IndexAny(digits, ",;"); i >= 0 {
			digits, left = digits[:i], ","+digits[i+1:]
		}
		digits = strings.ToLower(strings.TrimRight(digits, " "))
		if b, err := hex.DecodeString(digits); err != nil || len(b) == 0 {
			return "", "", false, fmt.Errorf("%q is not hexadecimal", "#"+digits)
		}
		return digits, left, true, nil
	}
	value, left, err = textValue(s)
	return value, left, false, err
}

func textValue(s string) (value, left string, err error) {
	var b []byte
	kept := 0 // up to the last letter that is no blank, or was escaped
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ',', ';':
			left = "," + s[i+1:]
			return string(b[:kept]), left, emptyValue(kept)
		case '+':
			return "", "", fmt.Errorf("parts with several attributes (+) are not understood")
		case '"', '<', '>', 0:
			return "", "", fmt.Errorf("%q must be escaped with \\", c)
		case '\\':
			letter, n, err := escaped(s[i+1:])
			if err != nil {
				return "", "", err
			}
			b = append(b, letter)
			kept = len(b)
			i += n
		default:
			if b = append(b, c); c != ' ' {
				kept = len(b)
			}
		}
	}
	return string(b[:kept]), "", emptyValue(kept)
}

func emptyValue(n int) error {
	if n == 0 {
		return fmt.Errorf("no value")
	}
	return nil
}

// escaped reads what follows a backslash, and says how many bytes that were.
func escaped(s string) (letter byte, n int, err error) {
	if len(s) >= 2 {
		if x, err := hex.DecodeString(s[:2]); err == nil {
			return x[0], 2, nil
		}
	}
	if s != "" && strings.IndexByte(` "#+,;<=>\`, s[0]) >= 0 {
		return s[0], 1, nil
	}
	return 0, 0, fmt.Errorf("nothing that can be escaped follows a \\")
}

// has reports whether a certificate's name has all the attributes that are
// wanted, each once: a second value under the same type would leave open which of
// both the authority meant.
func has(name, want []Attribute) bool {
	for _, w := range want {
		n := 0
		for _, a := range name {
			if a.Type == w.Type {
				n++
			}
		}
		if n != 1 || !slices.Contains(name, w) {
			return false
		}
	}
	return len(want) > 0
}
