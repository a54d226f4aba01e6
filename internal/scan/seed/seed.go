// Package seed carries a small advisory database, so that a first scan without a
// network finds real vulnerabilities. `make seed` compiles it from feeds whose
// licences permit passing them on; NOTICE says whose they are.
//
// It is as old as the program at least: whoever uses it says so.
package seed

import (
	"bytes"
	_ "embed" // the database
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

//go:embed seed.db.zst
var packed []byte

// maxSize bounds the database when it is unpacked: one made by mistake of all
// feeds must not blow up every scan.
const maxSize = 64 << 20

// Open unpacks the database into memory, which takes some ten milliseconds.
func Open() (*vulndb.DB, error) {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("unpack the advisories that came with the program: %w", err)
	}
	defer z.Close()
	b, err := io.ReadAll(io.LimitReader(z, maxSize))
	if err != nil {
		return nil, fmt.Errorf("unpack the advisories that came with the program: %w", err)
	}
	return vulndb.FromBytes(b)
}
