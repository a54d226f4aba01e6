// Package pattern has the rules of detection that need more state than rules in YAML
// have: one file each. Package all lists them.
package pattern

import (
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/threat"
)

// Maker makes a detector of a rule whose parameters are set.
type Maker func(*threat.Rule) (rule.Detector, error)
