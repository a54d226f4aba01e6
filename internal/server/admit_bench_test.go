package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admit"
)

// BenchmarkDecideOverHTTP is a decision as a door gets it: over TLS and HTTP/2, with
// a token, by the first policy that castellan admit init writes. It tells decisions a
// second and the time that 99 of 100 stay below; both sides run in this process.
func BenchmarkDecideOverHTTP(b *testing.B) {
	h := open(b, nil)
	if a := h.ask(b, "PUT", "/api/v1/admit/policy", map[string]any{"text": string(admit.First()), "after": 0}, h.as(access.Administrator)...); a.status != http.StatusOK {
		b.Fatalf("set: got %d %s", a.status, a.body)
	}
	c := h.client(b)
	var serial atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	decide := func() error {
		body, err := json.Marshal(deployment(fmt.Sprint("r", serial.Add(1)), false))
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(b.Context(), "POST", h.base+"/api/v1/admit/decide", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+h.tokens[access.Operator])
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("got %d %s, %w", resp.StatusCode, answer, err)
		}
		return resp.Body.Close()
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var own []time.Duration
		for pb.Next() {
			began := time.Now()
			if err := decide(); err != nil {
				b.Error(err)
				return
			}
			own = append(own, time.Since(began))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, own...)
	})
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
