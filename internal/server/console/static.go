package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// staticPrefix is where the console's own files are.
const staticPrefix = "/static/"

// static holds them; what others wrote is below vendor, with its licences.
//
//go:embed static
var static embed.FS

// assets serves the embedded files below /static/<hash>/. The hash is of all
// of them together, so that the addresses within a style sheet can be relative
// and every answer can be kept for ever.
type assets struct {
	base  string // "/static/<hash>/"
	files map[string]file
}

type file struct {
	kind   string
	plain  []byte
	packed []byte // gzip; nil when that saves too little
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]file{}}
	sum := sha256.New()
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(b))
		sum.Write(b)
		f, err := packed(name, b)
		a.files[strings.TrimPrefix(name, "static/")] = f
		return err
	})
	if err != nil {
		return nil, err
	}
	a.base = staticPrefix + hex.EncodeToString(sum.Sum(nil))[:16] + "/"
	return a, nil
}

func packed(name string, b []byte) (file, error) {
	f := file{kind: contentType(name), plain: b}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return f, err
	}
	if _, err := z.Write(b); err != nil {
		return f, err
	}
	if err := z.Close(); err != nil {
		return f, err
	}
	if out.Len() < len(b)*9/10 {
		f.packed = out.Bytes()
	}
	return f, nil
}

// contentType is by our own list: the machine's mime table is not asked, so
// that nothing but what we ship decides what a browser runs.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	}
	return "text/plain; charset=utf-8"
}

// url returns the address of a file.
func (a *assets) url(name string) string { return a.base + name }

// ServeHTTP answers with the file, or 404 for an unknown one. An address with
// an old hash gets the present file, but may not be kept.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, staticPrefix), "/")
	f, ok := a.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if staticPrefix+hash+"/" == a.base {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := f.plain
	if f.packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = f.packed
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the browser went away; there is nobody to tell
	}
}

func (c *Console) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, c.assets.url("mark.svg"), http.StatusFound)
}
