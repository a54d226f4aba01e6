// Command grypedb makes a database of schema 6 for grype, by grype's own builder,
// of the OSV documents that the other scanners are given. Grype's publisher makes
// it of other sources; there is no form for OSV in general, so each document is
// told as a security advisory of GitHub or, for distributions, of a distribution.
// It is a module of its own, because grype needs more than six hundred others.
//
//	go run . -advisories ../testdata/advisories/osv -out DIR
//
// AlmaLinux's are told as Red Hat's, since that is where grype looks for what
// affects AlmaLinux.
package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/OneOfOne/xxhash"
	grype "github.com/anchore/grype/grype/db"
	"github.com/anchore/grype/grype/db/provider"
)

func main() {
	advisories := flag.String("advisories", "../testdata/advisories/osv", "folder with one folder an ecosystem")
	out := flag.String("out", "", "folder for the database: grype's cache")
	flag.Parse()
	if err := run(*advisories, *out); err != nil {
		fmt.Fprintln(os.Stderr, "grypedb:", err)
		os.Exit(1)
	}
}

// document is as much of OSV as is told to grype.
type document struct {
	ID       string
	Summary  string
	Affected []struct {
		Package struct{ Ecosystem, Name string }
		Ranges  []struct {
			Type   string
			Events []map[string]string
		}
		Versions []string
	}
	Withdrawn string
}

func run(advisories, out string) error {
	work, err := os.MkdirTemp("", "castellan-grypedb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	files, err := filepath.Glob(filepath.Join(advisories, "*", "all.zip"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no advisories in %s: %w", advisories, err)
	}
	w := writer{dir: work, files: map[string][]string{}}
	for _, f := range files {
		if err := w.take(f); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	states, err := w.states()
	if err != nil {
		return err
	}
	out = filepath.Join(out, "6") // where grype looks for a database of this schema
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return grype.Build(grype.BuildConfig{SchemaVersion: 6, Directory: out, States: states, Timestamp: time.Now(), Hydrate: true,
		IncludeCPEParts: []string{"a"}, BatchSize: 100})
}

// writer writes what the builder reads, one folder a provider.
type writer struct {
	dir   string
	files map[string][]string // listing of each provider
}

func (w *writer) take(file string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return err
		}
		var d document
		err = errors.Join(json.NewDecoder(r).Decode(&d), r.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if d.Withdrawn != "" || len(d.Affected) == 0 {
			continue
		}
		if err := w.tell(&d); err != nil {
			return err
		}
	}
	return nil
}

// distributions are grype's names for releases, and its orders of versions.
var distributions = map[string]struct{ provider, namespace, format string }{
	"Debian:11": {"debian", "debian:11", "dpkg"}, "Alpine:v3.20": {"alpine", "alpine:3.20", "apk"}, "AlmaLinux:9": {"rhel", "rhel:9", "rpm"}}

func (w *writer) tell(d *document) error {
	const schemas = "https://raw.githubusercontent.com/anchore/vunnel/main/schema/vulnerability/"
	if release, ok := distributions[d.Affected[0].Package.Ecosystem]; ok {
		return w.put(release.provider, d.ID, schemas+"os/schema-1.1.0.json", []any{map[string]any{"Vulnerability": map[string]any{
			"Name": d.ID, "NamespaceName": release.namespace, "Severity": "Unknown", "FixedIn": d.fixedInDistribution(release.namespace, release.format)}}})
	}
	fixed := d.fixedIn()
	if len(fixed) == 0 {
		return nil
	}
	return w.put("github", d.ID, schemas+"github-security-advisory/schema-1.0.3.json", map[string]any{"Advisory": map[string]any{
		"ghsaId": d.ID, "Severity": "Unknown", "Summary": d.Summary, "FixedIn": fixed}, "Vulnerability": map[string]any{}})
}

// stream is a module stream in a summary: "Important: nodejs:18 security update".
var stream = regexp.MustCompile(`: (?:the )?([a-z0-9-]+:[a-z0-9.-]+) `)

func (d *document) fixedInDistribution(namespace, format string) (list []map[string]any) {
	for _, a := range d.Affected {
		for _, r := range a.Ranges {
			for _, e := range r.Events {
				if e["fixed"] == "" {
					continue
				}
				fix := map[string]any{"Name": a.Package.Name, "NamespaceName": namespace, "Version": e["fixed"], "VersionFormat": format}
				if m := stream.FindStringSubmatch(d.Summary); m != nil && strings.Contains(e["fixed"], ".module") {
					fix["Module"] = m[1]
				}
				list = append(list, fix)
			}
		}
	}
	return list
}

// ecosystems are grype's names of them.
var ecosystems = map[string]string{"Go": "go", "npm": "npm", "PyPI": "python", "Maven": "java", "NuGet": "nuget", "Packagist": "composer"}

// fixedIn tells each stretch of versions in GitHub's words.
func (d *document) fixedIn() (list []map[string]any) {
	for _, a := range d.Affected {
		add := func(stretch, fixed string) {
			list = append(list, map[string]any{"name": a.Package.Name, "ecosystem": ecosystems[a.Package.Ecosystem], "identifier": fixed, "range": stretch,
				"namespace": "github:" + ecosystems[a.Package.Ecosystem]})
		}
		for _, r := range a.Ranges {
			if r.Type == "GIT" {
				continue
			}
			from, open := "", false
			for _, e := range r.Events {
				switch {
				case e["introduced"] == "0": // pre-releases of 0.0.0 included
					from, open = "", true
				case e["introduced"] != "":
					from, open = ">= "+e["introduced"]+", ", true
				case e["fixed"] != "":
					add(from+"< "+e["fixed"], e["fixed"])
					open = false
				case e["last_affected"] != "":
					add(from+"<= "+e["last_affected"], "None")
					open = false
				}
			}
			if open {
				add(strings.TrimSuffix(from, ", "), "None")
			}
		}
		if len(a.Ranges) == 0 {
			for _, v := range a.Versions {
				add("= "+v, "None")
			}
		}
	}
	return list
}

// put writes one document, and notes its checksum.
func (w *writer) put(provider, id, schema string, item any) error {
	b, err := json.Marshal(map[string]any{"schema": schema, "identifier": id, "item": item})
	if err != nil {
		return err
	}
	name := filepath.Join("results", strings.NewReplacer("/", "_", ":", "_").Replace(id)+".json")
	path := filepath.Join(w.dir, provider, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	w.files[provider] = append(w.files[provider], fmt.Sprintf("%x  %s\n", xxhash.Checksum64(b), name))
	return os.WriteFile(path, b, 0o644)
}

// states describes what was written, as the builder wants it.
func (w *writer) states() (provider.States, error) {
	var states provider.States
	for name, files := range w.files {
		listing := []byte(strings.Join(files, ""))
		const schema = "https://raw.githubusercontent.com/anchore/vunnel/main/schema/provider-workspace-state/schema-1.0.3.json"
		about, err := json.Marshal(map[string]any{"provider": name, "urls": []string{}, "store": "flat-file", "timestamp": time.Now().UTC().Format(time.RFC3339),
			"version": 1, "distribution_version": 1, "processor": "castellan", "stale": false,
			"listing": map[string]any{"digest": fmt.Sprintf("%x", xxhash.Checksum64(listing)), "path": "checksums", "algorithm": "xxh64"},
			"schema":  map[string]any{"version": "1.0.3", "url": schema}})
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(w.dir, name)
		at := filepath.Join(dir, "metadata.json")
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "checksums"), listing, 0o644), os.WriteFile(at, about, 0o644)); err != nil {
			return nil, err
		}
		state, err := provider.ReadState(at)
		if err != nil {
			return nil, err
		}
		states = append(states, *state)
	}
	return states, nil
}
