package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
)

// TestAScanThatFailsSaysWhy runs the real child, with an engine that has no
// image.
func TestAScanThatFailsSaysWhy(t *testing.T) {
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/version"):
			_, _ = w.Write([]byte(`{"Version":"20.10"}`))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"message":"No such image"}`))
		}
	})}
	go func() { _ = engine.Serve(l) }()
	t.Cleanup(func() { _ = engine.Close() })

	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	door, err := docker.New(docker.Options{Host: "unix://" + socket}, log)
	if err != nil {
		t.Fatal(err)
	}
	g := &globals{dataDir: t.TempDir()}
	s, err := g.openScanner(door, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.program.Close()
	for range 2 { // the second finds the folder as the first left it
		_, err = s.ScanImage(t.Context(), link.ScanWish{ImageID: "sha256:" + strings.Repeat("a", 64), Reference: "--web:1", Salt: link.Salt("a salt of 20 bytes.")})
		if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "No such image") || fault.Remedy(err) == "" {
			t.Errorf("got %v (%v, remedy %q), want not found: No such image, with a remedy", err, fault.Of(err), fault.Remedy(err))
		}
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = s.ScanImage(t.Context(), link.ScanWish{ImageID: "sha256:" + strings.Repeat("a", 64)}); err == nil {
		t.Error("an image of an engine that is away was scanned")
	}
}

func TestReadScanError(t *testing.T) {
	for _, tc := range []struct {
		name, stdout string
		kind         fault.Kind
		text, remedy string
	}{
		{"an error", `{"kind":"not found","error":"no image","remedy":"pull it"}`, fault.NotFound, "no image", "pull it"},
		{"of an unknown kind", `{"kind":"funny","error":"no image"}`, fault.Unknown, "no image", ""},
		{"nothing", "", fault.Unavailable, `the scan ended with code 7: out of \x1b[2J`, ""},
		{"what is none", "\x28\xb5\x2f\xfd", fault.Unavailable, `the scan ended with code 7: out of \x1b[2J`, ""},
		{"half of one", `{"kind":"not found","error":`, fault.Unavailable, `the scan ended with code 7: out of \x1b[2J`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := readScanError(self.Output{Stdout: []byte(tc.stdout), Stderr: []byte("out of \x1b[2J"), Code: 7})
			if err.Error() != tc.text || fault.Of(err) != tc.kind || fault.Remedy(err) != tc.remedy {
				t.Errorf("got %q (%v, remedy %q), want %q (%v, %q)", err, fault.Of(err), fault.Remedy(err), tc.text, tc.kind, tc.remedy)
			}
		})
	}
}

func TestWriteInventory(t *testing.T) {
	inv := inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindImage, Name: "web:1"}, Packages: []inventory.Package{{Type: "deb", Name: "napper"}}}
	var b bytes.Buffer
	if err := writeInventory(&b, inv); err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var got inventory.Inventory
	if err := json.NewDecoder(dec).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inv, got); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
}
