// Package seed carries a small advisory database, so that a first scan without a
// network finds real vulnerabilities. `make seed` compiles it from feeds whose
// licences permit passing them on; NOTICE says whose they are.
//
// It is as old as the program at least: whoever uses it says so.
package seed

import (
	_ "embed" // the database

	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// data is the database as it is, not compressed: what makes up most of it is
// compressed already, and unpacking it would cost each scan thirty milliseconds.
//
//go:embed seed.db
var data []byte

// Open opens the database where it lies in the program.
func Open() (*vulndb.DB, error) { return vulndb.FromBytes(data) }
