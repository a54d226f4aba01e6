package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// town is a large shop: 10 groups of 100 workloads each.
func town(now time.Time) consoletest.Shop {
	s := consoletest.New(now)
	model := s.Workloads[0]
	s.Workloads = nil
	for group := range 10 {
		for i := range 100 {
			w := model
			w.ID = fmt.Sprintf("%02d%02d", group, i) + strings.Repeat("f", 60)
			w.Group = asset.Group(fmt.Sprintf("town/service-%d/app", group))
			s.Workloads = append(s.Workloads, w)
		}
	}
	return s
}

// BenchmarkPages is what a page costs the server besides the store's answers:
// 1,000 workloads in 10 groups, 100 events a page.
func BenchmarkPages(b *testing.B) {
	now := testNow()
	h, err := newHouse(town(now), now)
	if err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{
		"overview": "/", "workloads": "/workloads", "workload": "/workloads/0000" + strings.Repeat("f", 60),
		"events": "/events", "event": "/events/1", "agents": "/agents", "users": "/users", "audit": "/audit",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			bytes := 0
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r.WithContext(as(r.Context(), access.Administrator)))
				if w.Code != http.StatusOK {
					b.Fatalf("got %d", w.Code)
				}
				bytes = w.Body.Len()
			}
			b.ReportMetric(float64(bytes)/1024, "KiB/page")
		})
	}
}
