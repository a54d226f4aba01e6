// Package version orders versions as each ecosystem orders its own: dpkg, rpm,
// apk, semantic versioning, Maven, PEP 440, RubyGems, NuGet, Composer and more.
//
// A version is turned into a key, a short string of bytes; versions are in the
// order of their keys, byte by byte. So every order is total by construction
// (nothing can be both lower and higher than something else), two versions are
// the same exactly if their keys are, and comparing again costs nothing but
// comparing bytes.
//
// It is not for ranges (see vulndb) and not for judging whether a version is
// well formed: what a package manager would refuse still gets a place, because
// images hold such versions too. An error means that there is none.
package version

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Order is a way to order versions.
type Order uint8

// The orders. Unordered is for what has no versions that can be compared, such
// as commits.
const (
	Unordered Order = iota
	Dpkg            // deb-version(7)
	RPM             // rpm-version(7)
	APK             // apk-package(5)
	SemVer          // Semantic Versioning 2.0.0, with any number of components
	Go              // SemVer with or without "v", and the toolchain's "go1.21rc2"
	Maven           // Maven's version order specification
	PEP440          // Python
	RubyGems        // Gem::Version
	NuGet           // SemVer where case does not count
	Composer        // PHP
	Pub             // SemVer where build metadata counts (Dart)
	Dotted          // numbers only, shorter is lower: Hackage, CRAN
)

// Revision names this state of all orders. What is stored sorted (see vulndb) is
// sorted for one revision. Raise it with every change of an order.
const Revision = 1

// MaxLength is the longest version that is ordered, in bytes. The longest in use
// (Go's pseudo-versions, Debian's git snapshots) have about a hundred.
const MaxLength = 1024

// Errors of versions that have no place in an order.
var (
	ErrUnordered = errors.New("the ecosystem has no order of versions")
	ErrEmpty     = errors.New("empty version")
	ErrLong      = fmt.Errorf("version longer than %d bytes", MaxLength)
	ErrNoNumber  = errors.New("version without a number")
	ErrEpoch     = errors.New("epoch is not a number")
	ErrBranch    = errors.New("a branch is not a version")
)

// orders maps ecosystems, as OSV names them and without their release, to the
// order of their versions.
var orders = map[string]Order{
	"Debian": Dpkg, "Ubuntu": Dpkg, "Echo": Dpkg, "opam": Dpkg,
	"Alpine": APK, "Wolfi": APK, "Chainguard": APK, "MinimOS": APK, "Alpaquita": APK,
	"BellSoft Hardened Containers": APK,
	"Red Hat":                      RPM, "AlmaLinux": RPM, "Rocky Linux": RPM, "Amazon Linux": RPM, "Oracle Linux": RPM,
	"CentOS": RPM, "Fedora": RPM, "SUSE": RPM, "openSUSE": RPM, "openEuler": RPM, "Mageia": RPM,
	"Azure Linux": RPM, "Photon OS": RPM,
	"Go": Go, "npm": SemVer, "crates.io": SemVer, "Hex": SemVer, "SwiftURL": SemVer, "Julia": SemVer,
	"GitHub Actions": SemVer, "Kubernetes": SemVer, "Bitnami": SemVer, "ConanCenter": SemVer, "VSCode": SemVer,
	"Bioconductor": SemVer, "GHC": SemVer, "Linux": SemVer, "Docker Hardened Images": SemVer,
	"PyPI": PEP440, "Maven": Maven, "RubyGems": RubyGems, "NuGet": NuGet, "Packagist": Composer, "Pub": Pub,
	"Hackage": Dotted, "CRAN": Dotted,
}

// OrderOf returns the order of an ecosystem's versions. A release or a repository
// after a colon does not matter ("Debian:12"), except in "Root:Alpine:3.18", which
// is ordered as what it patches.
func OrderOf(ecosystem string) Order {
	base, rest, _ := strings.Cut(ecosystem, ":")
	if base == "Root" {
		base, _, _ = strings.Cut(rest, ":")
	}
	return orders[base]
}

// AppendKey appends the key of a version to dst. The key of one order means
// nothing in another.
func (o Order) AppendKey(dst []byte, version string) ([]byte, error) {
	version = strings.TrimSpace(version)
	switch {
	case version == "":
		return dst, ErrEmpty
	case len(version) > MaxLength:
		return dst, ErrLong
	}
	switch o { // direct calls, so that dst can stay on the caller's stack
	case Dpkg:
		return dpkgKey(dst, version)
	case RPM:
		return rpmKey(dst, version)
	case APK:
		return apkKey(dst, version)
	case SemVer:
		return semverKey(dst, version)
	case Go:
		return goKey(dst, version)
	case Maven:
		return mavenKey(dst, version)
	case PEP440:
		return pep440Key(dst, version)
	case RubyGems:
		return gemKey(dst, version)
	case NuGet:
		return nugetKey(dst, version)
	case Composer:
		return composerKey(dst, version)
	case Pub:
		return pubKey(dst, version)
	case Dotted:
		return dottedKey(dst, version)
	}
	return dst, ErrUnordered
}

// Key is a version in the form that is compared.
type Key []byte

// Key returns the key of a version.
func (o Order) Key(version string) (Key, error) { return o.AppendKey(nil, version) }

// enough holds the key of nearly every version without an allocation.
const enough = 128

// Compare returns -1, 0 or +1 as a is lower than, the same as or higher than b.
func (o Order) Compare(a, b string) (int, error) {
	var bufA, bufB [enough]byte
	ka, err := o.AppendKey(bufA[:0], a)
	if err != nil {
		return 0, fmt.Errorf("compare version %.80q: %w", a, err)
	}
	kb, err := o.AppendKey(bufB[:0], b)
	if err != nil {
		return 0, fmt.Errorf("compare version %.80q: %w", b, err)
	}
	return bytes.Compare(ka, kb), nil
}

// Compare orders two versions of an ecosystem (see OrderOf).
func Compare(ecosystem, a, b string) (int, error) { return OrderOf(ecosystem).Compare(a, b) }
