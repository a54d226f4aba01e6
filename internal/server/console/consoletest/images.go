package consoletest

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
)

// Image is one image of the shop, and what became of its scan: it was read
// (Inside), or it failed, or it still waits.
type Image struct {
	ID, Reference, Digest string
	Seen                  time.Time
	Inside                *inventory.Inventory
	Findings              []finding.Vulnerability
	Judged                []store.Finding // secrets, faults and malware
	Failed                string          // why it could not be scanned
	Final                 bool            // nobody tries again
	Scanning              bool            // an agent is at it
	Gone                  bool            // no container of it was left before an agent was
	Used                  []string        // files of it that workloads executed or mapped
	InUse                 []string        // packages that these belong to
}

// ImageID is the id of the image of that name ("storefront:2.4.1").
func ImageID(name string) string {
	digit := map[string]string{
		"storefront:2.4.1": "a1", "api:2.4.1": "b2", "worker:2.4.0": "c3", "store:16": "d4",
		"client:1.0.0": "e5", "storefront:2.4.2": "f6", "hostile": "66",
	}[name]
	return "sha256:" + strings.Repeat(digit, 32)
}

const repository = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/"

// HostileReference is the name of an image that is an attack on the page.
var HostileReference = "registry.invalid/" + strings.Repeat("very-long-", 12) + "name:latest"

func shopImages(now time.Time) []Image {
	image := func(name string, seen time.Duration) Image {
		return Image{ID: ImageID(name), Reference: repository + name, Digest: "sha256:" + strings.Repeat("9f3c", 16), Seen: now.Add(-seen)}
	}
	storefront := image("storefront:2.4.1", 3*time.Hour)
	storefront.Inside, storefront.Findings = debian(now, storefront), storefrontFindings(now)
	storefront.Inside.Secrets, storefront.Inside.Malware = secrets(), hostiles()
	storefront.Used = []string{"/usr/lib/x86_64-linux-gnu/libssl.so.3", "/srv/app/node_modules/lodash/lodash.js"}
	storefront.InUse = []string{"libssl3", "lodash"}
	next := image("storefront:2.4.2", 20*time.Minute)
	next.Inside, next.Findings = debian(now, next), storefrontFindings(now)[4:5]
	for i := range next.Inside.Packages {
		switch p := &next.Inside.Packages[i]; p.Source.Name + p.Name {
		case "lodash":
			p.Version = "4.17.21"
		case "openssllibssl3", "opensslopenssl":
			p.Version, p.Source.Version = "3.0.13-1~deb12u1", "3.0.13-1~deb12u1"
		}
	}
	api := image("api:2.4.1", 3*time.Hour)
	api.Inside, api.Findings = alpine(now, api), apiFindings(now)
	worker := image("worker:2.4.0", 2*time.Hour)
	worker.Failed = "read layer 3: the engine closed the connection"
	base := image("store:16", 30*time.Hour)
	base.Scanning = true
	client := image("client:1.0.0", 50*time.Hour)
	client.Failed, client.Final = "layer 2 is damaged: its digest is not what the manifest says; pull the image anew on that host", true
	all := []Image{storefront, next, api, worker, base, client, hostileImage(now)}
	for i := range all {
		if all[i].Inside != nil {
			all[i].Judged = append(images.Judge(all[i].Inside, now), all[i].Judged...)
		}
	}
	return all
}

// hostiles are what somebody brought into the storefront.
func hostiles() []inventory.Malware {
	return []inventory.Malware{{
		Place: inventory.Place{Path: "/srv/app/upload/.x", Layer: 4}, Rule: "miner_xmrig", Title: "XMRig, which mines Monero", Family: "XMRig",
		Kind: inventory.Miner, Techniques: []string{"T1496"}, By: inventory.ByRule, SHA256: strings.Repeat("5e", 32), Size: 6_291_456, Print: strings.Repeat("e", 32),
	}}
}

// secrets are what somebody left in the storefront: one in the open, one that a
// later layer deletes, one in a variable.
func secrets() []inventory.Secret {
	print := func(digit string) string { return strings.Repeat(digit, 32) }
	return []inventory.Secret{
		{Source: inventory.InEnv, Rule: "password", Name: "DB_PASSWORD", Length: 18, Same: print("3"), Print: print("c")},
		{Place: inventory.Place{Path: "/root/.ssh/id_ed25519", Layer: 2}, Rule: "private-key", Line: 1, Column: 1, Length: 399, Key: inventory.KeyWhole,
			Hidden: &inventory.Hidden{Layer: 4, Deleted: true}, Same: print("2"), Print: print("b")},
		{Place: inventory.Place{Path: "/srv/app/config/production.json", Layer: 3}, Rule: "aws-access-token", Name: "accessKeyId", Line: 12, Column: 19, Length: 20,
			Account: "123456789012", Same: print("1"), Print: print("a")},
	}
}

// layers of an image, from the base up, with what made them.
func layers(made ...string) []inventory.Layer {
	out := make([]inventory.Layer, 0, len(made))
	for i, m := range made {
		digest := "sha256:" + strings.Repeat("0123456789abcdef"[i:i+1], 64)
		out = append(out, inventory.Layer{Digest: digest, DiffID: digest, Size: 28_231_473 >> (2 * i), Instruction: m})
	}
	return out
}

func inside(now time.Time, of Image, os inventory.OS, packages []inventory.Package, ls []inventory.Layer) *inventory.Inventory {
	inventory.SortPackages(packages)
	return &inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: of.Reference},
		Image: &inventory.Image{
			Reference: of.Reference, ID: of.ID, Digest: of.Digest, Platform: inventory.Platform{OS: "linux", Architecture: "amd64"},
			Created: now.Add(-9 * 24 * time.Hour), Layers: ls,
		},
		OS: os, Packages: packages, Analysis: scan.Analysis, Made: now.Add(-3 * time.Hour),
	}
}

func pkg(kind, name, version, source, path string, layer int) inventory.Package {
	p := inventory.Package{
		Type: kind, Name: name, Version: version, Places: []inventory.Place{{Path: path, Layer: layer}}, Found: inventory.Installed,
		Ecosystem: map[string]string{"deb": "Debian:12", "apk": "Alpine:v3.20", "npm": "npm", "golang": "Go"}[kind],
	}
	if source != "" {
		p.Namespace, p.Arch, p.Source = "debian", "amd64", inventory.Source{Name: source, Version: version}
	}
	return p
}

const dpkg, app = "/var/lib/dpkg/status", "/srv/app/node_modules/"

func libssl() inventory.Package {
	p := pkg("deb", "libssl3", "3.0.9-1", "openssl", dpkg, 1)
	p.Files = []string{"/usr/lib/x86_64-linux-gnu/libssl.so.3"}
	return p
}
func openssl() inventory.Package {
	return pkg("deb", "openssl", "3.0.9-1", "openssl", dpkg, 2)
}
func zlib() inventory.Package {
	return pkg("deb", "zlib1g", "1:1.2.13.dfsg-1", "zlib", dpkg, 1)
}
func lodash() inventory.Package {
	return pkg("npm", "lodash", "4.17.15", "", app+"lodash/package.json", 4)
}

func debian(now time.Time, of Image) *inventory.Inventory {
	inv := inside(now, of, inventory.OS{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"},
		[]inventory.Package{
			libssl(), openssl(), zlib(), lodash(),
			pkg("deb", "bash", "5.2.15-2", "bash", dpkg, 1), pkg("deb", "ca-certificates", "20230311", "ca-certificates", dpkg, 2),
			pkg("npm", "express", "4.18.2", "", app+"express/package.json", 4),
		},
		layers("ADD file:85db4f4c5016f51a1f6d8b4c1c9a4d9f in /", "RUN apt-get update && apt-get install -y --no-install-recommends openssl ca-certificates curl && rm -rf /var/lib/apt/lists/*",
			"COPY package.json package-lock.json /srv/app/", "RUN npm ci --omit=dev"))
	inv.Files = []inventory.File{
		{Place: inventory.Place{Path: "/usr/bin/passwd", Layer: 1}, Mode: 0o4755, Why: inventory.SetUID, Owner: "passwd"},
		{Place: inventory.Place{Path: "/srv/app/upload", Layer: 4}, Mode: 0o777, Why: inventory.WorldWritable},
	}
	inv.Problems = []inventory.Problem{{Place: inventory.Place{Path: app + "broken/package.json", Layer: 4}, What: "not JSON: unexpected end of input"}}
	return inv
}

func alpine(now time.Time, of Image) *inventory.Inventory {
	return inside(now, of, inventory.OS{ID: "alpine", Version: "3.20.1", Name: "Alpine Linux v3.20"},
		[]inventory.Package{
			pkg("apk", "musl", "1.2.5-r0", "musl", "/lib/apk/db/installed", 1), netGo(),
		},
		layers("ADD alpine-minirootfs-3.20.1-x86_64.tar.gz / # buildkit", "COPY /out/api /api"))
}

func netGo() inventory.Package {
	return pkg("golang", "golang.org/x/net", "v0.17.0", "", "/api", 2)
}

// vulnerability is one finding, complete enough for every part of a page.
func vulnerability(now time.Time, id string, s finding.Severity, p inventory.Package, fixed, summary string) finding.Vulnerability {
	v := finding.Vulnerability{
		ID: id, Package: p, Severity: s, SeverityBy: "Debian", State: finding.Unfixed, Fixed: fixed, Summary: summary,
		Remedy:     "Wait for a fix of " + p.Name + ".",
		Weaknesses: []string{"CWE-787"}, References: []string{"https://security-tracker.debian.org/tracker/" + id},
		Advisories: []finding.Statement{{ID: id, Source: "debian", Fixed: fixed}},
		Published:  now.Add(-400 * 24 * time.Hour), Modified: now.Add(-30 * 24 * time.Hour),
	}
	if fixed != "" {
		v.State, v.Remedy = finding.Fixable, "Move "+p.Name+" to "+fixed+"."
	}
	v.Print()
	return v
}

func storefrontFindings(now time.Time) []finding.Vulnerability {
	exploited := vulnerability(now, "CVE-2024-21538", finding.Critical, lodash(), "4.17.21", "Prototype pollution in zipObjectDeep lets a request change the behaviour of every object of the program.")
	exploited.Aliases, exploited.InUse = []string{"GHSA-p6mc-m468-83gw"}, true
	exploited.SeverityBy = "CVSS:3.1"
	exploited.Scores = []finding.Score{{Version: "3.1", Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", Base: 9.8, By: "nvd"}, {Version: "4.0", Vector: "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", Base: 9.3}}
	exploited.EPSS = &advisory.Probability{CVE: exploited.ID, EPSS: 0.9432, Percentile: 0.998, Date: now}
	exploited.KEV = &advisory.Exploited{CVE: exploited.ID, Name: "Prototype pollution", Added: now.Add(-60 * 24 * time.Hour), Due: now.Add(-39 * 24 * time.Hour), Ransomware: true, Action: "Apply updates per vendor instructions."}
	exploited.References = append(exploited.References, "https://github.com/advisories/GHSA-p6mc-m468-83gw", "http://plain.example/advisory", "javascript:alert(1)")
	inUse := vulnerability(now, "CVE-2023-5363", finding.High, libssl(), "3.0.11-1~deb12u2", "Incorrect cipher key and IV length processing")
	inUse.InUse = true
	inUse.EPSS = &advisory.Probability{CVE: inUse.ID, EPSS: 0.031, Percentile: 0.86, Date: now}
	slow := vulnerability(now, "CVE-2023-3817", finding.Medium, libssl(), "3.0.10-1~deb12u1", "Excessive time spent checking DH q parameter value")
	slow.InUse = true
	wont := vulnerability(now, "CVE-2023-45853", finding.Critical, zlib(), "", "Integer overflow and heap-based buffer overflow in zipOpenNewFileInZip4_6 of MiniZip")
	wont.State, wont.Note = finding.WontFix, "contrib/minizip is not built"
	return []finding.Vulnerability{
		exploited, inUse,
		vulnerability(now, "CVE-2023-5363", finding.High, openssl(), "3.0.11-1~deb12u2", "Incorrect cipher key and IV length processing"),
		slow,
		wont,
		vulnerability(now, "CVE-2024-0727", finding.Low, openssl(), "3.0.13-1~deb12u1", "Denial of service via null dereference"),
	}
}

func apiFindings(now time.Time) []finding.Vulnerability {
	v := vulnerability(now, "CVE-2023-45288", finding.High, netGo(), "v0.23.0", "An HTTP/2 endpoint can be made to read an unbounded number of headers.")
	v.Aliases = []string{"GO-2024-2687"}
	return []finding.Vulnerability{v, vulnerability(now, "CVE-2023-45853", finding.Unknown, pkg("apk", "musl", "1.2.5-r0", "musl", "/lib/apk/db/installed", 1), "", "")}
}

// hostileImage is one whose every text is an attack.
func hostileImage(now time.Time) Image {
	of := Image{ID: ImageID("hostile"), Reference: HostileReference, Seen: now.Add(-9 * time.Minute)}
	p := pkg("npm", HostileName, HostileName, "", "/"+HostileName, 1)
	of.Inside = inside(now, of, inventory.OS{ID: "x", Name: HostileName}, []inventory.Package{p}, layers(HostileArg))
	of.Inside.Problems = []inventory.Problem{{Place: inventory.Place{Path: "/" + HostileName}, What: HostileArg}}
	of.Inside.Files = []inventory.File{{Place: inventory.Place{Path: "/" + HostileName}, Why: inventory.SetUID, Owner: HostileName}}
	v := vulnerability(now, "CVE-2020-9999", finding.Medium, p, HostileName, HostileArg)
	v.References = []string{"https://evil.example/\"><script>alert(1)</script>", "https://user:pass@evil.example/", "data:text/html,x", "https://\u202eevil.example/"}
	v.Note, v.SeverityBy, v.Aliases = HostileArg, HostileName, []string{HostileName}
	v.Advisories = []finding.Statement{{ID: HostileName, Source: HostileArg}}
	v.Print()
	of.Findings = []finding.Vulnerability{v}
	of.Inside.Secrets = []inventory.Secret{{
		Place: inventory.Place{Path: "/" + HostileName, Layer: 1}, Rule: "generic-api-key", Name: HostileArg, Line: 1, Length: 40,
		Same: strings.Repeat("4", 32), Print: strings.Repeat("d", 32),
	}}
	return of
}
