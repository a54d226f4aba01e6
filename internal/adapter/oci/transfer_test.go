package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// A registry that is busy is waited for as long as it asks, and no longer than
// a person would wait.
func TestRateLimits(t *testing.T) {
	anonymous(t)
	for _, tc := range []struct {
		name, after string
		refusals    int
		want        []time.Duration // waited, when that is exact
		kind        fault.Kind
		words       []string
	}{
		{"some seconds", "7", 2, []time.Duration{7 * time.Second, 7 * time.Second}, 0, nil},
		{"at once", "0", 1, []time.Duration{0}, 0, nil},
		{"a date that has passed", "Mon, 02 Jan 2006 15:04:05 GMT", 1, []time.Duration{0}, 0, nil},
		{"for ever", "7", 99, []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second}, fault.Exhausted, []string{"429", "again in 7s"}},
		{"hours", "21600", 99, nil, fault.Exhausted, []string{"429", "again in 6h0m0s"}},
		{"nonsense", "soon", 99, nil, fault.Exhausted, []string{"429", "TOOMANYREQUESTS"}},
		{"nothing said", "", 1, nil, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			s := blobs{}
			ref := h.push(t, s, "web", "1", s.image("amd64", nil))
			left := tc.refusals
			h.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") || left == 0 {
					return false
				}
				left--
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = io.WriteString(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`)
				return true
			})
			r, waited := door(t, oci.Options{})
			_, err := r.Open(t.Context(), ref, oci.Choice{})
			if tc.words != nil {
				checkError(t, err, tc.words...)
				if !fault.Is(err, tc.kind) {
					t.Errorf("%q is of kind %v, want %v", err, fault.Of(err), tc.kind)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if tc.want != nil && !slices.Equal(waited.all, tc.want) {
				t.Errorf("waited %v, want %v", waited.all, tc.want)
			}
			if tc.after == "21600" && len(waited.all) != 0 {
				t.Errorf("waited %v for a registry that wants hours", waited.all)
			}
		})
	}
}

// A layer whose stream breaks is taken up where it broke, from a registry that
// knows ranges and from one that doesn't.
func TestLayerIsResumed(t *testing.T) {
	anonymous(t)
	big := plainLayer("noise", string(noise(300_000)))
	for _, tc := range []struct {
		name   string
		breaks int
		serve  func(w http.ResponseWriter, r *http.Request, from int)
		words  []string
	}{
		{"with ranges", 3, func(w http.ResponseWriter, r *http.Request, _ int) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(big.stored))
		}, nil},
		{"without ranges", 1, func(w http.ResponseWriter, _ *http.Request, _ int) { _, _ = w.Write(big.stored) }, nil},
		{"again and again", 99, nil, []string{"times in a row"}},
		{"with the wrong range", 1, func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(big.stored)-1, len(big.stored)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(big.stored)
		}, []string{"asked for what follows"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t)
			s := blobs{}
			ref := h.push(t, s, "web", "1", s.image("amd64", []layer{big}))
			breaks := tc.breaks
			h.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, digest(big.stored)) {
					return false
				}
				from := 0
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				if breaks == 0 {
					tc.serve(w, r, from)
					return true
				}
				breaks--
				if from > 0 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(big.stored)-1, len(big.stored)))
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(big.stored)-from))
				if from > 0 {
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(big.stored[from : from+(len(big.stored)-from)/4])
				panic(http.ErrAbortHandler)
			})
			r, _ := door(t, oci.Options{})
			i, err := r.Open(t.Context(), ref, oci.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			var k taken
			err = i.Each(t.Context(), 1, nothing, k.take)
			if tc.words != nil {
				checkError(t, err, tc.words...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := k.calls[digest(big.stored)]; !ok {
				t.Errorf("what came is not the layer: %v", k.calls)
			}
			if h.count("blobs/", "bytes=") == 0 {
				t.Errorf("asked %q, want a range", h.asked)
			}
		})
	}
}

// noise is what nothing compresses.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// Layers of another size than was announced, as far as a registry says.
func TestLayerOfAnotherSizeInARegistry(t *testing.T) {
	anonymous(t)
	layers := threeLayers("")
	for name, b := range map[string][]byte{"shorter": layers[0].stored[:20], "longer": append(bytes.Clone(layers[0].stored), 0)} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			s := blobs{}
			ref := h.push(t, s, "web", "1", s.image("amd64", layers))
			h.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, digest(layers[0].stored)) {
					return false
				}
				_, _ = w.Write(b)
				return true
			})
			r, _ := door(t, oci.Options{})
			i, err := r.Open(t.Context(), ref, oci.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			var k taken
			checkError(t, i.Each(t.Context(), 2, nothing, k.take), "were announced")
		})
	}
}

// A connection that hangs within a layer is given up.
func TestLayerThatStalls(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	big := plainLayer("noise", string(noise(300_000)))
	ref := h.push(t, s, "web", "1", s.image("amd64", []layer{big}))
	h.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest(big.stored)) {
			return false
		}
		_, _ = w.Write(big.stored[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // the reader goes away
		return true
	})
	r, _ := door(t, oci.Options{})
	i, err := r.WithStall(20*time.Millisecond).Open(t.Context(), ref, oci.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	var k taken
	checkError(t, i.Each(t.Context(), 1, nothing, k.take), "stalled after 1000 of")
}

// The end of a scan ends its requests.
func TestContextEnds(t *testing.T) {
	anonymous(t)
	h := newHub(t)
	s := blobs{}
	layers := threeLayers("")
	ref := h.push(t, s, "web", "1", s.image("amd64", layers))
	r, _ := door(t, oci.Options{})
	i, err := r.Open(t.Context(), ref, oci.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = i.Each(ctx, 1, nothing, func(ctx context.Context, _ inventory.Layer, r io.Reader) error {
		cancel()
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Each() = %v, want the context's error", err)
	}
}
