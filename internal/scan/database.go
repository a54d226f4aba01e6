package scan

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/seed"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// The advisory file and what is found with it, as whoever is outside this room
// knows them.
type (
	// Database is an opened advisory file.
	Database = vulndb.DB
	// DatabaseInfo is what it says of itself.
	DatabaseInfo = vulndb.Info
	// DatabaseSource is one feed in it.
	DatabaseSource = vulndb.Source
	// DatabaseBuilder compiles one.
	DatabaseBuilder = vulndb.Builder
	// DatabaseOptions say how.
	DatabaseOptions = vulndb.Options
	// MatchOptions say what a match takes into account.
	MatchOptions = match.Options
	// MatchResult is what it found.
	MatchResult = match.Result
	// Gap says of which packages nothing can be said.
	Gap = match.Gap
	// Rule accepts findings.
	Rule = match.Rule
)

// Kinds of feed; see vulndb.
const (
	KindExploited     = vulndb.KindExploited
	KindProbabilities = vulndb.KindProbabilities
)

// What a database is called where it is kept as an OCI artifact.
const (
	DatabaseArtifact  = vulndb.ArtifactType
	DatabaseMediaType = vulndb.MediaType
)

// OpenDatabase opens an advisory file; with no file at path, the one that came
// with the program, and seeded says so.
func OpenDatabase(path string) (db *Database, seeded bool, err error) {
	db, err = vulndb.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		db, err = seed.Open()
		return db, true, err
	}
	return db, false, err
}

// NewDatabase returns a builder of an advisory file.
func NewDatabase(o DatabaseOptions) (*DatabaseBuilder, error) { return vulndb.NewBuilder(o) }

// ImportDatabase puts an exported advisory file at path; see vulndb.Import.
func ImportDatabase(ctx context.Context, r io.Reader, digest, path string) error {
	return vulndb.Import(ctx, r, digest, path)
}

// Match finds the vulnerabilities of an inventory; see match.Match.
func Match(ctx context.Context, db *Database, inv *inventory.Inventory, o MatchOptions) (MatchResult, error) {
	return match.Match(ctx, db, inv, o)
}
