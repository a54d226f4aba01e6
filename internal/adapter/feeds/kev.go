package feeds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/pull"
)

const (
	// kevFile is the name of the catalogue in its folder.
	kevFile = "known_exploited_vulnerabilities.json"
	// maxKEV is how large it may be; it has one megabyte.
	maxKEV = 64 << 20
)

// Exploited hands over CISA's catalogue of known exploited vulnerabilities, from
// its folder in fsys. Entries without a CVE number count as broken.
func Exploited(ctx context.Context, fsys fs.FS, tally *Tally) iter.Seq2[advisory.Exploited, error] {
	return func(yield func(advisory.Exploited, error) bool) {
		source, _ := Named("kev")
		name := source.Dir + "/" + kevFile
		tally.Documents++
		data, err := readNamed(fsys, name, maxKEV)
		if err == nil {
			tally.Bytes += int64(len(data))
			k := kevReader{tally: tally}
			err = k.document(data, func(e advisory.Exploited) bool { return yield(e, nil) && ctx.Err() == nil })
		}
		if err != nil {
			tally.count(name, err)
			yield(advisory.Exploited{}, fmt.Errorf("read %s: %w", name, err))
		}
	}
}

// readNamed reads a file of at most limit bytes, compressed or not.
func readNamed(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	plain, done, err := decompress(f)
	if err != nil {
		return nil, err
	}
	defer done()
	return readAll(plain, limit, nil)
}

type kevReader struct {
	tally *Tally
	json  pull.Reader
}

func (k *kevReader) document(doc []byte, give func(advisory.Exploited) bool) error {
	r := &k.json
	r.Reset(doc)
	found := false
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "dateReleased":
				k.tally.saw(parseTime(r.Scalar()))
			case "vulnerabilities":
				found = true
				if !k.entries(give) {
					return r.Err()
				}
			default:
				r.Skip()
			}
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if !found {
		return errors.New("the document has no vulnerabilities: it is no catalogue")
	}
	return nil
}

func (k *kevReader) entries(give func(advisory.Exploited) bool) bool {
	r := &k.json
	if !r.Array() {
		return true
	}
	for r.Next() {
		e := k.entry()
		if r.Err() != nil {
			return false
		}
		if !isCVE(e.CVE) {
			k.tally.fail(fmt.Sprintf("entry %.40q", e.CVE), errors.New("not a CVE number"))
			continue
		}
		k.tally.Advisories++
		if !give(e) {
			return false
		}
	}
	return r.Err() == nil
}

func (k *kevReader) entry() advisory.Exploited {
	r := &k.json
	var e advisory.Exploited
	if !r.Object() {
		return e
	}
	for r.Next() {
		switch string(r.Key()) {
		case "cveID":
			e.CVE = r.Scalar()
		case "vulnerabilityName":
			e.Name = cut(r.Scalar(), maxSummary)
		case "dateAdded":
			e.Added = day(r.Scalar())
		case "dueDate":
			e.Due = day(r.Scalar())
		case "knownRansomwareCampaignUse":
			e.Ransomware = r.Scalar() == "Known"
		case "requiredAction":
			e.Action = cut(r.Scalar(), maxDetails)
		default:
			r.Skip()
		}
	}
	return e
}

// day reads a date; zero if it is none.
func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
