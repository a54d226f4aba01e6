// Package vulndb is the advisory file: all that feeds publish, compiled into one
// flat file that is mapped into memory and read where it lies. It is opened in
// less than a millisecond whatever its size, and looking up a package costs the
// same whatever its size; texts are compressed and touched only when asked for.
//
// A Builder compiles a file, Open and FromBytes read one, Export and Import
// carry one elsewhere. The file is trusted as little as any other input: every
// offset is checked before it is followed, so that a damaged or hostile one
// gives an error or nothing. A file is never changed in place, only replaced
// (see Builder.Write), because what is mapped may be read at any time.
//
// It is not for reading feeds (see adapter/feeds) and not for deciding what an
// advisory means for an inventory (see match).
package vulndb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan/version"
)

// DB is an open advisory file. It may be used by many goroutines at once.
type DB struct {
	data    []byte
	unmap   func() error
	header  header
	digest  string
	sources []Source
	// ecosystems maps a name to its number in the file; names has them by
	// number.
	ecosystems map[string]uint32
	names      []string
	table      table
	kev        exploited
	epss       probabilities
	texts      func() (*zstd.Decoder, error)
}

// Open maps the file at path and checks its header. Close it when no other call
// is under way any more.
func Open(path string) (*DB, error) {
	data, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open advisory database: %w", err)
	}
	db, err := FromBytes(data)
	if err != nil {
		_ = unmap() // the file is of no use whether this works or not
		return nil, fmt.Errorf("open advisory database %s: %w", path, err)
	}
	db.unmap = unmap
	return db, nil
}

// FromBytes reads a file that is in memory. The bytes must not change.
func FromBytes(data []byte) (*DB, error) {
	h, err := readHeader(data)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data[:headerSize])
	db := &DB{data: data, header: h, digest: "sha256:" + hex.EncodeToString(sum[:])}
	if err := json.Unmarshal(db.section(sectionSources), &db.sources); err != nil {
		return nil, damaged("its list of sources: %v", err)
	}
	if len(db.sources) > maxSources {
		return nil, damaged("its list of sources: %d", len(db.sources))
	}
	if err := db.readEcosystems(); err != nil {
		return nil, err
	}
	if db.table, err = readTable(db.section(sectionTable)); err != nil {
		return nil, err
	}
	if db.kev, err = readExploited(db.section(sectionKEV)); err != nil {
		return nil, err
	}
	if db.epss, err = readProbabilities(db.section(sectionEPSS)); err != nil {
		return nil, err
	}
	db.texts = sync.OnceValues(newDecoder)
	return db, nil
}

// Close gives the mapping back. What was read from the database stays valid.
func (db *DB) Close() error {
	if db.unmap == nil {
		return nil
	}
	unmap := db.unmap
	db.unmap, db.data = nil, nil
	return unmap()
}

func (db *DB) section(s int) []byte {
	at := db.header.sections[s]
	return db.data[at.offset : at.offset+at.size]
}

// readEcosystems reads the few hundred ecosystems that the file knows.
func (db *DB) readEcosystems() error {
	c := cursor{b: db.section(sectionEcosystems)}
	n := c.count()
	db.ecosystems = make(map[string]uint32, n)
	db.names = make([]string, 0, n)
	for i := range n {
		name := string(c.bytes())
		db.ecosystems[name] = uint32(i)
		db.names = append(db.names, name)
	}
	if c.bad || n > maxEcosystems {
		return damaged("its list of ecosystems")
	}
	return nil
}

// Source is one feed in a file: where it is from, whose it is, and what it came
// to.
type Source struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind,omitempty"`
	URL  string `json:"url,omitempty"`
	// License and Attribution are shown wherever what the feed says is shown.
	License     string    `json:"license,omitempty"`
	Attribution string    `json:"attribution,omitempty"`
	Fetched     time.Time `json:"fetched,omitzero"`
	// Validator is what the feed's server gave to ask again with (an ETag, a
	// digest, a date); only who fetches understands it.
	Validator string `json:"validator,omitempty"`
	// Problems are some of the things that could not be used, Unusable is how
	// many there were. The rest of the feed stands.
	Problems []string `json:"problems,omitempty"`
	Unusable int      `json:"unusable,omitempty"`

	// What follows is worked out by the builder.
	Advisories int       `json:"advisories"`
	Withdrawn  int       `json:"withdrawn,omitempty"`
	Newest     time.Time `json:"newest,omitzero"` // newest change of an advisory
}

// Kind says what a feed holds.
type Kind string

// The kinds of feed.
const (
	KindAdvisories    Kind = ""
	KindExploited     Kind = "exploited"     // KEV
	KindProbabilities Kind = "probabilities" // EPSS
)

// Info is what a file says about itself.
type Info struct {
	// Digest is of the header, which holds the digests of all sections: it names
	// the whole content.
	Digest     string    `json:"digest"`
	Generation uint64    `json:"generation"`
	Built      time.Time `json:"built"`
	Size       int64     `json:"size"`
	Advisories int       `json:"advisories"`
	Packages   int       `json:"packages"`
	Ecosystems []string  `json:"ecosystems"`
	Exploited  int       `json:"exploited"`            // entries of KEV
	Likely     int       `json:"likely"`               // entries of EPSS
	LikelyOn   time.Time `json:"likely_on,omitzero"`   // date of EPSS
	Sources    []Source  `json:"sources"`              // by name
	Oldest     time.Time `json:"oldest_feed,omitzero"` // when the oldest of them was fetched
}

// Info returns what the file says about itself.
func (db *DB) Info() Info {
	i := Info{
		Digest: db.digest, Generation: db.header.generation, Built: time.Unix(db.header.built, 0).UTC(),
		Size: int64(len(db.data)), Advisories: db.Advisories(), Packages: int(db.table.packages),
		Ecosystems: append([]string(nil), db.names...), Sources: append([]Source(nil), db.sources...),
		Exploited: db.kev.n, Likely: db.epss.n, LikelyOn: db.epss.date,
	}
	for _, s := range db.sources {
		if !s.Fetched.IsZero() && (i.Oldest.IsZero() || s.Fetched.Before(i.Oldest)) {
			i.Oldest = s.Fetched
		}
	}
	return i
}

// Digest names the whole content of the file.
func (db *DB) Digest() string { return db.digest }

// Source returns the feed that an advisory is from.
func (db *DB) Source(name string) (Source, bool) {
	for _, s := range db.sources {
		if s.Name == name {
			return s, true
		}
	}
	return Source{}, false
}

// Releases returns the ecosystems in the file whose advisories are about
// packages of the one given: by the OSV schema, an advisory that names no
// release is about all of them, and so is every advisory about a package of
// which the release is not known.
func (db *DB) Releases(ecosystem string) []string {
	if ecosystem == "" {
		return nil
	}
	base, _, released := strings.Cut(ecosystem, ":")
	var found []string
	if !released {
		for _, name := range db.names {
			if b, _, _ := strings.Cut(name, ":"); b == base {
				found = append(found, name)
			}
		}
		return found
	}
	for name := ecosystem; name != ""; {
		if _, ok := db.ecosystems[name]; ok {
			found = append(found, name)
		}
		i := strings.LastIndexByte(name, ':')
		name = name[:max(i, 0)]
	}
	return found
}

// Verify reads the whole file and compares the digests of all sections. Open
// doesn't, because it would take seconds.
func (db *DB) Verify(ctx context.Context) error {
	for i, s := range db.header.sections {
		h := sha256.New()
		for part := db.section(i); len(part) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			const step = 16 << 20
			n := min(step, len(part))
			h.Write(part[:n])
			part = part[n:]
		}
		if [sha256.Size]byte(h.Sum(nil)) != s.digest {
			return damaged("the digest of section %d is another", i)
		}
	}
	return nil
}

// remedy is the same whatever is wrong with a file.
const remedy = "fetch it anew: castellan scan db update, or import it again"

// damaged returns an error of a file that does not hold what it should.
func damaged(format string, args ...any) error {
	return fault.New(fault.Corrupt, "the advisory database is damaged: "+format, args...).With(remedy)
}

// orders is checked because packages' versions lie sorted in the file.
const orders = version.Revision
