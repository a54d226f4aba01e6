package jar

import (
	"bytes"
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// groupsText is a list of artifacts and their groups, from general knowledge of
// what projects publish.
//
//go:embed groups.txt
var groupsText string

// readGroups makes the list a table by the artifact's file name. A name that
// stands in two groups would be a guess and is left out.
func readGroups(text string) map[string]coordinates {
	groups := map[string]coordinates{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		for _, artifact := range words[1:] {
			file, artifact, renamed := strings.Cut(artifact, "=")
			if !renamed {
				artifact = file
			}
			if _, twice := groups[file]; twice {
				groups[file] = coordinates{}
				continue
			}
			groups[file] = coordinates{group: words[0], artifact: artifact}
		}
	}
	return groups
}

// maxRoots bounds how many packages of classes are remembered, and rootDepth how
// many parts of their names: enough to tell whose they are.
const (
	maxRoots  = 64
	rootDepth = 3
)

// contents is what is known of one archive.
type contents struct {
	place    string
	poms     []coordinates
	manifest manifest
	roots    []string      // org/springframework/core
	builds   []coordinates // of pom.xml files, without versions
	told     bool          // that there are too many records
}

// full says once that records are left out.
func (c *contents) full() error {
	if c.told {
		return nil
	}
	c.told = true
	return fmt.Errorf("more than %d records of Maven in one archive; the others are left out", maxPoms)
}

// addBuild remembers whose pom.xml an entry is: META-INF/maven/group/artifact/pom.xml.
func (c *contents) addBuild(name string) {
	rest, ok := strings.CutPrefix(name, mavenFolder)
	parts := strings.Split(rest, "/")
	if ok && len(parts) == 3 && len(c.builds) < maxPoms {
		c.builds = append(c.builds, coordinates{group: parts[0], artifact: parts[1]})
	}
}

// addClass remembers the package of a class.
func (c *contents) addClass(name []byte) {
	for _, folder := range []string{"BOOT-INF/classes/", "WEB-INF/classes/"} {
		name = bytes.TrimPrefix(name, []byte(folder))
	}
	end := 0
	for range rootDepth {
		i := bytes.IndexByte(name[end:], '/')
		if i < 0 {
			break
		}
		end += i + 1
	}
	root := name[:max(end-1, 0)]
	if len(root) == 0 || len(root) > 200 || len(c.roots) >= maxRoots || bytes.HasPrefix(root, []byte("META-INF/")) {
		return
	}
	// Classes of a package follow each other.
	for i := len(c.roots) - 1; i >= 0; i-- {
		if c.roots[i] == string(root) {
			return
		}
	}
	c.roots = append(c.roots, string(root))
}

// identify shows the packages that an archive is made of.
func (w *walk) identify(c *contents) error {
	file := path.Base(c.place[strings.LastIndexByte(c.place, '!')+1:])
	file = strings.TrimSuffix(file, path.Ext(file))
	if strings.HasSuffix(file, "-sources") || strings.HasSuffix(file, "-javadoc") {
		return nil // no program is in it
	}
	own := c.own(file)
	var shown []coordinates
	for i, p := range c.poms {
		place := p.place
		if p.place = ""; i == own {
			place = c.place
		}
		if slices.Contains(shown, p) {
			continue
		}
		shown = append(shown, p)
		if err := w.shown.Add(p.asPackage(place, inventory.Installed)); err != nil {
			return err
		}
	}
	if own >= 0 {
		return nil
	}
	p, found := w.analyser.infer(c, file)
	if slices.Contains(shown, p) {
		return nil
	}
	pkg := p.asPackage(c.place, found)
	if l := c.manifest.value("Bundle-License"); !strings.Contains(l, "/") && !strings.Contains(l, ",") {
		pkg.Licenses = []string{l}
	}
	return w.shown.Add(pkg)
}

// own returns which of the records is the archive's own: the one whose artifact
// the file is named after (the longest), or the only one.
func (c *contents) own(file string) int {
	own := -1
	for i, p := range c.poms {
		rest, ok := strings.CutPrefix(file, p.artifact)
		if ok && p.artifact != "" && p.version != "" && (rest == "" || rest[0] == '-' || rest[0] == '_' || rest[0] == '.') &&
			(own < 0 || len(p.artifact) > len(c.poms[own].artifact)) {
			own = i
		}
	}
	if own < 0 && len(c.poms) == 1 && c.poms[0].artifact != "" && c.poms[0].version != "" {
		own = 0
	}
	return own
}

// infer puts together what the manifest, the file's name and the classes say.
func (a Analyser) infer(c *contents, file string) (coordinates, inventory.Evidence) {
	m := c.manifest
	// The plugin of Jenkins for Maven states all of it.
	if group, v := m.value("Group-Id"), m.version("Plugin-Version"); group != "" && v != "" {
		for _, key := range []string{"Artifact-Id", "Short-Name", "Extension-Name"} {
			if name := m.value(key); name != "" {
				return coordinates{group: group, artifact: name, version: v}, inventory.Installed
			}
		}
	}
	name, version := splitFile(file)
	if version == "" {
		version = m.version("Implementation-Version", "Bundle-Version", "Specification-Version")
	}
	if version == "" {
		return coordinates{}, inventory.Inferred
	}
	names := []string{name}
	for _, key := range []string{"Implementation-Title", "Bundle-SymbolicName", "Automatic-Module-Name"} {
		if title := m.value(key); looksLikeArtifact(title) {
			names = append(names, title)
		}
	}
	for _, n := range names {
		if known := a.known(n, version); known.group != "" && (c.belongsTo(known.group) || c.isNamed(known.artifact)) {
			known.version = version
			return known, inventory.Inferred
		}
	}
	// Some put the group in front of the name.
	for i := strings.IndexByte(name, '.'); i > 0; {
		if known := a.known(name[i+1:], version); known.group == name[:i] {
			known.version = version
			return known, inventory.Inferred
		}
		next := strings.IndexByte(name[i+1:], '.')
		if next < 0 {
			break
		}
		i += next + 1
	}
	p := coordinates{artifact: name, version: version}
	for _, group := range []string{c.built(name), repositoryGroup(c.place, name, version), c.stated(name)} {
		if p.group == "" {
			p.group = group
		}
	}
	return p, inventory.Inferred
}

// built returns the group of the pom.xml from which an artifact was built, if it
// lies in the archive.
func (c *contents) built(artifact string) string {
	for _, b := range c.builds {
		if b.artifact == artifact {
			return b.group
		}
	}
	return ""
}

// repositoryGroup returns the group of an archive that lies where Maven and
// Gradle keep what they fetched, in folders named after all of it:
//
//	.m2/repository/org/foo/bar/1.0/bar-1.0.jar
//	.gradle/caches/modules-2/files-2.1/org.foo/bar/1.0/<digest>/bar-1.0.jar
func repositoryGroup(place, artifact, version string) string {
	if strings.ContainsRune(place, '!') {
		return ""
	}
	folder := path.Dir(place)
	if _, rest, ok := strings.Cut(folder, "/files-2.1/"); ok {
		parts := strings.Split(rest, "/")
		if len(parts) == 4 && parts[1] == artifact && parts[2] == version {
			return parts[0]
		}
		return ""
	}
	_, rest, ok := strings.Cut(folder, "/repository/")
	group, ok2 := strings.CutSuffix(rest, "/"+artifact+"/"+version)
	if !ok || !ok2 {
		return ""
	}
	return strings.ReplaceAll(group, "/", ".")
}

// known looks up an artifact; of those that changed their group with a major
// version the number is part of the key.
func (a Analyser) known(name, version string) coordinates {
	major, _, _ := strings.Cut(version, ".")
	if c := a.groups[name+major]; c.artifact == name {
		return c
	}
	return a.groups[name]
}

// vague are parts of group names that say nothing about whose it is.
const vague = " com org net edu gov io co de fr uk cn jp ru ch me dev java javax jakarta github google apache eclipse core api commons client common "

// belongsTo says whether the classes or the manifest bear out that the archive
// is of a group: a telling part of its name is among theirs, or the beginning
// of a name of which all parts are vague.
func (c *contents) belongsTo(group string) bool {
	text := strings.ToLower(strings.Join(c.roots, "/"))
	for _, v := range c.manifest {
		text += " " + strings.ToLower(v)
	}
	text = strings.NewReplacer("/", ".", "-", ".", "_", ".").Replace(text)
	telling := false
	for part := range strings.FieldsFuncSeq(strings.ToLower(group), func(r rune) bool { return r == '.' || r == '-' }) {
		if len(part) < 3 || strings.Contains(vague, " "+part+" ") {
			continue
		}
		telling = true
		if strings.Contains(text, part) {
			return true
		}
	}
	return !telling && strings.Contains(text, strings.ToLower(group))
}

// isNamed says that an archive without classes, as those are that hold nothing
// but resources or other archives, names itself as the artifact in its manifest.
// With classes it is they that have to bear out whose it is.
func (c *contents) isNamed(artifact string) bool {
	if len(c.roots) > 0 {
		return false
	}
	return slices.ContainsFunc([]string{"Implementation-Title", "Bundle-SymbolicName", "Automatic-Module-Name"}, func(key string) bool {
		name := c.manifest.value(key)
		return name == artifact || strings.ReplaceAll(name, ".", "-") == artifact
	})
}

// stated returns the group that the manifest states, if the classes bear it out.
func (c *contents) stated(artifact string) string {
	group := c.manifest.value("Implementation-Vendor-Id")
	if before, ok := strings.CutSuffix(c.manifest.value("Bundle-SymbolicName"), "."+artifact); ok {
		group = before
	}
	if !looksLikeArtifact(group) || !strings.Contains(group, ".") {
		return ""
	}
	prefix := strings.ReplaceAll(group, ".", "/")
	if slices.ContainsFunc(c.roots, func(root string) bool {
		return strings.HasPrefix(root+"/", prefix+"/") || strings.HasPrefix(prefix+"/", root+"/")
	}) {
		return group
	}
	return ""
}

// looksLikeArtifact tells names for programs from titles for people.
func looksLikeArtifact(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return true
}

// qualifiers are words that stand within versions.
const qualifiers = " alpha beta rc m cr snapshot final ga release sp jre android jdk incubating java b build pre preview ea redhat "

// splitFile cuts name-1.2.3 in two. A part that begins with a digit begins the
// version unless a word that isn't of versions and another number follow it, as
// in log4j-1.2-api-2.17.1.
func splitFile(file string) (name, version string) {
	parts := strings.Split(file, "-")
	at := 0
	for i := 1; i < len(parts); i++ {
		p := parts[i]
		switch {
		case p == "":
		case isDigit(p[0]):
			if at == 0 {
				at = i
			}
		case at > 0 && !strings.Contains(qualifiers, " "+strings.ToLower(strings.TrimRight(p, "0123456789."))+" ") &&
			slices.ContainsFunc(parts[i:], func(q string) bool { return q != "" && isDigit(q[0]) }):
			at = 0
		}
	}
	if at == 0 {
		return splitBundle(file)
	}
	return strings.Join(parts[:at], "-"), strings.Join(parts[at:], "-")
}

// splitBundle cuts name_1.2.3 in two, as OSGi writes it. Two numbers alone are of
// the language that a library of Scala is for.
func splitBundle(file string) (name, version string) {
	i := strings.LastIndexByte(file, '_')
	if i <= 0 || i+1 == len(file) || !isDigit(file[i+1]) || strings.Count(file[i:], ".") < 2 {
		return file, ""
	}
	return file[:i], file[i+1:]
}
