package feeds

import (
	"errors"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of one document. What is beyond one is left out as a whole, with its
// name: half of an advisory could hide the half that matters.
const (
	// maxDocument is the size of one OSV document. The largest known, of
	// kernels with all their flavours and versions, have about 20 MiB.
	maxDocument = 64 << 20
	// maxCSAF is the same for CSAF, whose product trees name every file of an
	// advisory several times: about 60 MiB for HTTP/2 rapid reset.
	maxCSAF = 160 << 20
	// maxFile is the size of a feed that is one document: Debian's tracker has
	// 80 MB.
	maxFile = 512 << 20
	// maxAffected, maxRanges and maxVersions are for all packages of a document
	// together; kernels of distributions come to some thousands.
	maxAffected = 50_000
	maxRanges   = 50_000
	maxVersions = 200_000
	// maxMentions is how often a feed that tells of each package by itself may name
	// a weakness: Debian's does 200,000 times, Alpine's over all branches 300,000.
	maxMentions = 2_000_000
	// maxNames is the number of aliases and the like: kernel updates fix a
	// thousand weaknesses at once.
	maxNames = 20_000
	// maxName is the length of identifiers, names of packages and versions.
	maxName = 1024
	// maxProducts is the number of products in one CSAF or VEX document.
	maxProducts = 500_000
)

// Limits of what is merely shown; what is beyond is cut off.
const (
	maxReferences = 200
	maxURL        = 2048
	maxSummary    = 1024
	maxDetails    = 16 << 10
	maxNote       = 512
	maxScores     = 16
	maxWeaknesses = 64
	maxShown      = 80 // of a name that is unusable
)

// Limits of archives, against those that unpack into much more than anybody
// publishes.
const (
	// maxArchive is how large one may be to be fetched: Red Hat's has 600 MB.
	maxArchive = 8 << 30
	// maxUnpacked is what an archive may unpack to: the whole of OSV has 20 GB.
	maxUnpacked = 64 << 30
	// maxCSAFUnpacked is the same for Red Hat's, which has 60 GB and grows.
	maxCSAFUnpacked = 256 << 30
	// maxFiles is the number of files in an archive or a folder.
	maxFiles = 4_000_000
	// maxZstdWindow is the memory that unpacking may take.
	maxZstdWindow = 128 << 20
)

var (
	errTooLong = errors.New("a name or version is longer than 1024 bytes")
	errRanges  = fmt.Errorf("more than %d ranges", maxRanges)
)

func tooMany(what string, limit int) error {
	return fmt.Errorf("more than %d %s", limit, what)
}

func tooLarge(limit int64) error {
	return fault.New(fault.Exhausted, "larger than %d bytes", limit)
}

// readAll reads r into buf, and fails if there are more than limit bytes.
func readAll(r io.Reader, limit int64, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		end := int(min(int64(cap(buf)), limit+1))
		n, err := r.Read(buf[len(buf):end])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return buf, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// cut shortens s to at most limit bytes, at the beginning of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xC0 == 0x80 {
		limit--
	}
	return s[:limit]
}
