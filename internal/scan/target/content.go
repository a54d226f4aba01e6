package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// HeadSize is how much of a file is looked at: documents say at their beginning
// what they are.
const HeadSize = 64 << 10

// Sniff says what can be scanned by its first bytes, as many as HeadSize, of what
// has no name that says it; "" for none of what is known.
func Sniff(head []byte) Kind {
	kind, _ := content(head)
	return kind
}

// atPath says what a file or folder is by what is in it.
func atPath(p string, info fs.FileInfo, files Files) (Target, error) {
	if info.IsDir() {
		kind, why := folder(p, files)
		return Target{Kinds: []Kind{kind}, Value: p, Guessed: why}, nil
	}
	if !info.Mode().IsRegular() {
		// A pipe would be emptied by looking into it.
		return Target{Kinds: []Kind{Archive}, Value: p, Guessed: "it is a pipe, so an archive is read from it"}, nil
	}
	head, err := files.Head(p, HeadSize)
	if errors.Is(err, fs.ErrPermission) {
		return Target{}, fault.New(fault.Denied, "look into %.200s: %w", p, err).With("run castellan as a user who may read it")
	}
	if err != nil {
		return Target{}, fmt.Errorf("look into %.200s: %w", p, err)
	}
	if kind, why := content(head); kind != "" {
		return Target{Kinds: []Kind{kind}, Value: p, Guessed: why}, nil
	}
	return Target{}, fault.New(fault.Unsupported, "%.200s is neither an archive of an image, a bill of materials nor a task definition", p).
		With("say what it is by a prefix, as sbom:" + p + "; for what a folder of source code needs, name the folder; for an image of that name write registry:" + p)
}

// folder says what a folder is. Marks are files that no other kind of folder
// has.
func folder(p string, files Files) (Kind, string) {
	for _, mark := range []string{"oci-layout", "index.json"} {
		if exists(files, path.Join(p, mark)) && exists(files, path.Join(p, "blobs")) {
			return Layout, "the folder has " + mark + " and blobs, as an image layout"
		}
	}
	for _, mark := range []string{"etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "lib/apk/db/installed", "var/lib/rpm"} {
		if exists(files, path.Join(p, mark)) {
			return Root, "the folder has " + mark + ", as a root file system"
		}
	}
	return Source, "it is a folder"
}

// content says what a file is by its first bytes; "" for none of what can be
// scanned.
func content(head []byte) (Kind, string) {
	if how := packed(head); how != "" {
		return Archive, "it is a " + how + " archive"
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")))
	switch {
	case bytes.HasPrefix(text, []byte("{")), bytes.HasPrefix(text, []byte("[")):
		return jsonDocument(text)
	case bytes.HasPrefix(text, []byte("<")) && bytes.Contains(text, []byte("<bom")) && bytes.Contains(text, []byte("cyclonedx")):
		return SBOM, "it is CycloneDX in XML"
	case bytes.HasPrefix(text, []byte("SPDXVersion:")), bytes.Contains(text, []byte("\nSPDXVersion:")):
		return SBOM, "it is SPDX as tags and values"
	case bytes.HasPrefix(text, []byte("spdxVersion:")), bytes.Contains(text, []byte("\nspdxVersion:")):
		return SBOM, "it is SPDX in YAML"
	}
	return "", ""
}

// packed names the form of an archive. Those that doors cannot read are among
// them, so that a door can say so.
func packed(head []byte) string {
	for _, form := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"bzip2", "BZh"}, {"xz", "\xfd7zXZ\x00"},
	} {
		if bytes.HasPrefix(head, []byte(form.magic)) {
			return form.name
		}
	}
	if isTar(head) {
		return "tar"
	}
	return ""
}

// isTar says whether head is a header of a tar archive, by its checksum.
func isTar(head []byte) bool {
	const size, at, width = 512, 148, 8
	if len(head) < size {
		return false
	}
	said, err := strconv.ParseInt(string(bytes.Trim(head[at:at+width], " \x00")), 8, 64)
	if err != nil {
		return false
	}
	sum := int64(width * ' ')
	for i, c := range head[:size] {
		if i < at || i >= at+width {
			sum += int64(c)
		}
	}
	return said == sum
}

// jsonDocument says what a JSON document is by its members' names, as far as
// they are within its head.
func jsonDocument(text []byte) (Kind, string) {
	d := json.NewDecoder(bytes.NewReader(text))
	first, err := d.Token()
	if err == nil && first == json.Delim('[') {
		first, err = d.Token()
	}
	if err != nil || first != json.Delim('{') {
		return "", ""
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", ""
		}
		switch key, _ := name.(string); strings.ToLower(key) {
		case "bomformat":
			return SBOM, "it is CycloneDX in JSON"
		case "spdxversion", "spdxid":
			return SBOM, "it is SPDX in JSON"
		case "containerdefinitions", "taskdefinition":
			return Task, "it is an ECS task definition"
		case "predicatetype":
			if bytes.Contains(text, []byte("spdx")) || bytes.Contains(text, []byte("cyclonedx")) {
				return SBOM, "it is a statement with a bill of materials"
			}
		case "@context", "@graph":
			if bytes.Contains(text, []byte("spdx.org/rdf/3")) || bytes.Contains(text, []byte(`"spdxId"`)) {
				return SBOM, "it is SPDX 3 in JSON"
			}
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return "", ""
		}
	}
	return "", ""
}
