package camera

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
)

// archived writes an archive as a snapshot does, unsigned.
func archived(t *testing.T) []byte {
	t.Helper()
	return archivedAs(t, Manifest{Version: Version, Deed: "D", Agent: "host-1"}, nil)
}

func archivedAs(t *testing.T, m Manifest, as Identity) []byte {
	t.Helper()
	a, err := create(filepath.Join(t.TempDir(), "a.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"processes.json": "[]", "processes/1/status": "Name: sh"} {
		if err := a.put(name, []byte(body), false); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := a.finish(m, as)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(kept.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed writes an archive anew, with what do makes of its files; it may return other
// ones to be added.
func changed(t *testing.T, b []byte, do func(h *tar.Header, body []byte) ([]byte, bool), more ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	to := gzip.NewWriter(&out)
	w, r := tar.NewWriter(to), tar.NewReader(zip)
	put := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if body, keep := do(h, body); keep {
			put(h, body)
		}
	}
	for i := range more {
		put(&more[i], nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestVerify(t *testing.T) {
	b := archived(t)
	same := func(_ *tar.Header, body []byte) ([]byte, bool) { return body, true }
	of := func(name string, to []byte, keep bool) func(*tar.Header, []byte) ([]byte, bool) {
		return func(h *tar.Header, body []byte) ([]byte, bool) {
			if h.Name == name {
				return to, keep
			}
			return body, true
		}
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string // of what is wrong; empty: nothing
	}{
		{"as it was", b, ""},
		{"a file is another", changed(t, b, of("processes.json", []byte("{}"), true)), "has digest"},
		{"a file is longer", changed(t, b, of("processes.json", []byte("[0]"), true)), "has 3 bytes, not 2"},
		{"a file is missing", changed(t, b, of("processes/1/status", nil, false)), `"processes/1/status" is missing`},
		{"a file is more", changed(t, b, same, tar.Header{Name: "x", Typeflag: tar.TypeReg}), `"x" is not in the manifest`},
		{"a file is twice", changed(t, b, same, tar.Header{Name: "processes.json", Typeflag: tar.TypeReg}), `"processes.json" is there twice`},
		{"a link", changed(t, b, same, tar.Header{Name: "y", Linkname: "/etc/shadow", Typeflag: tar.TypeSymlink}), `"y" is no file`},
	} {
		v, err := Verify(bytes.NewReader(c.b))
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == "" && (len(v.Wrong) > 0 || v.Manifest.Agent != "host-1" || v.Size != int64(len(c.b))):
			t.Errorf("%s: %+v", c.name, v)
		case c.want != "" && !strings.Contains(strings.Join(v.Wrong, "; "), c.want):
			t.Errorf("%s: %q, want %s", c.name, v.Wrong, c.want)
		}
	}
	for name, b := range map[string][]byte{
		"cut": b[:len(b)-20], "empty": nil, "no archive": []byte("PK\x03\x04"), "no manifest": changed(t, b, of(manifestName, nil, false)),
		"its manifest is none": changed(t, b, of(manifestName, []byte("["), true)),
	} {
		if _, err := Verify(bytes.NewReader(b)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("PK"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := Verify(bytes.NewReader(b)); err == nil && v.Size != int64(len(b)) {
			t.Errorf("%d of %d bytes", v.Size, len(b))
		}
	})
}
