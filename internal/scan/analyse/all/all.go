// Package all lists the analysers. Adding one is a folder beside this one and a
// line here; a test fails when the line is missing.
package all

import (
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/apk"
	"github.com/castellan-security/castellan/internal/scan/analyse/dpkg"
	"github.com/castellan-security/castellan/internal/scan/analyse/modes"
	"github.com/castellan-security/castellan/internal/scan/analyse/osrelease"
	"github.com/castellan-security/castellan/internal/scan/analyse/rpm"
)

// Analysers returns one of each.
func Analysers() []analyse.Analyser {
	return []analyse.Analyser{
		apk.Analyser{},
		dpkg.Analyser{},
		modes.Analyser{},
		osrelease.Analyser{},
		rpm.Analyser{},
	}
}
