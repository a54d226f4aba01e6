package oci

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// streamBuffer is what is read of a stream at once.
const streamBuffer = 128 << 10

// OpenStream returns the image that c means in an archive that is read as it
// comes: a tar archive of an image layout or of `docker save`, compressed or
// not. Which image that is, and what it looks like, is known only when Each has
// read to the end. Each works once, unless r is a file, and never twice at the
// same time. Closing the image closes r.
func OpenStream(r io.ReadCloser, c Choice) *Image {
	return &Image{info: inventory.Image{Reference: c.in("-")}, pass: &pass{in: r, choice: c}, closer: r}
}

// ReadArchive reads an archive of one image, which is what an engine sends when
// it is asked to save known. It hands its layers over as they come, as Each of
// a stream does, and returns the image as the archive describes it. An archive
// of another image than known is refused.
func ReadArchive(ctx context.Context, archive io.Reader, known inventory.Image, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) (inventory.Image, error) {
	p := &pass{in: archive, choice: Choice{Platform: known.Platform}}
	got, err := p.run(ctx, skip, take)
	if err != nil {
		return got, err
	}
	got.Reference = known.Reference
	if known.ID != "" && !p.leads(known.ID, got) {
		return got, fault.New(fault.Conflict, "the archive has the image %s, and %s was asked for", short(got.ID), short(known.ID)).
			With("was the image replaced meanwhile? try again")
	}
	return got, nil
}

// alone is what OpenPathAll returns for a stream.
func (i *Image) alone(all bool) ([]*Image, error) {
	if !all {
		return []*Image{i}, nil
	}
	return nil, errors.Join(fault.New(fault.Unsupported, "an archive that is compressed or comes through a pipe is read once, so only one image of it can be scanned").
		With("decompress it into a file first, or ask for one platform"), i.Close())
}

// pass reads one archive from its beginning to its end.
type pass struct {
	in     io.Reader
	choice Choice
	begun  bool
	seeks  bool  // it is a file, which can be read again
	start  int64 // where in that file

	seen   map[string]passed // by clean name
	held   int64             // bytes of documents
	wasted int64             // bytes of what is neither layer nor document
	tops   []string          // digests that the outermost index names
}

// passed is an entry that has passed.
type passed struct {
	entry
	document []byte // kept of what may describe an image
	kind     kind   // of the rest: how it is compressed, if it is a layer
	handed   bool   // to take, or skip named it
}

// run reads the archive and hands its layers over.
func (p *pass) run(ctx context.Context, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) (inventory.Image, error) {
	if err := p.rewind(); err != nil {
		return inventory.Image{}, err
	}
	r, done, err := decompressed(bufio.NewReaderSize(inContext{ctx, p.in}, streamBuffer))
	if err != nil {
		return inventory.Image{}, err
	}
	defer done()
	p.seen = map[string]passed{}
	t := tar.NewReader(r)
	content := bufio.NewReaderSize(contentOf{t}, streamBuffer)
	var names int64
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return inventory.Image{}, brokenTar(err)
		}
		if n == maxEntries {
			return inventory.Image{}, tooManyEntries()
		}
		if names += int64(len(h.Name) + len(h.Linkname)); names > maxNames {
			return inventory.Image{}, tooManyEntries()
		}
		content.Reset(contentOf{t})
		if err := p.next(ctx, h, content, skip, take); err != nil {
			return inventory.Image{}, err
		}
	}
	return p.image(ctx)
}

// rewind goes to the beginning, from the second time on.
func (p *pass) rewind() error {
	s, seeks := p.in.(io.Seeker)
	if !p.begun {
		p.begun = true
		if seeks {
			var err error
			p.start, err = s.Seek(0, io.SeekCurrent)
			p.seeks = err == nil
		}
		return nil
	}
	if !p.seeks {
		return fault.New(fault.Invalid, "a pipe can be read once, and this image must be read again").With("save it to a file first")
	}
	p.held, p.wasted, p.tops = 0, 0, nil
	_, err := s.Seek(p.start, io.SeekStart)
	return err
}

// inContext reads until its context ends.
type inContext struct {
	ctx context.Context
	r   io.Reader
}

// Read reads, unless the context has ended.
func (r inContext) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// contentOf reads the current entry of an archive, and says of an error that it
// is the archive's.
type contentOf struct{ t *tar.Reader }

// Read reads on.
func (c contentOf) Read(b []byte) (int, error) {
	n, err := c.t.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = brokenTar(err)
	}
	return n, err
}

// next looks at one entry of the archive: layers are handed over, documents
// kept, and of the rest is remembered that it was there.
func (p *pass) next(ctx context.Context, h *tar.Header, content *bufio.Reader, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) error {
	name, e, err := entryOf(h)
	if err != nil || name == "" {
		return err
	}
	if _, twice := p.seen[name]; twice {
		return twiceInTar(name)
	}
	seen := passed{entry: e}
	if e.link == "" {
		if isContents(name) {
			seen.document, err = p.keep(name, e.size, maxManifest, content)
		} else {
			err = p.file(ctx, name, &seen, content, skip, take)
		}
	}
	p.seen[name] = seen
	return err
}

func isContents(name string) bool {
	return name == fileContents || name == fileIndex || name == fileLayout
}

// file hands a file over if it is a layer, and keeps it if it may be a
// document.
func (p *pass) file(ctx context.Context, name string, seen *passed, content *bufio.Reader, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) error {
	if seen.size == 0 && blobDigest(name) == "" && !strings.HasSuffix(name, ".tar") {
		return nil // an empty layer has a layer's name
	}
	head, err := content.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if seen.kind = compression(head); seen.kind != foreignKind {
		seen.handed = true
		l := p.layer(name, *seen)
		if skip(l) {
			return nil
		}
		return take(ctx, l, content)
	}
	if seen.size > maxConfig || !bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		return p.waste(name, seen.size)
	}
	b, err := p.keep(name, seen.size, maxConfig, content)
	if err != nil {
		return err
	}
	if describesImage(b) {
		seen.document = b
		return nil
	}
	p.held -= int64(len(b))
	return p.waste(name, seen.size)
}

// waste counts what belongs to no image.
func (p *pass) waste(name string, size int64) error {
	if size > maxWasted-p.wasted {
		return invalid("the archive has more than %d bytes that belong to no image, up to %s", int64(maxWasted), shown(name))
	}
	p.wasted += size
	return nil
}

// layer is what is known of a layer while it passes.
func (p *pass) layer(name string, seen passed) inventory.Layer {
	l := inventory.Layer{Digest: blobDigest(name), Size: seen.size}
	switch seen.kind {
	case gzipped:
		l.MediaType = typeLayer + "+gzip"
	case zstandard:
		l.MediaType = typeLayer + "+zstd"
	default:
		l.MediaType, l.DiffID = typeLayer, l.Digest
	}
	return l
}

// keep reads a document.
func (p *pass) keep(name string, size, limit int64, r io.Reader) ([]byte, error) {
	if size > limit {
		return nil, tooLarge(name, size, limit)
	}
	if p.held += size; p.held > maxDocuments {
		return nil, invalid("the archive has more than %d bytes of manifests and configurations", maxDocuments)
	}
	return io.ReadAll(r)
}

// describesImage says whether b can be an index, a manifest or a configuration.
// Attestations, which can be as large as them and a hundred times as many, are
// none.
func describesImage(b []byte) bool {
	var schema, rootfs, system json.RawMessage
	found, err := members(b, map[string]*json.RawMessage{"schemaVersion": &schema, "rootfs": &rootfs, "os": &system})
	return err != nil || found > 0 // what cannot be read is told of when it is needed
}

// image finds out which image has passed.
func (p *pass) image(ctx context.Context) (inventory.Image, error) {
	f := memory{p.seen}
	switch {
	case has(f, fileIndex):
		return p.indexed(ctx, f)
	case has(f, fileContents):
		return p.saved(ctx, f)
	}
	_, err := openFiles(ctx, f, p.choice, false) // the error that a file would give
	return inventory.Image{}, err
}

// indexed finds the image by the index of a layout.
func (p *pass) indexed(ctx context.Context, f memory) (inventory.Image, error) {
	found, err := indexed(ctx, newResolver(blobs{f}, p.choice), f, false)
	if err != nil {
		return inventory.Image{}, err
	}
	if err := agrees(ctx, f, p.choice, found); err != nil {
		return inventory.Image{}, err
	}
	got := found[0]
	for n, d := range got.layers {
		if got.image.Layers[n].Missing != "" {
			continue
		}
		if err := f.handed(blobName(d.Digest), d.Size); err != nil {
			return inventory.Image{}, fmt.Errorf("layer %d: %w", n+1, err)
		}
	}
	b := f.seen[fileIndex].document
	if doc, err := parseDocument(b, ""); err == nil {
		for _, d := range doc.index {
			p.tops = append(p.tops, d.Digest)
		}
	}
	return got.image, nil
}

// saved finds the image by an archive's table of contents.
func (p *pass) saved(ctx context.Context, f memory) (inventory.Image, error) {
	found, err := chooseSaved(ctx, f, p.choice, false)
	if err != nil {
		return inventory.Image{}, err
	}
	got := found[0]
	for n := range got.image.Layers {
		l := &got.image.Layers[n]
		if l.Missing != "" {
			continue
		}
		if err := f.handed(got.files[n], -1); err != nil {
			return inventory.Image{}, fmt.Errorf("layer %d: %w", n+1, err)
		}
		_, name, err := follow(f.at, got.files[n])
		if err != nil {
			return inventory.Image{}, err
		}
		as := p.layer(name, f.seen[name])
		l.Size, l.MediaType, l.Digest = as.Size, as.MediaType, as.Digest
		if f.seen[name].kind == plain {
			l.Digest = l.DiffID
		}
	}
	return got.image, nil
}

// leads says whether an id by which an engine knows an image leads to the one
// that passed: it is that of the configuration, the manifest or the index.
func (p *pass) leads(id string, got inventory.Image) bool {
	if id == got.ID || id == got.Digest {
		return true
	}
	for _, top := range p.tops {
		if id == top {
			return true
		}
	}
	return false
}

// memory is what passed, as files: only documents can be opened.
type memory struct{ seen map[string]passed }

func (m memory) at(name string) (entry, bool) {
	s, ok := m.seen[name]
	return s.entry, ok
}

func (m memory) open(name string) (io.ReadCloser, error) {
	_, at, err := follow(m.at, name)
	if err != nil {
		return nil, err
	}
	s := m.seen[at]
	if s.document == nil {
		return nil, invalid("%s is neither a manifest nor a configuration", shown(name))
	}
	return io.NopCloser(bytes.NewReader(s.document)), nil
}

func (m memory) size(name string) (int64, error) {
	e, _, err := follow(m.at, name)
	return e.size, err
}

// Close has nothing to close.
func (m memory) Close() error { return nil }

// handed returns the error for a layer that did not pass, or not as one; size
// less than 0 is not known.
func (m memory) handed(name string, size int64) error {
	e, at, err := follow(m.at, name)
	switch {
	case err != nil:
		return err
	case size >= 0 && size != e.size:
		return corrupt("%s has %d bytes, and %d were announced", shown(name), e.size, size)
	case !m.seen[at].handed:
		return notALayer(name)
	}
	return nil
}
