package feeds

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

// secdbReader reads Alpine's security database, one file a branch and repository,
// and those of Wolfi and Chainguard, which have the same form without a branch:
//
//	{"distroversion": "v3.20", "reponame": "main", "packages": [
//	  {"pkg": {"name": "xen", "secfixes": {"4.18.0-r1": ["CVE-2023-46837 XSA-447"], "0": ["CVE-2021-1"]}}}]}
//
// A name is of the package that others are built with (the origin); version "0"
// means that it was looked at and never affected.
type secdbReader struct {
	source Source
	tally  *Tally
	json   pull.Reader
	words  words
	// What all files say of each weakness, in the order in which they come.
	ids   []string
	said  map[string]*advisory.Advisory
	fixes int
}

// document takes in one file. It hands over nothing: the same weakness is in all
// branches, and finish hands over what all of them say.
func (s *secdbReader) document(doc []byte, _ func(*advisory.Advisory) bool) error {
	// The branch may come after the packages, so it is looked for first.
	branch, err := s.branch(doc)
	if err != nil {
		return err
	}
	ecosystem := s.source.Ecosystems[0]
	if branch != "" {
		ecosystem += ":" + branch
	} else if ecosystem == "Alpine" {
		return errors.New("the document has no distroversion")
	}
	r := &s.json
	r.Reset(doc)
	listed := false // an empty list is a branch without fixes
	if r.Object() {
		for r.Next() {
			if string(r.Key()) != "packages" {
				r.Skip()
				continue
			}
			listed = true
			s.packages(ecosystem)
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if !listed {
		return errors.New("the document has no packages: its form has changed")
	}
	return nil
}

func (s *secdbReader) branch(doc []byte) (string, error) {
	r := &s.json
	r.Reset(doc)
	branch := ""
	if r.Object() {
		for r.Next() {
			if string(r.Key()) == "distroversion" {
				branch = r.Text()
			} else {
				r.Skip()
			}
		}
	}
	if len(branch) > maxName {
		return "", errTooLong
	}
	return branch, r.End()
}

func (s *secdbReader) packages(ecosystem string) {
	r := &s.json
	if !r.Array() {
		return
	}
	for r.Next() {
		if !r.Object() {
			continue
		}
		for r.Next() {
			if string(r.Key()) == "pkg" {
				s.pkg(ecosystem)
			} else {
				r.Skip()
			}
		}
	}
}

// pkg takes in the fixes of one package, which may come before its name.
func (s *secdbReader) pkg(ecosystem string) {
	r := &s.json
	name := ""
	var fixes []fix
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "name":
				name = s.words.of(r.Bytes())
			case "secfixes":
				fixes = s.secfixes(fixes[:0])
			default:
				r.Skip()
			}
		}
	}
	if r.Err() != nil {
		return
	}
	if name == "" || len(name) > maxName {
		s.tally.fail(fmt.Sprintf("package %.60q", name), errors.New("no usable name"))
		return
	}
	for _, f := range fixes {
		if s.fixes++; s.fixes > maxMentions {
			r.Fail(tooMany("fixes", maxMentions))
			return
		}
		s.add(ecosystem, name, f)
	}
}

// fix is one entry below a version.
type fix struct {
	version string
	ids     []string // the first is its name
}

// secfixes reads the versions of one package. One entry may hold several names of
// a weakness, and some versions hold null for none.
func (s *secdbReader) secfixes(fixes []fix) []fix {
	r := &s.json
	if r.Kind() != pull.Struct { // some packages have an empty list instead
		r.Skip()
		return fixes
	}
	r.Object()
	for r.Next() {
		version := s.words.of(r.Key())
		if len(version) > maxName {
			r.Fail(errTooLong)
		}
		if !r.Array() {
			continue
		}
		for r.Next() {
			if len(fixes) == maxRanges {
				r.Fail(errRanges)
				break
			}
			if ids := names(strings.Fields(r.Scalar())); len(ids) > 0 {
				fixes = append(fixes, fix{version, ids})
			}
		}
	}
	return fixes
}

// add takes in one fix of one package.
func (s *secdbReader) add(ecosystem, name string, f fix) {
	p := advisory.Affected{Ecosystem: ecosystem, Package: name, Of: advisory.OfSource}
	if f.version == "0" {
		p.Status = advisory.NotAffected
	} else {
		p.Ranges = []advisory.Range{{Fixed: f.version}}
	}
	id := f.ids[0]
	for i, other := range f.ids { // "XSA-200 CVE-2016-9932"
		if isCVE(other) && !isCVE(id) {
			f.ids[0], f.ids[i] = f.ids[i], f.ids[0]
			id = other
		}
	}
	a := s.said[id]
	if a == nil {
		if s.said == nil {
			s.said = map[string]*advisory.Advisory{}
		}
		a = &advisory.Advisory{ID: id, Source: s.source.Name, References: s.references(id)}
		s.said[id] = a
		s.ids = append(s.ids, id)
	}
	for _, alias := range f.ids[1:] {
		if !slices.Contains(a.Aliases, alias) && len(a.Aliases) < maxNames {
			a.Aliases = append(a.Aliases, alias)
		}
	}
	a.Affected = append(a.Affected, p)
}

// finish hands over what all files say, until it is told to stop. A weakness with
// more packages than any has is broken.
func (s *secdbReader) finish(give func(*advisory.Advisory) bool) {
	for _, id := range s.ids {
		a := s.said[id]
		if len(a.Affected) > maxAffected {
			s.tally.fail(id, tooMany("affected packages", maxAffected))
			continue
		}
		if !give(a) {
			return
		}
	}
}

func (s *secdbReader) references(id string) []advisory.Reference {
	if s.source.Ecosystems[0] != "Alpine" || !isCVE(id) {
		return nil
	}
	return []advisory.Reference{{Kind: "advisory", URL: "https://security.alpinelinux.org/vuln/" + id}}
}
