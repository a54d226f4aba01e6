package notary_test

import (
	"crypto"
	"crypto/elliptic"
	"slices"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/notary/notarytest"
)

// percentiles reports the middle and the hundredth part at the end of what
// one call takes.
func percentiles(b *testing.B, do func()) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		do()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// benchWorld has chains of three certificates whose keys are all of one kind.
func benchWorld(b *testing.B, make func() crypto.Signer) *world {
	b.Helper()
	w := newWorld(b)
	w.root = issue(b, nil, notarytest.Authority, "Acme root", make())
	w.ca = issue(b, w.root, notarytest.Authority, "Acme builds", make())
	w.signer = issue(b, w.ca, notarytest.Signer, "build", make())
	return w
}

func worlds(b *testing.B) map[string]*world {
	b.Helper()
	return map[string]*world{
		"P-256": benchWorld(b, func() crypto.Signer { return key(b, elliptic.P256()) }),
		"P-384": benchWorld(b, func() crypto.Signer { return key(b, elliptic.P384()) }),
		"RSA-3072": benchWorld(b, func() crypto.Signer {
			k, err := notarytest.RSA(3072)
			if err != nil {
				b.Fatal(err)
			}
			return k
		}),
	}
}

var forms = []struct{ name, media string }{{"JWS", notary.JWS}, {"COSE", notary.COSE}}

func BenchmarkOpen(b *testing.B) {
	for name, w := range worlds(b) {
		o := opener(b, w.roots(), notary.Options{})
		for _, form := range forms {
			plain := sign(b, w.signer, notary.SignOptions{MediaType: form.media})
			b.Run(form.name+"/"+name, func(b *testing.B) {
				percentiles(b, func() {
					if _, err := o.Open(b.Context(), plain, image, july); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
		plain := sign(b, w.signer, notary.SignOptions{})
		b.Run("JWS-first/"+name, func(b *testing.B) {
			percentiles(b, func() {
				if _, err := opener(b, w.roots(), notary.Options{}).Open(b.Context(), plain, image, july); err != nil {
					b.Fatal(err)
				}
			})
		})
		stamped := sign(b, w.signer, notary.SignOptions{TSA: &notary.TSA{URL: serve(b, w.stamper), Roots: w.tsaRoot.Chain}})
		b.Run("JWS-stamped/"+name, func(b *testing.B) {
			percentiles(b, func() {
				if _, err := o.Open(b.Context(), stamped, image, next); err != nil {
					b.Fatal(err)
				}
			})
		})
		other := image
		other.Digest = "sha256:0"
		b.Run("of-another-image/"+name, func(b *testing.B) {
			percentiles(b, func() {
				if _, err := o.Open(b.Context(), stamped, other, next); err == nil {
					b.Fatal("opened")
				}
			})
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for name, w := range worlds(b) {
		for _, form := range forms {
			b.Run(form.name+"/"+name, func(b *testing.B) {
				percentiles(b, func() {
					if _, err := notary.Sign(b.Context(), w.signer.Key, w.signer.Chain, image, notary.SignOptions{At: june, MediaType: form.media}); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}
