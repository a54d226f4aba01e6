// Package all lists the analysers. Adding one is a folder beside this one and a
// line here; a test fails when the line is missing.
package all

import (
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/apk"
	"github.com/castellan-security/castellan/internal/scan/analyse/bitnami"
	"github.com/castellan-security/castellan/internal/scan/analyse/caches"
	"github.com/castellan-security/castellan/internal/scan/analyse/dotnet"
	"github.com/castellan-security/castellan/internal/scan/analyse/dpkg"
	"github.com/castellan-security/castellan/internal/scan/analyse/executable"
	"github.com/castellan-security/castellan/internal/scan/analyse/golang"
	"github.com/castellan-security/castellan/internal/scan/analyse/jar"
	"github.com/castellan-security/castellan/internal/scan/analyse/lock"
	"github.com/castellan-security/castellan/internal/scan/analyse/maven"
	"github.com/castellan-security/castellan/internal/scan/analyse/modes"
	"github.com/castellan-security/castellan/internal/scan/analyse/node"
	"github.com/castellan-security/castellan/internal/scan/analyse/osrelease"
	"github.com/castellan-security/castellan/internal/scan/analyse/passwd"
	"github.com/castellan-security/castellan/internal/scan/analyse/php"
	"github.com/castellan-security/castellan/internal/scan/analyse/python"
	"github.com/castellan-security/castellan/internal/scan/analyse/rpm"
	"github.com/castellan-security/castellan/internal/scan/analyse/ruby"
	"github.com/castellan-security/castellan/internal/scan/analyse/rust"
)

// Analysers returns one of each.
func Analysers() []analyse.Analyser {
	return []analyse.Analyser{
		apk.Analyser{},
		bitnami.Analyser{},
		caches.Analyser{},
		dotnet.Analyser{},
		dpkg.Analyser{},
		executable.New(),
		golang.Analyser{},
		jar.New(),
		lock.Analyser{},
		maven.Analyser{},
		modes.Analyser{},
		node.Analyser{},
		osrelease.Analyser{},
		passwd.Analyser{},
		php.Analyser{},
		python.Analyser{},
		rpm.New(),
		ruby.Analyser{},
		rust.Analyser{},
	}
}
