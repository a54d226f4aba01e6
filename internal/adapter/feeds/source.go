package feeds

// osvBucket is where osv.dev publishes its export: a folder an ecosystem.
const osvBucket = "https://osv-vulnerabilities.storage.googleapis.com/"

// ecosystemOf is one export of the bucket.
type ecosystemOf struct {
	name, licence, attribution string
	byDefault                  bool
}

const (
	ccBy4  = "CC-BY-4.0"
	ccBySA = "CC-BY-SA-4.0"
	cc0    = "CC0-1.0"
	apache = "Apache-2.0"
	mit    = "MIT"
	bsd3   = "BSD-3-Clause"
	// unstated is what no licence was found for: pass it on only after asking.
	unstated = "not stated"
	// debianText is what https://www.debian.org/license says of its texts: since
	// 2012 the one or the other, and of what is older the last.
	debianText = "MIT or GPL-2.0-or-later, before 2012 OPL-1.0"

	github = "Advisories of the GitHub Advisory Database (https://github.com/advisories), CC-BY 4.0"
)

// osvEcosystems are the exports that concern what is found in images. The bucket
// has more (Android, OSS-Fuzz, GIT, …), of things that are no packages there.
// Where several databases are in one, the strictest licence is named.
var osvEcosystems = []ecosystemOf{
	{"AlmaLinux", mit, "AlmaLinux errata (https://errata.almalinux.org), MIT", true},
	{"Alpaquita", unstated, "BellSoft security advisories (https://docs.bell-sw.com/security)", false},
	{"Alpine", unstated, "Alpine security database (https://secdb.alpinelinux.org), converted by osv.dev", false},
	{"Azure Linux", unstated, "Azure Linux vulnerability data (https://github.com/microsoft/AzureLinuxVulnerabilityData)", true},
	{"BellSoft Hardened Containers", unstated, "BellSoft security advisories (https://docs.bell-sw.com/security)", false},
	{"Bioconductor", apache, "R Consortium advisory database, Apache 2.0", true},
	{"Bitnami", apache, "Bitnami vulnerability database (https://github.com/bitnami/vulndb), Apache 2.0", true},
	{"Chainguard", unstated, "Chainguard security notices (https://images.chainguard.dev/security)", true},
	{"CleanStart", unstated, "CleanStart security advisories", true},
	{"CRAN", apache, "R Consortium advisory database, Apache 2.0", true},
	{"crates.io", cc0, "RustSec advisory database (https://rustsec.org), CC0; " + github, true},
	{"Debian", debianText, "Debian security advisories (https://www.debian.org/security), converted by osv.dev", false},
	{"Docker Hardened Images", unstated, "Docker Hardened Images advisories", true},
	{"Echo", unstated, "Echo security advisories (https://advisory.echohq.com)", true},
	{"GHC", cc0, "Haskell security advisories, CC0", true},
	{"GitHub Actions", ccBy4, github, false},
	{"Go", ccBy4, "Go vulnerability database (https://vuln.go.dev), the Go authors, CC-BY 4.0", true},
	{"Hackage", cc0, "Haskell security advisories, CC0", true},
	{"Hex", ccBy4, github, true},
	{"Julia", unstated, "Julia security advisories (https://github.com/JuliaLang/SecurityAdvisories.jl)", true},
	{"Mageia", unstated, "Mageia security advisories (https://advisories.mageia.org)", true},
	{"Maven", ccBy4, github, true},
	{"MinimOS", unstated, "Minimus security notices", true},
	{"npm", ccBy4, github + "; OpenSSF malicious packages, Apache 2.0", true},
	{"NuGet", ccBy4, github, true},
	{"opam", cc0, "OCaml security advisories, CC0", true},
	{"openEuler", unstated, "openEuler security advisories (https://www.openeuler.org)", true},
	{"openSUSE", ccBy4, "SUSE security data (https://www.suse.com/support/security), CC-BY 4.0", true},
	{"Packagist", ccBy4, github + "; Drupal advisory database", true},
	{"Photon OS", unstated, "Photon OS security advisories (https://github.com/vmware/photon/wiki/Security-Advisories)", true},
	{"Pub", ccBy4, github, true},
	{"PyPI", ccBy4, "PyPI advisory database (https://github.com/pypa/advisory-database), CC-BY 4.0; " + github, true},
	{"Red Hat", ccBy4, "Red Hat security data (https://security.access.redhat.com/data), CC-BY 4.0", false},
	{"Rocky Linux", bsd3, "Rocky Linux errata (https://errata.rockylinux.org), BSD", true},
	{"RubyGems", ccBy4, github, true},
	{"SUSE", ccBy4, "SUSE security data (https://www.suse.com/support/security), CC-BY 4.0", true},
	{"SwiftURL", ccBy4, github, true},
	{"Ubuntu", ccBySA, "Ubuntu security notices (https://github.com/canonical/ubuntu-security-notices), Canonical, CC-BY-SA 4.0", true},
	{"Wolfi", unstated, "Wolfi security notices (https://images.chainguard.dev/security)", true},
}

// All returns every source that can be read, in the order of their names within
// each kind: OSV's first.
func All() []Source {
	all := make([]Source, 0, len(osvEcosystems)+16)
	for _, e := range osvEcosystems {
		all = append(all, Source{
			Name: "osv/" + e.name, Title: e.name + " (OSV)", Format: OSV, Ecosystems: []string{e.name},
			Dir: "osv/" + e.name, Base: osvBucket + e.name, Home: "https://osv.dev",
			Licence: e.licence, Attribution: e.attribution, Default: e.byDefault,
		})
	}
	return append(append(all, distributions()...), exploits()...)
}

// distributions are the feeds that distributions publish in forms of their own.
func distributions() []Source {
	amazon := func(release string) Source {
		return Source{
			Name: "amazon/" + release, Title: "Amazon Linux " + release + " advisories", Format: UpdateInfo,
			Ecosystems: []string{"Amazon Linux"}, Dir: "amazon/" + release, Home: "https://alas.aws.amazon.com",
			Licence: unstated, Attribution: "Amazon Linux security advisories (https://alas.aws.amazon.com), Amazon.com, Inc.", Default: true,
		}
	}
	al2, al2023 := amazon("2"), amazon("2023")
	al2.Base = "https://cdn.amazonlinux.com/2"
	al2023.Base = "https://cdn.amazonlinux.com/al2023"
	redHat := Source{
		Format: CSAF, Ecosystems: []string{"Red Hat"}, Home: "https://security.access.redhat.com/data",
		Licence: ccBy4, Attribution: "Red Hat security data (https://security.access.redhat.com/data), Red Hat, Inc., CC-BY 4.0",
	}
	vex, csaf := redHat, redHat
	vex.Name, vex.Title, vex.Dir, vex.Default = "redhat/vex", "Red Hat VEX", "redhat/vex", true
	vex.Base = "https://security.access.redhat.com/data/csaf/v2/vex-feed"
	csaf.Name, csaf.Title, csaf.Dir = "redhat/csaf", "Red Hat advisories (CSAF)", "redhat/csaf"
	csaf.Base = "https://security.access.redhat.com/data/csaf/v2/advisories"
	return []Source{
		{
			Name: "alpine", Title: "Alpine security database", Format: SecDB, Ecosystems: []string{"Alpine"},
			Dir: "alpine-secdb", Base: "https://secdb.alpinelinux.org", Home: "https://secdb.alpinelinux.org",
			Licence: unstated, Attribution: "Alpine security database (https://secdb.alpinelinux.org), Alpine Linux developers", Default: true,
		},
		al2, al2023,
		{
			Name: "amazon/cve", Title: "Amazon Linux, the state of each CVE", Format: AmazonCVE, Ecosystems: []string{"Amazon Linux"},
			Dir: "amazon/cve", Base: "https://explore.alas.aws.amazon.com", Home: "https://explore.alas.aws.amazon.com",
			Licence: al2.Licence, Attribution: al2.Attribution, Default: true,
		},
		{
			Name: "chainguard", Title: "Chainguard security database", Format: SecDB, Ecosystems: []string{"Chainguard"},
			Dir: "chainguard", Base: "https://packages.cgr.dev/chainguard", Home: "https://images.chainguard.dev/security",
			Licence: unstated, Attribution: "Chainguard security database (https://packages.cgr.dev), Chainguard, Inc.",
		},
		{
			Name: "debian", Title: "Debian security tracker", Format: DebianTracker, Ecosystems: []string{"Debian"},
			Dir: "debian", Base: "https://security-tracker.debian.org/tracker/data", Home: "https://security-tracker.debian.org",
			Licence: debianText, Attribution: "Debian security tracker (https://security-tracker.debian.org), the Debian project", Default: true,
		},
		csaf, vex,
		{
			Name: "ubuntu", Title: "Ubuntu CVE tracker", Format: UbuntuTracker, Ecosystems: []string{"Ubuntu"},
			Dir: "ubuntu", Base: "https://ubuntu.com/security", Home: "https://ubuntu.com/security/cves",
			Licence: ccBySA, Attribution: "Ubuntu CVE tracker (https://ubuntu.com/security/cves), Canonical Ltd., CC-BY-SA 4.0",
		},
		{
			Name: "ubuntu/vex", Title: "Ubuntu VEX", Format: UbuntuVEX, Ecosystems: []string{"Ubuntu"},
			Dir: "ubuntu-vex", Base: "https://security-metadata.canonical.com/vex", Home: "https://ubuntu.com/security/vex",
			Licence: ccBySA, Attribution: "Ubuntu VEX data (https://github.com/canonical/ubuntu-security-notices), Canonical Ltd., CC-BY-SA 4.0", Default: true,
		},
		{
			Name: "wolfi", Title: "Wolfi security database", Format: SecDB, Ecosystems: []string{"Wolfi"},
			Dir: "wolfi", Base: "https://packages.wolfi.dev", Home: "https://images.chainguard.dev/security",
			Licence: unstated, Attribution: "Wolfi security database (https://packages.wolfi.dev), Chainguard, Inc.",
		},
	}
}

// exploits are what tells whether weaknesses are used.
func exploits() []Source {
	return []Source{
		{
			Name: "epss", Title: "Exploit prediction scores", Format: EPSS, Dir: "epss",
			Base: "https://epss.empiricalsecurity.com", Home: "https://www.first.org/epss",
			Licence: unstated, Attribution: "EPSS scores (https://www.first.org/epss), FIRST.org", Default: true,
		},
		{
			Name: "kev", Title: "Known exploited vulnerabilities", Format: KEV, Dir: "kev",
			Base: "https://www.cisa.gov/sites/default/files/feeds", Home: "https://www.cisa.gov/known-exploited-vulnerabilities-catalog",
			Licence: cc0, Attribution: "Known exploited vulnerabilities catalogue (https://www.cisa.gov), CISA", Default: true,
		},
	}
}
