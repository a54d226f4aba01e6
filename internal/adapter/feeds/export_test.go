package feeds

import (
	"context"
	"io/fs"
	"iter"

	"github.com/castellan-security/castellan/internal/advisory"
)

// ParseFile is Parse for one file: a document, an archive of documents, or a list,
// whatever the source publishes.
func ParseFile(ctx context.Context, s Source, fsys fs.FS, name string, tally *Tally) iter.Seq2[advisory.Advisory, error] {
	return func(yield func(advisory.Advisory, error) bool) {
		rd := newReading(ctx, s, fsys, tally, yield)
		defer rd.end()
		rd.files(name, []string{name})
	}
}
