package report

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// uuidOf is a UUID of version 8 (RFC 9562, 5.8) made of what the report is about
// and when: the same report has the same.
func uuidOf(r *Report) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", r.title(), productOf(&r.Inventory), r.Made.UTC().Format(time.RFC3339Nano))
	for i := range r.Inventory.Packages {
		fmt.Fprintf(h, "%v\n", r.Inventory.Packages[i].Key())
	}
	return uuidFrom(h.Sum(nil)[:16])
}

// uuidFrom marks 16 bytes as a UUID of version 8, and writes it.
func uuidFrom(b []byte) string {
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
