package check

import (
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// The checks that are about secrets, by where they stand. A scan that looks for
// secrets tells of each as a secret, which names the check (finding.Secret).
const (
	SecretInEnvironment = "CAST-TASK-016"
	SecretInCommand     = "CAST-TASK-017"
	SecretInImage       = "CAST-IMAGE-011"
	SecretInStep        = "CAST-IMAGE-020"
)

// maxValue bounds a text in which something is looked for.
const maxValue = judge.MaxText

// secretIn says what kind of secret a variable holds, "" for none. Values are
// looked at and never shown.
func secretIn(name, value blueprint.Text) string {
	if !name.Known() || !value.Known() || value.V == "" {
		return ""
	}
	if form := judge.Form(value.V); form != "" {
		return form
	}
	if v, ok := judge.Pair(name.V, value.V, judge.Own); ok && v.Doubt == "" {
		return "a " + string(v.Kind)
	}
	return ""
}
