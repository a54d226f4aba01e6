package feeds

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
)

// Parse hands over the advisories of a source one by one, from its folder in
// fsys, the root of the layout. Each has a name of its own within the source.
// What one document says is held only until it is handed over, but for the few
// that are read ahead; feeds that tell of each package by itself, Debian's and
// Alpine's, are put together by weakness first.
//
// An error of kind fault.Invalid is about one document, which is broken or beyond
// a limit, with its name; the others follow. Any other error is about a whole
// file that could not be read to its end: what came before it holds, and reading
// goes on with the next file. All are counted in tally.
func Parse(ctx context.Context, s Source, fsys fs.FS, tally *Tally) iter.Seq2[advisory.Advisory, error] {
	return func(yield func(advisory.Advisory, error) bool) {
		rd := newReading(ctx, s, fsys, tally, yield)
		defer rd.end()
		if !s.Advisories() {
			rd.broken(s.Dir, fault.New(fault.Invalid, "%s has no advisories", s.Name))
			return
		}
		files, err := list(ctx, fsys, s.Dir)
		if err != nil {
			rd.broken(s.Dir, err)
			return
		}
		rd.files(s.Dir, files)
	}
}

// parser turns documents of one format into advisories. It belongs to one
// goroutine and keeps its memory from one document to the next.
type parser interface {
	// document hands over what is in doc, which is the parser's only until it
	// returns. After an error the document counts as broken.
	// It stops when give returns false.
	document(doc []byte, give func(*advisory.Advisory) bool) error
}

// newParser returns the parser for the documents of s.
func newParser(s Source, t *Tally) parser {
	switch s.Format {
	case AmazonCVE:
		return &amazonCVEReader{source: s.Name, tally: t}
	case UbuntuTracker:
		return &ubuntuReader{source: s.Name, tally: t}
	case UbuntuVEX:
		return &ubuntuVEXReader{source: s.Name, tally: t}
	case CSAF:
		return &csafReader{source: s.Name, tally: t}
	case DebianTracker:
		return &debianReader{source: s.Name, tally: t}
	case SecDB:
		return &secdbReader{source: s, tally: t}
	}
	return &osvReader{source: s.Name, tally: t}
}

// whole reports whether a file of s is one document with many advisories, which
// are handed over while it is read.
func (s Source) whole() bool { return s.Format == DebianTracker || s.Format == SecDB }

// documentLimit returns how large a document of s may be.
func (s Source) documentLimit() int64 {
	switch {
	case s.Format == CSAF || s.Format == UbuntuVEX:
		return maxCSAF
	case s.whole():
		return maxFile
	}
	return maxDocument
}

// reading is one run over the files of a source.
type reading struct {
	ctx     context.Context
	source  Source
	fsys    fs.FS
	tally   *Tally
	yield   func(advisory.Advisory, error) bool
	stopped bool
	// newer holds the names of single documents, which supersede those of the
	// same name in archives; deleted those that the publisher took back.
	newer, deleted map[string]bool
	superseded     atomic.Int64      // counted by the goroutine that finds documents
	archived       atomic.Int64      // documents in archives, counted by the same
	updates        map[string]string // advisories of RPM repositories: the file that each is in
}

func newReading(ctx context.Context, s Source, fsys fs.FS, tally *Tally, yield func(advisory.Advisory, error) bool) *reading {
	rd := &reading{ctx: ctx, source: s, fsys: fsys, tally: tally, yield: yield, updates: map[string]string{}}
	tally.failed = rd.invalid
	return rd
}

func (rd *reading) end() { rd.tally.failed, rd.tally.within = nil, "" }

// invalid hands over that a document is broken.
func (rd *reading) invalid(f Failure) {
	if !rd.stopped {
		rd.stopped = !rd.yield(advisory.Advisory{}, fault.New(fault.Invalid, "read %s: %w", f.Document, f.Err))
	}
}

// give hands an advisory over and reports whether more are wanted.
func (rd *reading) give(a *advisory.Advisory) bool {
	if rd.stopped {
		return false
	}
	rd.tally.Advisories++
	rd.tally.sawAdvisory(a)
	rd.stopped = !rd.yield(*a, nil)
	return !rd.stopped
}

// broken hands over that a file could not be read to its end.
func (rd *reading) broken(file string, err error) {
	if rd.stopped {
		return
	}
	rd.stopped = !rd.yield(advisory.Advisory{}, fmt.Errorf("read %s: %w", file, err)) || rd.ctx.Err() != nil
}

// files reads the files of where: single documents first, because they are newer
// than those in archives.
func (rd *reading) files(where string, names []string) {
	rd.newer, rd.deleted = map[string]bool{}, map[string]bool{}
	var documents, archives []string
	for _, name := range names {
		switch {
		case rd.source.isDocument(name):
			documents = append(documents, name)
			rd.newer[documentName(name)] = true
		case strings.HasSuffix(name, "deletions.csv"):
			rd.readDeletions(name)
		case isArchive(name) || rd.source.Format == UpdateInfo && strings.Contains(path.Base(name), "updateinfo"):
			archives = append(archives, name)
		}
	}
	if rd.source.Format == UpdateInfo {
		documents = nil
	}
	if len(documents)+len(archives) == 0 {
		rd.broken(where, fault.New(fault.NotFound, "no file that %s has", rd.source.Name).With("docs/feeds.md shows what is where"))
		return
	}
	switch rd.source.Format {
	case CSAF:
		archives = latest(archives)
	case AmazonCVE:
		documents = oneForm(documents)
	}
	switch {
	case len(documents) == 0:
	case rd.source.whole():
		rd.wholes(documents)
	default:
		rd.batches("", rd.loose(documents))
	}
	for _, name := range archives {
		if rd.stopped {
			return
		}
		if rd.source.Format == UpdateInfo {
			rd.updateInfo(name)
			continue
		}
		rd.archive(name)
	}
	if n := rd.superseded.Load(); n > 0 {
		rd.tally.add(&Tally{Skipped: map[Skip]int{SkipSuperseded: int(n)}})
	}
}

// wholes reads files that are one document each.
func (rd *reading) wholes(names []string) {
	p := newParser(rd.source, rd.tally)
	for _, name := range names {
		rd.tally.Documents++
		rd.tally.within = name
		data, err := rd.readFile(name)
		if err == nil {
			rd.tally.Bytes += int64(len(data))
			err = p.document(data, func(a *advisory.Advisory) bool { return rd.give(a) && rd.ctx.Err() == nil })
		}
		if err = cmp.Or(rd.ctx.Err(), err); err != nil {
			rd.tally.count(name, err)
			rd.broken(name, err)
		}
		if rd.stopped {
			return
		}
	}
	rd.tally.within = ""
	if s, ok := p.(*secdbReader); ok {
		s.finish(func(a *advisory.Advisory) bool { return rd.give(a) && rd.ctx.Err() == nil })
	}
}

// readFile reads a file, compressed or not.
func (rd *reading) readFile(name string) ([]byte, error) {
	return readNamed(rd.fsys, name, rd.source.documentLimit())
}

// latest keeps the last of archives that are named by their dates.
func latest(archives []string) []string {
	if len(archives) < 2 {
		return archives
	}
	slices.Sort(archives)
	return archives[len(archives)-1:]
}

// isDocument reports whether a file is a document of s, by its name. A folder and
// an archive also hold what is none: lists, and what is published in other forms.
func (s Source) isDocument(name string) bool {
	base := path.Base(name)
	if strings.HasPrefix(base, ".") {
		return false
	}
	switch {
	case s.Format == AmazonCVE && strings.HasSuffix(base, ".html"):
		return isCVE(strings.TrimSuffix(base, ".html")) // and not the index
	case s.Format == UbuntuVEX: // the notices beside them only say what is fixed
		return strings.HasSuffix(base, ".json") && isCVE(strings.TrimSuffix(base, ".json"))
	}
	return strings.HasSuffix(base, ".json")
}

// oneForm leaves out pages of which there is a JSON document as well.
func oneForm(documents []string) []string {
	have := map[string]bool{}
	for _, name := range documents {
		have[name] = true
	}
	return slices.DeleteFunc(documents, func(name string) bool {
		page, ok := strings.CutSuffix(name, ".html")
		return ok && have[page+".json"]
	})
}

// documentName is what makes two documents the same: their base name, with the
// colon of errata as it is in files.
func documentName(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".json"), ".html")
	return strings.ToLower(strings.ReplaceAll(name, ":", "_"))
}

// batches reads documents on all cores and hands over what is in them in their
// order.
func (rd *reading) batches(archive string, batches func(yield func([]entry) bool)) {
	workers := runtime.GOMAXPROCS(0)
	desks := make([]*desk, workers)
	for i := range desks {
		desks[i] = &desk{source: rd.source}
	}
	inOrder(workers, batches,
		func(worker int, batch []entry) *result { return desks[worker].read(rd.ctx, archive, batch) },
		func(r *result) bool {
			rd.tally.add(&r.tally)
			for _, a := range r.advisories {
				if !rd.give(a) {
					return false
				}
			}
			for _, f := range r.failures {
				rd.invalid(f)
			}
			if err := rd.ctx.Err(); err != nil {
				rd.broken(archive, err)
				return false
			}
			return true
		})
}

// entry is one document that is still to be read.
type entry struct {
	name string
	read func(buf []byte, limit int64) ([]byte, error)
}

// desk is where one goroutine reads documents.
type desk struct {
	source Source
	buf    []byte
	tally  Tally
	parser parser
}

// result is what a batch of documents holds.
type result struct {
	advisories []*advisory.Advisory
	failures   []Failure
	tally      Tally
}

// read reads a batch. Canceled is checked between documents.
func (d *desk) read(ctx context.Context, archive string, batch []entry) *result {
	out := &result{}
	d.tally = Tally{failed: func(f Failure) { out.failures = append(out.failures, f) }}
	for _, e := range batch {
		if ctx.Err() != nil {
			break
		}
		if d.parser == nil {
			d.parser = newParser(d.source, &d.tally)
		}
		d.tally.Documents++
		before := len(out.advisories)
		data, err := e.read(d.buf, d.source.documentLimit())
		if err == nil {
			d.buf = data
			d.tally.Bytes += int64(len(data))
			err = d.parser.document(data, func(a *advisory.Advisory) bool {
				out.advisories = append(out.advisories, a)
				return true
			})
		}
		if err != nil {
			out.advisories = out.advisories[:before]
			d.tally.fail(path.Join(archive, e.name), err)
		}
		if cap(d.buf) > maxKept {
			d.buf = nil
		}
	}
	out.tally = d.tally
	return out
}

// maxKept is how much memory a goroutine keeps for the next document.
const maxKept = 4 << 20

// readDeletions notes which documents a publisher took back: lines of quoted path
// and time. A single document of that name is newer.
func (rd *reading) readDeletions(name string) {
	data, err := readNamed(rd.fsys, name, maxIndex)
	if err != nil {
		rd.broken(name, err)
		return
	}
	for line := range strings.Lines(string(data)) {
		document, _, ok := strings.Cut(strings.ReplaceAll(line, `"`, ""), ",")
		if ok && strings.HasSuffix(document, ".json") {
			rd.deleted[documentName(document)] = true
		}
	}
}
