package vulndb_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// scale is how many advisories BenchmarkScale makes up. OSV has about 600,000
// (November 2026): go test -run - -bench Scale -benchtime 1x -scale 1000000
var scale = flag.Int("scale", 20_000, "advisories of the simulated database")

var words = strings.Fields(`a remote attacker can cause denial of service buffer overflow in the parser when handling crafted input because the length
is not checked cross site scripting allows injection via header function before version could lead to memory corruption use after free`)

func sentence(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.String()
}

// madeUp makes up advisories as OSV has them: four in ten malicious packages of
// npm, as many of distributions with a handful of packages in several releases,
// the rest of languages.
func madeUp(n int) iter.Seq2[advisory.Advisory, error] {
	return func(yield func(advisory.Advisory, error) bool) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range n {
			a := advisory.Advisory{Published: day(1).Add(time.Duration(r.IntN(1e6)) * time.Second), Modified: day(20).Add(time.Duration(r.IntN(1e6)) * time.Second),
				Summary: sentence(r, 9), Details: sentence(r, 120)}
			for j := range 1 + r.IntN(8) {
				a.References = append(a.References, advisory.Reference{Kind: "web", URL: fmt.Sprintf("https://example.org/%s/%d/%d", words[r.IntN(len(words))], r.IntN(1e6), j)})
			}
			cve := fmt.Sprintf("CVE-%d-%d", 2010+i%16, 1000+i/3)
			switch i % 10 {
			case 0, 1, 2, 3:
				a.ID = fmt.Sprintf("MAL-2025-%d", i)
				a.Affected = []advisory.Affected{{Ecosystem: "npm", Package: fmt.Sprintf("%s-%d", words[i%len(words)], i), Ranges: []advisory.Range{{Introduced: "0"}}}}
			case 4, 5, 6, 7:
				a.ID, a.Upstream = fmt.Sprintf("DISTRO-%d", i), []string{cve}
				release := fmt.Sprintf("Debian:%d", 8+i%6)
				fixed := fmt.Sprintf("%d.%d.%d-%d+deb%du%d", r.IntN(9), r.IntN(30), r.IntN(9), 1+r.IntN(4), 8+i%6, 1+r.IntN(4))
				source := r.IntN(4000)
				for j := range 1 + r.IntN(16) {
					a.Affected = append(a.Affected, advisory.Affected{Ecosystem: release, Package: fmt.Sprintf("lib%s%d-%d", words[source%len(words)], source, j),
						Of: advisory.OfBinary, Rating: advisory.Rating(r.IntN(6)), Ranges: []advisory.Range{{Fixed: fixed}}})
				}
			default:
				a.ID, a.Aliases = fmt.Sprintf("GHSA-%04x-%04x-%04x", i>>16, i&0xffff, r.IntN(65536)), []string{cve}
				a.Scores = []advisory.Score{{Vector: fmt.Sprintf("CVSS:3.1/AV:N/AC:L/PR:%c/UI:N/S:U/C:%c/I:%c/A:%c", "NLH"[r.IntN(3)], "NLH"[r.IntN(3)], "NLH"[r.IntN(3)], "NLH"[r.IntN(3)])}}
				a.Weaknesses = []string{fmt.Sprintf("CWE-%d", 20+r.IntN(900))}
				x := advisory.Affected{Ecosystem: []string{"npm", "PyPI", "Maven", "Go"}[i%4], Package: fmt.Sprintf("pkg-%d", r.IntN(60_000)),
					Ranges: []advisory.Range{{Introduced: "0", Fixed: fmt.Sprintf("%d.%d.%d", 1+r.IntN(5), r.IntN(30), r.IntN(20))}}}
				for j := range r.IntN(60) { // OSV lists what the range holds
					x.Versions = append(x.Versions, fmt.Sprintf("0.%d.%d", j/10, j%10))
				}
				a.Affected = []advisory.Affected{x}
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// peak returns the largest amount of memory that the process had since the last
// call, in megabytes; 0 where the kernel does not tell.
func peak() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

func BenchmarkScale(b *testing.B) {
	peak()
	path := filepath.Join(b.TempDir(), "db")
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			builder := builder(b, vulndb.Options{})
			must(b, builder.AddAll(b.Context(), vulndb.Source{Name: "osv"}, madeUp(*scale)))
			must(b, builder.Write(b.Context(), path))
		}
		info, err := os.Stat(path)
		must(b, err)
		b.ReportMetric(float64(info.Size())/1e6, "MB-file")
		b.ReportMetric(peak(), "MB-peak")
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			db, err := vulndb.Open(path)
			must(b, err)
			must(b, db.Close())
		}
	})
	db := open(b, path)
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			must(b, db.Verify(b.Context()))
		}
	})
	b.Run("export", func(b *testing.B) {
		var size int64
		for b.Loop() {
			var err error
			_, size, err = db.Export(b.Context(), io.Discard)
			must(b, err)
		}
		b.ReportMetric(float64(size)/1e6, "MB-export")
		b.ReportMetric(peak(), "MB-peak")
	})
	b.Run("keep", func(b *testing.B) {
		for b.Loop() {
			builder := builder(b, vulndb.Options{})
			must(b, builder.Keep(b.Context(), db, "osv"))
			if again := contents(b, write(b, builder)); !bytes.Equal(again, contents(b, path)) {
				b.Error("what was kept is not the same")
			}
		}
		b.ReportMetric(peak(), "MB-peak")
	})
}

// BenchmarkLookUp looks up packages of which one advisory speaks, and as many of
// which none does, in a database of the scale and in one of a twentieth.
func BenchmarkLookUp(b *testing.B) {
	small := *scale / 20
	for _, n := range []int{small, *scale} {
		builder := builder(b, vulndb.Options{})
		must(b, builder.AddAll(b.Context(), vulndb.Source{Name: "osv"}, madeUp(n)))
		db := open(b, write(b, builder))
		var names []string
		for i := 0; i < small; i += 10 {
			names = append(names, fmt.Sprintf("%s-%d", words[i%len(words)], i), fmt.Sprintf("nothing-%d", i))
		}
		b.Run(fmt.Sprint(n, " advisories"), func(b *testing.B) {
			b.ReportAllocs()
			var e vulndb.Entries
			hits := 0
			for i := 0; b.Loop(); i++ {
				if p, ok := db.Lookup("npm", names[i*7919%len(names)]); ok {
					at := p.Position("1.2.3")
					for e.Of(p); e.Next(); {
						if e.Holds(at) {
							hits++
						}
					}
				}
			}
			if n := float64(hits) / float64(b.N); n < 0.3 || n > 0.7 {
				b.Errorf("%v hits a look-up, want a half", n)
			}
		})
	}
}
