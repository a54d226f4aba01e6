// Package finding holds the words for what we conclude: lasting statements about
// an image, a workload, a host or an AWS resource, each with severity, evidence,
// remedy and a fingerprint that stays the same from one look to the next.
//
// It is not for what others publish (see advisory) and not for what happened
// (see event).
package finding

import (
	"fmt"
	"strings"
)

// Severity is how grave a finding is. Higher is graver.
type Severity uint8

// The severities. Unknown means that nobody has rated it; it is not harmless.
const (
	Unknown Severity = iota
	Negligible
	Low
	Medium
	High
	Critical
)

var severities = [...]string{"unknown", "negligible", "low", "medium", "high", "critical"}

// String returns the severity in lower case.
func (s Severity) String() string {
	if int(s) < len(severities) {
		return severities[s]
	}
	return severities[Unknown]
}

// ParseSeverity returns the severity of that name, in either case.
func ParseSeverity(name string) (Severity, error) {
	for i, s := range severities {
		if strings.EqualFold(s, name) {
			return Severity(i), nil
		}
	}
	return Unknown, fmt.Errorf("severity %q: want %s", name, strings.Join(severities[:], ", "))
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(b []byte) error {
	v, err := ParseSeverity(string(b))
	*s = v
	return err
}
