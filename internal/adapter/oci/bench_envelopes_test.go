package oci_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/signature"
)

// BenchmarkEnvelopes measures what it takes to know an image's signatures from
// its tag on, in milliseconds at the 50th and 99th of a hundred, and the requests
// for it: cold, as a new process does, and with a registry that was entered
// before. The registry is in this process, bare or with 20 ms to each answer.
func BenchmarkEnvelopes(b *testing.B) {
	b.Setenv("DOCKER_CONFIG", b.TempDir())
	for _, tc := range []struct {
		name    string
		size    int // of an envelope; a manifest carries it up to 16 KiB
		latency time.Duration
		cold    bool
		lists   bool
	}{
		{"cold", 6 << 10, 0, true, true},
		{"cold, blobs apart", 20 << 10, 0, true, true},
		{"cold, without lists", 6 << 10, 0, true, false},
		{"entered", 6 << 10, 0, false, true},
		{"cold, 20 ms", 6 << 10, 20 * time.Millisecond, true, true},
		{"cold, 20 ms, blobs apart", 20 << 10, 20 * time.Millisecond, true, true},
		{"entered, 20 ms", 6 << 10, 20 * time.Millisecond, false, true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s := blobs{}
			image := s.image("amd64", threeLayers("a"))
			var entries []object
			for i := range 3 {
				payload := strings.Repeat("x", tc.size-1) + fmt.Sprint(i)
				layer := s.add(bundleType, []byte(payload))
				if tc.size <= 16<<10 {
					layer["data"] = []byte(payload)
				}
				entries = append(entries, s.attached(image, "", object{"layers": []object{layer}}))
			}
			var asked atomic.Int64
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				time.Sleep(tc.latency)
				if tc.lists && listing(page(entries...))(w, r) {
					return
				}
				key := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
				content, ok := s[key]
				switch {
				case key == "1":
					content, ok = s[image["digest"].(string)], true
				case !tc.lists && key == strings.Replace(image["digest"].(string), ":", "-", 1):
					content, ok = asJSON(page(entries...)), true
					w.Header().Set("Content-Type", ociIndex)
				case key == "":
					return
				}
				if !ok {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
			}))
			defer h.Close()
			host := strings.TrimPrefix(h.URL, "http://")
			r, _ := door(b, oci.Options{})
			const rounds = 100
			var took []time.Duration
			var requests int64
			for b.Loop() {
				took, requests = took[:0], asked.Load()
				for range rounds {
					began := time.Now()
					if tc.cold {
						r, _ = door(b, oci.Options{})
					}
					subject, err := r.Resolve(b.Context(), host+"/shop/web:1")
					var got []signature.Envelope
					if err == nil {
						got, err = r.Envelopes(b.Context(), subject)
					}
					if err != nil || len(got) != 3 {
						b.Fatalf("%d found, %v", len(got), err)
					}
					took = append(took, time.Since(began))
					if tc.cold {
						_ = r.Close()
					}
				}
				requests = asked.Load() - requests
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[rounds/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[rounds*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(requests)/rounds, "requests")
			b.ReportMetric(0, "ns/op")
		})
	}
}
