package authz

import (
	"strings"
	"unicode"

	"github.com/castellan-security/castellan/internal/admission"
)

const (
	maxVariables = 2000 // that a container may be asked to get
	maxValue     = 256  // a longer value is left out: no condition needs it
)

// variables are the variables of an environment, with all their values.
func variables(env []string) []admission.Variable {
	out := make([]admission.Variable, 0, len(env))
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		out = append(out, admission.Variable{Name: bounded(name), Value: value})
	}
	return out
}

// conceal leaves out the values of variables that can be secrets: verdicts are kept
// and shown.
func conceal(r *admission.Request) {
	for i := range r.Task.Containers {
		env := r.Task.Containers[i].Env
		for k := range env {
			if mayBeSecret(env[k].Name, env[k].Value) {
				env[k].Value = ""
			}
		}
	}
}

// mayBeSecret is generous: a value that is left out costs a condition, one that
// is kept may cost a key.
func mayBeSecret(name, value string) bool {
	if len(value) > maxValue || strings.Contains(value, "@") && strings.Contains(value, "://") {
		return true
	}
	upper := strings.ToUpper(name)
	for _, word := range []string{"SECRET", "TOKEN", "PASS", "PWD", "KEY", "CRED", "PRIVATE", "AUTH", "DSN", "SIGNATURE", "COOKIE", "SESSION", "SALT", "CERT"} {
		if strings.Contains(upper, word) {
			return true
		}
	}
	for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune(" ,;:/=&?|\"'", r) }) {
		if looksRandom(word) {
			return true
		}
	}
	return false
}

// looksRandom says that a word is long and mixes letters and digits as keys do.
func looksRandom(word string) bool {
	const shortest, least = 16, 1
	if len(word) < shortest {
		return false
	}
	letters, digits := 0, 0
	for _, r := range word {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r):
			letters++
		}
	}
	return digits >= least && letters >= least
}
