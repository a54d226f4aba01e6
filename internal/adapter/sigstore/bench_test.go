package sigstore_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/adapter/sigstore/standin"
	"github.com/castellan-security/castellan/internal/signature"
)

// percentiles measures every round, and reports the median and the 99th of a
// hundred.
func percentiles(b *testing.B, once func() error) {
	b.Helper()
	var all []time.Duration
	for b.Loop() {
		from := time.Now()
		if err := once(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(from))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkOpen(b *testing.B) {
	s, image, key := start(b), subjectOf("image"), newKey(b, "P-256")
	o := s.opener(b, standin.All(), signature.Key{Name: "release", Public: key.Public()})
	large := statementAbout(image)
	large = large[:len(large)-3] + `{"components":[` + repeat(`{"name":"openssl","version":"3.0.11","purl":"pkg:deb/debian/openssl@3.0.11"},`, 20_000) + `{}]}}`
	for name, r := range map[string]recipe{
		"key":                                 {key: key, keyed: true},
		"key, log 1 and time stamp":           {key: key, keyed: true, log: true, stamp: &standin.Stamp{}},
		"key, attestation of 1.6 MB":          {key: key, keyed: true, statement: large},
		"keyless, log 1":                      keylessRecipe(),
		"keyless, log 2 and time stamp":       {holder: keylessRecipe().holder, log2: true, stamp: &standin.Stamp{}},
		"keyless, both logs and a time stamp": {holder: keylessRecipe().holder, log: true, log2: true, stamp: &standin.Stamp{}},
	} {
		e := s.forge(b, image, r)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			percentiles(b, func() error { _, err := open(o, e, image); return err })
		})
	}
}

func repeat(s string, n int) string {
	var out []byte
	for range n {
		out = append(out, s...)
	}
	return string(out)
}

func BenchmarkSign(b *testing.B) {
	ctx, s, image := context.Background(), start(b), subjectOf("image")
	keyed := signer(b, sigstore.SignerOptions{Key: newKey(b, "P-256")})
	parts := standin.Parts{Fulcio: true, CT: true, Log1: true, TSA: true}
	keyless := s.keyless(b, parts)
	for name, k := range map[string]*sigstore.Signer{"key": keyed, "keyless, log 1 and time stamp, stand-ins": keyless} {
		b.Run(name, func(b *testing.B) {
			percentiles(b, func() error { _, err := k.Sign(ctx, image, nil); return err })
		})
	}
}
