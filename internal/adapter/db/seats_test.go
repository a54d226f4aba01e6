package db_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

// TestManyFirstReads has more readers than snapshots may be read at once, each
// with statements that nobody has prepared: one that waited for a connection that
// another holds would never end.
func TestManyFirstReads(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "castellan.db"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			q := store.ImageQuery{Text: fmt.Sprint(i)}
			if i%2 == 0 {
				q.State = store.ScanWaiting
			}
			if i%3 == 0 {
				q.Running = true
			}
			_, err := d.Images(ctx, q)
			if err == nil {
				_, err = d.Weaknesses(ctx, store.VulnerabilityQuery{Text: "x", Running: i%5 == 0, ID: fmt.Sprint("CVE-", i%2)})
			}
			if err == nil {
				_, err = d.Workloads(ctx, store.WorkloadQuery{Text: fmt.Sprint(i), Group: fmt.Sprint("g", i%2)})
			}
			if err != nil {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
