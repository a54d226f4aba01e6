package untar

import (
	"fmt"
	"strconv"
	"strings"
)

// pax is what one extended header says, of what matters here. Empty values
// count as not given.
type pax struct {
	path, link     string
	uid, gid, size string
	times          [3]string
	capability     bool
	opaque         bool
	sparseMajor    string
	sparseMinor    string
	sparseName     string
	sparseSize     string
	sparseRealSize string
	sparseBlocks   string
	sparseMap      string
	sparsePairs    []string // offset, length, offset, … of version 0.0
}

// parsePAX reads records of the form "length key=value\n". s is at most
// maxSpecial long, which bounds their number.
func parsePAX(s string) (*pax, error) {
	x := &pax{}
	for len(s) > 0 {
		key, value, rest, ok := record(s)
		if !ok {
			return nil, fmt.Errorf("PAX record %.40q: %w", s, ErrHeader)
		}
		s = rest
		if err := x.set(key, value); err != nil {
			return nil, err
		}
	}
	if len(x.sparsePairs) > 0 {
		x.sparseMap = strings.Join(x.sparsePairs, ",")
	}
	return x, nil
}

func record(s string) (key, value, rest string, ok bool) {
	length, after, ok := strings.Cut(s, " ")
	if !ok {
		return "", "", "", false
	}
	const shortest = len("5 k=\n")
	n, err := strconv.ParseInt(length, 10, 0)
	if err != nil || n < int64(shortest) || n > int64(len(s)) {
		return "", "", "", false
	}
	n -= int64(len(length) + 1)
	if n <= 0 || after[n-1] != '\n' {
		return "", "", "", false
	}
	key, value, ok = strings.Cut(after[:n-1], "=")
	return key, value, after[n:], ok && validRecord(key, value)
}

func validRecord(key, value string) bool {
	switch key {
	case "":
		return false
	case "path", "linkpath", "uname", "gname":
		return strings.IndexByte(value, 0) < 0
	}
	return strings.IndexByte(key, 0) < 0
}

func (x *pax) set(key, value string) error {
	switch key {
	case "path":
		x.path = value
	case "linkpath":
		x.link = value
	case "uid":
		x.uid = value
	case "gid":
		x.gid = value
	case "size":
		x.size = value
	case "mtime":
		x.times[0] = value
	case "atime":
		x.times[1] = value
	case "ctime":
		x.times[2] = value
	case "SCHILY.xattr.security.capability":
		x.capability = value != ""
	case "SCHILY.xattr.trusted.overlay.opaque", "SCHILY.xattr.user.overlay.opaque":
		x.opaque = value == "y"
	default:
		return x.setSparse(key, value)
	}
	return nil
}

func (x *pax) setSparse(key, value string) error {
	switch key {
	case "GNU.sparse.major":
		x.sparseMajor = value
	case "GNU.sparse.minor":
		x.sparseMinor = value
	case "GNU.sparse.name":
		x.sparseName = value
	case "GNU.sparse.size":
		x.sparseSize = value
	case "GNU.sparse.realsize":
		x.sparseRealSize = value
	case "GNU.sparse.numblocks":
		x.sparseBlocks = value
	case "GNU.sparse.map":
		x.sparseMap = value
	case "GNU.sparse.offset", "GNU.sparse.numbytes":
		odd := len(x.sparsePairs)%2 == 1
		if odd != (key == "GNU.sparse.numbytes") || strings.Contains(value, ",") {
			return fmt.Errorf("sparse map out of order: %w", ErrHeader)
		}
		x.sparsePairs = append(x.sparsePairs, value)
	}
	return nil
}

// merge brings the values into h.
func (x *pax) merge(h *Header) error {
	if x.path != "" {
		h.Name = x.path
	}
	if x.link != "" {
		h.Link = x.link
	}
	h.Capability, h.Opaque = x.capability, x.opaque
	uid, gid := int64(h.UID), int64(h.GID)
	for _, f := range [...]struct {
		text string
		to   *int64
	}{{x.uid, &uid}, {x.gid, &gid}, {x.size, &h.Size}} {
		if f.text == "" {
			continue
		}
		n, err := strconv.ParseInt(f.text, 10, 64)
		if err != nil {
			return fmt.Errorf("PAX number %.24q: %w", f.text, ErrHeader)
		}
		*f.to = n
	}
	h.UID, h.GID = int(uid), int(gid)
	for _, t := range x.times {
		if t != "" && !isTime(t) {
			return fmt.Errorf("PAX time %.24q: %w", t, ErrHeader)
		}
	}
	return nil
}

// isTime takes seconds with a fraction of any length.
func isTime(s string) bool {
	seconds, fraction, _ := strings.Cut(s, ".")
	if _, err := strconv.ParseInt(seconds, 10, 64); err != nil {
		return false
	}
	return strings.Trim(fraction, "0123456789") == ""
}
