package version_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/version"
)

// FuzzOrder holds every order to being one, on any text.
func FuzzOrder(f *testing.F) {
	for _, tc := range ascending {
		vs := strings.Fields(tc.versions)
		for i := range len(vs) - 2 {
			f.Add(uint8(version.OrderOf(tc.ecosystem)), vs[i], vs[i+1], vs[i+2])
		}
	}
	f.Fuzz(func(t *testing.T, order uint8, a, b, c string) {
		o := version.Order(order % 16)
		ka, errA := o.Key(a)
		kb, errB := o.Key(b)
		kc, errC := o.Key(c)
		if errA != nil || errB != nil || errC != nil {
			return
		}
		if len(ka) > 8*len(a)+16 {
			t.Errorf("key of %q is %d bytes", a, len(ka))
		}
		ab, err := o.Compare(a, b)
		if err != nil || ab != bytes.Compare(ka, kb) || ab != -bytes.Compare(kb, ka) {
			t.Errorf("order %d: Compare(%q, %q) = %d, %v, by keys %d", o, a, b, ab, err, bytes.Compare(ka, kb))
		}
		if ab <= 0 && bytes.Compare(kb, kc) <= 0 && bytes.Compare(ka, kc) > 0 {
			t.Errorf("order %d: %q <= %q <= %q, but not the first and the last", o, a, b, c)
		}
		front := []byte("front")
		if got, _ := o.AppendKey(front, a); !bytes.Equal(got, append(front, ka...)) {
			t.Errorf("order %d: AppendKey(%q) depends on what is in front", o, a)
		}
	})
}

// FuzzDpkg compares with dpkg's own way of comparing, character by character.
func FuzzDpkg(f *testing.F) {
	f.Add("1:2.36.1-8+deb12u1", "1.0~rc1-1")
	f.Add("0", "00.a-0")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.TrimSpace(a), strings.TrimSpace(b)
		if strings.ContainsAny(a+b, ":-") || len(a)+len(b) > version.MaxLength {
			return
		}
		got, err := version.Dpkg.Compare(a, b)
		if want := dpkgCompares(a, b); got != want && err == nil {
			t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

// dpkgCompares is the algorithm of deb-version(7) as it is described there.
func dpkgCompares(a, b string) int {
	rank := func(s string) int {
		switch {
		case s == "" || s[0] >= '0' && s[0] <= '9':
			return 0
		case s[0] == '~':
			return -1
		case s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z':
			return int(s[0])
		}
		return int(s[0]) + 256
	}
	isDigit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
	rest := func(s string) string {
		if s == "" {
			return s
		}
		return s[1:]
	}
	for a != "" || b != "" {
		for a != "" && !isDigit(a) || b != "" && !isDigit(b) {
			if ra, rb := rank(a), rank(b); ra != rb {
				return min(1, max(-1, ra-rb))
			}
			a, b = rest(a), rest(b)
		}
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		first := 0
		for isDigit(a) && isDigit(b) {
			if first == 0 {
				first = int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
		}
		switch {
		case isDigit(a):
			return 1
		case isDigit(b):
			return -1
		case first != 0:
			return min(1, max(-1, first))
		}
	}
	return 0
}

// FuzzRPM compares with rpmvercmp's way of comparing, segment by segment.
func FuzzRPM(f *testing.F) {
	f.Add("1.0~rc1", "1.0^git1")
	f.Add("5.26.3a", "5.26.3.1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsAny(a+b, ":-") || len(a)+len(b) > version.MaxLength {
			return
		}
		got, err := version.RPM.Compare(a, b)
		if want := rpmCompares(a, b); got != want && err == nil {
			t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

// rpmCompares is the algorithm of rpm-version(7).
func rpmCompares(a, b string) int {
	const digits = "0123456789"
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	trim := func(s string) string {
		i := strings.IndexFunc(s, func(r rune) bool { return strings.ContainsRune(digits+letters+"~^", r) })
		if i < 0 {
			return ""
		}
		return s[i:]
	}
	segment := func(s, of string) (string, string) {
		n := len(s) - len(strings.TrimLeft(s, of))
		return s[:n], s[n:]
	}
	for {
		a, b = trim(a), trim(b)
		for _, mark := range []string{"~", "^"} {
			inA, inB := strings.HasPrefix(a, mark), strings.HasPrefix(b, mark)
			lower := 1 // what has the mark is lower
			if mark == "^" && (a == "" || b == "") {
				lower = -1
			}
			switch {
			case inA && inB:
				return rpmCompares(a[1:], b[1:])
			case inA:
				return -lower
			case inB:
				return lower
			}
		}
		if a == "" || b == "" {
			return min(1, len(a)) - min(1, len(b))
		}
		of, numeric := letters, strings.ContainsRune(digits, rune(a[0]))
		if numeric {
			of = digits
		}
		var sa, sb string
		sa, a = segment(a, of)
		sb, b = segment(b, of)
		switch {
		case sb == "" && numeric:
			return 1
		case sb == "":
			return -1
		case numeric:
			sa, sb = strings.TrimLeft(sa, "0"), strings.TrimLeft(sb, "0")
			if len(sa) != len(sb) {
				return min(1, max(-1, len(sa)-len(sb)))
			}
		}
		if c := strings.Compare(sa, sb); c != 0 {
			return c
		}
	}
}
