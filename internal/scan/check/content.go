package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse/caches"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// contentChecks are checks about what is in an image.
func contentChecks() []Check {
	return []Check{
		{ID: "CAST-IMAGE-007", Title: "Set-uid programs that no package brought", Severity: finding.Medium,
			Why:       "Whoever may execute such a program acts as its owner, who is root for most; nobody maintains one that no package brought.",
			Remedy:    "Remove the bit (chmod a-s), or the program.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.8"}},
			find: builds(func(b *blueprint.Build, hits report) {
				for _, f := range b.Files {
					if (f.Why == string(inventory.SetUID) || f.Why == string(inventory.SetGID)) && f.Owner == "" {
						hits(hit{subject: f.Path, layer: f.Layer, evidence: fmt.Sprintf("%s is %s", f.Path, f.Why)})
					}
				}
			})},
		{ID: "CAST-IMAGE-021", Title: "Set-uid programs of the distribution", Severity: finding.Negligible,
			Why:       "su, mount and their like are of no use in a container, and were ways to root before.",
			Remedy:    "Remove the bits (find / -xdev -perm /6000 -type f -exec chmod a-s {} +), or build upon an image without them.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.8"}},
			find: builds(func(b *blueprint.Build, hits report) {
				var paths []string
				for _, f := range b.Files {
					if (f.Why == string(inventory.SetUID) || f.Why == string(inventory.SetGID)) && f.Owner != "" {
						paths = append(paths, f.Path)
					}
				}
				if len(paths) > 0 {
					hits(hit{evidence: some(paths)})
				}
			})},
		{ID: "CAST-IMAGE-013", Title: "Files are writable for everybody", Severity: finding.Low,
			Why:    "Any process in the container can change them, and with them what another one, or root, will run or read.",
			Remedy: "Give them to the user who needs them, and take the right from others (chmod o-w).",
			find: builds(func(b *blueprint.Build, hits report) {
				byLayer := map[int][]string{}
				var order []int
				for _, f := range b.Files {
					if f.Why != string(inventory.WorldWritable) {
						continue
					}
					if byLayer[f.Layer] == nil {
						order = append(order, f.Layer)
					}
					byLayer[f.Layer] = append(byLayer[f.Layer], f.Path)
				}
				for _, layer := range order {
					paths := byLayer[layer]
					hits(hit{layer: layer, subject: paths[0], evidence: some(paths)})
				}
			})},
		{ID: "CAST-IMAGE-010", Title: "Server for remote shells is in the image", Severity: finding.Medium,
			Why:       "A container needs no ssh: it is a second way in with keys of its own that no trail records.",
			Remedy:    "Remove the package, and use ECS Exec or docker exec.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.7"}},
			find:      packages("openssh-server", "dropbear", "dropbear-bin", "telnetd", "inetutils-telnetd", "tinyssh")},
		{ID: "CAST-IMAGE-022", Title: "sudo is in the image", Severity: finding.Low,
			Why:       "It is a set-uid program that leads to root, in a container that has one user.",
			Remedy:    "Remove the package; switch users with USER.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.3"}},
			find:      packages("sudo", "doas", "opendoas")},
		{ID: "CAST-IMAGE-015", Title: "Compilers and debuggers are in the image", Severity: finding.Negligible,
			Why:       "They help whoever got in to build and to look for more, and have weaknesses of their own.",
			Remedy:    "Build in a stage of its own, and copy the result.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.3"}},
			find:      together("gcc", "g++", "clang", "make", "build-base", "build-essential", "gdb", "strace", "golang", "golang-go", "rustc")},
		{ID: "CAST-IMAGE-016", Title: "Network tools are in the image", Severity: finding.Negligible,
			Why:       "They are what is used first from a foothold: to look around, and to fetch more.",
			Remedy:    "Leave them out of what is deployed.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.3"}},
			find:      together("nmap", "netcat", "netcat-openbsd", "netcat-traditional", "ncat", "socat", "tcpdump", "telnet", "hping3", "masscan", "proxychains4")},
		{ID: "CAST-IMAGE-023", Title: "Package caches are in the image", Severity: finding.Negligible,
			Why:    "They make every pull slower, and show what was installed from where.",
			Remedy: "Remove the cache in the step that fills it: a later one hides it and leaves its bytes.",
			find:   builds(cacheFiles)},
	}
}

// packages finds each of some packages.
func packages(names ...string) finder {
	return builds(func(b *blueprint.Build, hits report) {
		for _, p := range b.Packages {
			if slices.Contains(names, p.Name) {
				hits(hit{subject: "package " + p.Name, layer: p.Layer, evidence: "package " + p.Name})
			}
		}
	})
}

// together finds some packages as one fault.
func together(names ...string) finder {
	return builds(func(b *blueprint.Build, hits report) {
		var have []string
		for _, p := range b.Packages {
			if slices.Contains(names, p.Name) && !slices.Contains(have, p.Name) {
				have = append(have, p.Name)
			}
		}
		if len(have) > 0 {
			hits(hit{evidence: some(have)})
		}
	})
}

// cacheFiles sums what lies in caches, by cache and layer.
func cacheFiles(b *blueprint.Build, hits report) {
	type where struct {
		folder string
		layer  int
	}
	sizes := map[where]int64{}
	counts := map[where]int{}
	var order []where
	for _, f := range b.Files {
		if f.Why != string(inventory.PackageCache) {
			continue
		}
		w := where{caches.Of(f.Path), f.Layer}
		if counts[w] == 0 {
			order = append(order, w)
		}
		sizes[w] += f.Size
		counts[w]++
	}
	for _, w := range order {
		hits(hit{subject: w.folder, layer: w.layer, evidence: fmt.Sprintf("%s: %d files, %.1f MB", w.folder, counts[w], float64(sizes[w])/1e6)})
	}
}

// some names the first few.
func some(names []string) string {
	const shown = 5
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}
