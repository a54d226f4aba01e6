package feeds

import (
	"crypto/md5" // #nosec G501 -- the sum that Google's storage tells, against damage and not against forgery
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
)

// partState is what is known of a file that was begun: what it must be continued
// with. It stands beside the file, so that the next run can go on.
type partState struct {
	url, etag, modified string
	sum                 checksum
	size                int64 // of what is here
}

// partFile is a partState on disk.
type partFile struct {
	URL          string `json:"url"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	SumName      string `json:"sum_name,omitempty"`
	Sum          string `json:"sum,omitempty"`
}

const partInfo = partSuffix + ".json"

// newPart is what an answer says of the file it begins.
func newPart(address string, resp *http.Response) partState {
	p := partState{url: address, etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified")}
	for part := range strings.SplitSeq(strings.Join(resp.Header.Values("X-Goog-Hash"), ","), ",") {
		if sum, ok := strings.CutPrefix(strings.TrimSpace(part), "md5="); ok {
			if b, err := base64.StdEncoding.DecodeString(sum); err == nil {
				p.sum = checksum{"md5", hex.EncodeToString(b)}
			}
		}
	}
	return p
}

// validator is what the rest must belong to. A weak one says only that the
// content means the same, which is not enough to put bytes together.
func (p partState) validator() string {
	if p.etag != "" && !strings.HasPrefix(p.etag, "W/") {
		return p.etag
	}
	return p.modified
}

// continuedBy reports whether an answer is the rest of the same file.
func (p partState) continuedBy(resp *http.Response) error {
	var first, last, total int64
	r := resp.Header.Get("Content-Range")
	if n, err := fmt.Sscanf(r, "bytes %d-%d/%d", &first, &last, &total); n != 3 || err != nil {
		return fmt.Errorf("%w: a part without its place: %.60q", errChanged, r)
	}
	switch {
	case first != p.size || last+1 != total:
		return fmt.Errorf("%w: got bytes %d to %d of %d, want from %d on", errChanged, first, last, total, p.size)
	case resp.ContentLength >= 0 && resp.ContentLength != last-first+1:
		return fmt.Errorf("%w: a part of %d bytes that says it has %d", errChanged, resp.ContentLength, last-first+1)
	}
	if etag := resp.Header.Get("ETag"); etag != "" && p.etag != "" && etag != p.etag {
		return errChanged
	}
	if m := resp.Header.Get("Last-Modified"); m != "" && p.modified != "" && m != p.modified {
		return errChanged
	}
	return nil
}

// loadPart returns what is known of the file that was begun for target; it is
// empty if there is none that can be continued.
func loadPart(target string) partState {
	info, err := os.Stat(target + partSuffix)
	if err != nil {
		return partState{}
	}
	data, err := os.ReadFile(target + partInfo)
	var p partFile
	if err != nil || json.Unmarshal(data, &p) != nil {
		return partState{}
	}
	s := partState{url: p.URL, etag: p.ETag, modified: p.LastModified, sum: checksum{p.SumName, p.Sum}, size: info.Size()}
	if s.validator() == "" {
		return partState{}
	}
	return s
}

func (p partState) save(target string) error {
	data, err := json.Marshal(partFile{p.url, p.etag, p.modified, p.sum.name, p.sum.hex})
	if err != nil {
		return err
	}
	return replace(target+partInfo, data)
}

// dropPart removes what was begun.
func dropPart(target string) error {
	var failed error
	for _, name := range [...]string{target + partSuffix, target + partInfo} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// checksum is what a publisher says of a file. Empty: nothing.
type checksum struct{ name, hex string }

// checkSum fails if a file is not what its publisher says.
func checkSum(name string, want checksum) error {
	var h hash.Hash
	switch want.name {
	case "":
		return nil
	case "md5":
		h = md5.New() // #nosec G401 -- see the import
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return nil // a kind of sum that this program doesn't know
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want.hex) {
		return fault.New(fault.Corrupt, "%w: its %s is %s, the publisher says %s", errChanged, want.name, got, want.hex)
	}
	return nil
}

// checkForm fails if a file does not begin as files of its name do: what answers
// instead of the publisher, a proxy that wants a login, must not replace a feed.
func checkForm(name, path string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	text := strings.TrimLeft(string(head), "\ufeff \t\r\n")
	ok := true
	switch {
	case strings.HasSuffix(path, ".zip"):
		ok = strings.HasPrefix(string(head), "PK")
	case strings.HasSuffix(path, ".gz"):
		ok = strings.HasPrefix(string(head), "\x1f\x8b")
	case strings.HasSuffix(path, ".zst"):
		ok = strings.HasPrefix(string(head), "\x28\xb5\x2f\xfd")
	case strings.HasSuffix(path, ".xz"):
		ok = strings.HasPrefix(string(head), xzMagic)
	case strings.HasSuffix(path, ".json"):
		ok = strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
	case strings.HasSuffix(path, ".csv"), strings.HasSuffix(path, ".txt"), strings.HasSuffix(path, ".list"):
		ok = !strings.HasPrefix(text, "<")
	}
	if !ok {
		return fault.New(fault.Conflict, "it begins with %.20q, not as a %s does", head, path[strings.LastIndexByte(path, '.')+1:]).
			With("something else than the publisher answered: a proxy or a login page?")
	}
	return nil
}
