package oci_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/inventory"
)

// benchBytes is how much a layer of the benchmark has.
const benchBytes = 64 << 20

// discard reads as a reader of layers does, in large pieces.
func discard(_ context.Context, _ inventory.Layer, r io.Reader) error {
	b := make([]byte, 128<<10)
	for {
		if _, err := r.Read(b); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// cpu is what this process has used of processors.
func cpu() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSource measures what handing layers over costs, in milliseconds of
// processor a gigabyte, beside bare reading of the same bytes. A registry is
// this process too, so its bare figure is a bare client's.
func BenchmarkSource(b *testing.B) {
	b.Setenv("DOCKER_CONFIG", b.TempDir())
	s := blobs{}
	big := plainLayer("noise", string(noise(benchBytes)))
	d := s.image("amd64", []layer{big})
	files := s.files(d)
	dir, packed := writeFolder(b, files), writeFile(b, archive(files))
	blob := filepath.Join(dir, "blobs", strings.Replace(digest(big.stored), ":", "/", 1))
	saved := writeFile(b, savedOld("amd64", []layer{big}))

	run := func(name string, once func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchBytes)
			before := cpu()
			for b.Loop() {
				if err := once(); err != nil {
					b.Fatal(err)
				}
			}
			used := cpu() - before
			b.ReportMetric(float64(used.Microseconds())/1000/(float64(b.N)*benchBytes/1e9), "cpu-ms/GB")
		})
	}
	each := func(i *oci.Image, err error) error {
		if err != nil {
			return err
		}
		defer func() { _ = i.Close() }()
		return i.Each(b.Context(), 1, nothing, discard)
	}
	run("bare file", func() error {
		f, err := os.Open(blob)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return discard(b.Context(), inventory.Layer{}, f)
	})
	run("layout folder", func() error { return each(oci.OpenPath(b.Context(), dir, oci.Choice{})) })
	run("layout tar", func() error { return each(oci.OpenPath(b.Context(), packed, oci.Choice{})) })
	run("docker archive", func() error { return each(oci.OpenPath(b.Context(), saved, oci.Choice{})) })
	run("docker archive as a stream", func() error {
		f, err := os.Open(saved)
		return each(oci.OpenStream(f, oci.Choice{}), err)
	})

	h := &hub{store: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		if key == "1" {
			key = d["digest"].(string)
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", ociManifest)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s[key]))
	})}
	h.prepare(b)
	h.Start()
	run("bare client", func() error {
		resp, err := http.Get(h.URL + "/v2/web/blobs/" + digest(big.stored))
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		return discard(b.Context(), inventory.Layer{}, resp.Body)
	})
	run("registry", func() error {
		r, _ := door(b, oci.Options{})
		return each(r.Open(b.Context(), h.host()+"/web:1", oci.Choice{}))
	})
}
