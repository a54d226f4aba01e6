package vulndb_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

func TestExportAndImport(t *testing.T) {
	b := builder(t, vulndb.Options{})
	addAll(t, b, allSources...)
	path := write(t, b)
	plain := contents(t, path)
	var packed, again bytes.Buffer
	db := open(t, path)
	digest, size, err := db.Export(t.Context(), &packed)
	must(t, err)
	if size != int64(packed.Len()) || size >= int64(len(plain)) {
		t.Errorf("Export() wrote %d bytes, says %d, of a file of %d", packed.Len(), size, len(plain))
	}
	if second, _, err := db.Export(t.Context(), &again); err != nil || second != digest || !bytes.Equal(packed.Bytes(), again.Bytes()) {
		t.Errorf("a second Export() = %s, %v, want %s", second, err, digest)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	other := "sha256:" + strings.Repeat("0", 64)
	broken := slices.Clone(plain)
	broken[len(broken)-1] ^= 1
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		data   []byte
		digest string
		ok     bool
		kind   fault.Kind
	}{
		{"with its digest", t.Context(), packed.Bytes(), digest, true, 0},
		{"with none", t.Context(), packed.Bytes(), "", true, 0},
		{"not compressed", t.Context(), plain, "", true, 0},
		{"with another digest", t.Context(), packed.Bytes(), other, false, fault.Corrupt},
		{"cut short", t.Context(), packed.Bytes()[:packed.Len()-10], "", false, fault.Invalid},
		{"with something behind", t.Context(), append(packed.Bytes(), 'x'), "", false, fault.Invalid},
		{"something else", t.Context(), []byte("<html>not found</html>"), "", false, fault.Invalid},
		{"something else, compressed", t.Context(), compressed(t, []byte("<html>")), "", false, fault.Invalid},
		{"damaged before it was compressed", t.Context(), compressed(t, broken), "", false, fault.Corrupt},
		{"nothing", t.Context(), nil, "", false, fault.Invalid},
		{"stopped", ended, packed.Bytes(), "", false, fault.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			must(t, os.WriteFile(path, []byte("old"), 0o600))
			err := vulndb.Import(tc.ctx, bytes.NewReader(tc.data), tc.digest, path)
			want := []byte("old")
			if tc.ok {
				want = plain
			}
			if (err == nil) != tc.ok || fault.Of(err) != tc.kind {
				t.Errorf("Import() = %v (%v), want ok %v, %v", err, fault.Of(err), tc.ok, tc.kind)
			}
			if got := contents(t, path); !bytes.Equal(got, want) {
				t.Errorf("%d bytes at the path, want %d", len(got), len(want))
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func compressed(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	must(t, err)
	return z.EncodeAll(data, nil)
}
