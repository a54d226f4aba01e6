package story_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/story"
)

// BenchmarkAMillionThreats has a thousand stories open, and tells how many bytes they
// hold and what a threat costs.
func BenchmarkAMillionThreats(b *testing.B) {
	const stories, threats = 1_000, 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		book := story.NewBook()
		from := time.Now()
		for i := range threats {
			n := i % stories
			a := act{rule: fmt.Sprintf("rule-%d", i/stories%60), root: uint32(n + 1), container: n + 1, about: fmt.Sprint(i / stories % 500), at: time.Duration(i) * 20 * time.Microsecond}
			if i%97 == 0 {
				a.peer = fmt.Sprintf("203.%d.%d.9:4444", n/200, n%200)
			}
			book.Take(a.threat(), now)
		}
		took := time.Since(from)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if book.Len() != stories {
			b.Fatalf("%d stories, want %d", book.Len(), stories)
		}
		held := after.HeapAlloc - before.HeapAlloc
		b.ReportMetric(float64(held)/(1<<20), "MiB")
		b.ReportMetric(float64(took.Nanoseconds())/threats, "ns/threat")
		if held > 200<<20 {
			b.Errorf("%d MiB are held, at most 200 may be", held>>20)
		}
		runtime.KeepAlive(book)
	}
}
