package feeds

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
)

const (
	// maxToken is how long one tag or text of an updateinfo may be; a
	// description has some kilobytes.
	maxToken = 1 << 20
	// maxXMLDepth is how deep one may nest: a package is at six.
	maxXMLDepth = 16
	// maxUpdateInfo is what one may unpack to; Amazon Linux 2 has 100 MB.
	maxUpdateInfo = 2 << 30
)

var errXMLDeep = fmt.Errorf("nests deeper than %d levels", maxXMLDepth)

// updateInfo reads the updateinfo.xml of one RPM repository: an <update> is an
// advisory with the binary packages that it brings, of all architectures. The
// repository is told by the folder: amazon/2/extras/docker/updateinfo.xml.gz.
func (rd *reading) updateInfo(name string) {
	f, err := rd.fsys.Open(name)
	if err != nil {
		rd.broken(name, err)
		return
	}
	defer func() { _ = f.Close() }() // read only
	plain, done, err := decompress(f)
	if err != nil {
		rd.broken(name, err)
		return
	}
	defer done()
	ecosystem, repository := rd.repository(name)
	u := &updateReader{
		source: rd.source.Name, ecosystem: ecosystem, repository: repository, tally: rd.tally,
		input: &budget{r: bufio.NewReader(&bounded{r: plain, left: maxUpdateInfo})},
	}
	rd.tally.within = name
	give := func(a *advisory.Advisory) bool {
		if at, ok := rd.updates[a.ID]; ok && at != name { // the same number in two repositories
			a.ID += "/" + path.Base(path.Dir(name))
		}
		rd.updates[a.ID] = name
		return rd.give(a) && rd.ctx.Err() == nil
	}
	if err := u.read(give); err != nil {
		rd.broken(name, err)
	} else if err := rd.ctx.Err(); err != nil {
		rd.broken(name, err)
	}
	rd.tally.Bytes += u.input.total
}

// repository tells by its path what an updateinfo is of: the release, and the
// extra, which is empty for the core.
func (rd *reading) repository(name string) (ecosystem, repository string) {
	release := path.Base(rd.source.Dir)
	ecosystem = rd.source.Ecosystems[0] + ":" + release
	if folder := path.Dir(name); folder != rd.source.Dir && folder != "." {
		repository = extraOf(release, path.Base(folder))
	}
	return ecosystem, repository
}

// updateReader reads one updateinfo. encoding/xml knows no entities but XML's own
// and loads nothing from elsewhere, so that a bomb of entities is a syntax error.
type updateReader struct {
	source, ecosystem, repository string
	tally                         *Tally
	input                         *budget
	dec                           *xml.Decoder
	words                         words
}

func (u *updateReader) read(give func(*advisory.Advisory) bool) error {
	u.dec = xml.NewDecoder(u.input)
	isUpdates := false
	for depth := 0; ; {
		t, err := u.token()
		if errors.Is(err, io.EOF) {
			if !isUpdates {
				return errors.New("no updateinfo: it has no <updates>")
			}
			return nil
		}
		if err != nil {
			return err
		}
		if _, ok := t.(xml.EndElement); ok {
			depth--
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		isUpdates = isUpdates || start.Name.Local == "updates"
		if start.Name.Local != "update" {
			if depth++; depth > maxXMLDepth {
				return errXMLDeep
			}
			continue
		}
		a, err := u.update(start)
		if err != nil {
			return err
		}
		if a != nil && !give(a) {
			return nil
		}
	}
}

func (u *updateReader) token() (xml.Token, error) {
	u.input.left = maxToken
	return u.dec.Token()
}

// update reads one advisory. What is wrong with its content costs only itself,
// what is wrong with the XML is an error.
func (u *updateReader) update(start xml.StartElement) (*advisory.Advisory, error) {
	u.tally.Documents++
	a := &advisory.Advisory{Source: u.source}
	if kind := attr(start, "type"); kind != "" && kind != "security" {
		u.tally.skip(SkipNoPackage)
		return nil, u.skip()
	}
	packages := builder{limit: maxAffected}
	var text strings.Builder
	var failed error
	for depth := 1; depth > 0; {
		t, err := u.token()
		if err != nil {
			return nil, unexpected(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth > maxXMLDepth {
				return nil, errXMLDeep
			}
			text.Reset()
			if failed == nil {
				failed = u.open(a, &packages, t)
			}
		case xml.CharData:
			if text.Len()+len(t) <= maxToken {
				text.Write(t)
			}
		case xml.EndElement:
			depth--
			if depth == 1 {
				u.field(a, t.Name.Local, strings.TrimSpace(text.String()))
			}
			text.Reset()
		}
	}
	a.Affected = packages.all
	switch {
	case a.ID == "":
		failed = errors.New("an update without an id")
	case failed == nil:
		failed = checkNames(a.ID)
	}
	if failed != nil {
		u.tally.fail(fmt.Sprintf("update %.60s", a.ID), failed)
		return nil, nil
	}
	if len(a.Affected) == 0 {
		u.tally.skip(SkipNoPackage)
		return nil, nil
	}
	return a, nil
}

// skip goes to the end of the element that has begun.
func (u *updateReader) skip() error {
	for depth := 1; depth > 0; {
		t, err := u.token()
		if err != nil {
			return unexpected(err)
		}
		switch t.(type) {
		case xml.StartElement:
			if depth++; depth > maxXMLDepth {
				return errXMLDeep
			}
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

// open reads what is in the attributes of a tag within an update.
func (u *updateReader) open(a *advisory.Advisory, packages *builder, t xml.StartElement) error {
	switch t.Name.Local {
	case "issued":
		a.Published = parseTime(attr(t, "date"))
	case "updated":
		a.Modified = parseTime(attr(t, "date"))
	case "reference":
		u.reference(a, t)
	case "package":
		name, arch := attr(t, "name"), attr(t, "arch")
		if name == "" || arch == "src" {
			return nil
		}
		version := evr(attr(t, "epoch"), attr(t, "version"), attr(t, "release"))
		if err := checkNames(name, version, arch); err != nil {
			return err
		}
		return packages.add(advisory.Affected{
			Ecosystem: u.ecosystem, Package: name, Of: advisory.OfBinary,
			Repository: u.repository, Ranges: []advisory.Range{{Fixed: u.words.of([]byte(version))}},
		}, u.words.of([]byte(arch)))
	}
	return nil
}

func (u *updateReader) reference(a *advisory.Advisory, t xml.StartElement) {
	id, href, kind := attr(t, "id"), attr(t, "href"), attr(t, "type")
	if kind == "cve" && isCVE(id) && len(a.Upstream) < maxNames {
		a.Upstream = append(a.Upstream, id)
	}
	if href != "" && len(href) <= maxURL && len(a.References) < maxReferences {
		if kind == "self" {
			kind = "advisory"
		}
		a.References = append(a.References, advisory.Reference{Kind: u.words.lower([]byte(cut(kind, maxName))), URL: href})
	}
}

// field reads what is in the text of a tag just below an update.
func (u *updateReader) field(a *advisory.Advisory, name, text string) {
	switch name {
	case "id":
		a.ID = text
	case "title":
		a.Summary = cut(text, maxSummary)
	case "severity":
		a.Rating = rating(text)
	case "description":
		a.Details = cut(text, maxDetails)
	}
}

// evr puts epoch, version and release of an RPM together. No epoch is epoch 0.
func evr(epoch, version, release string) string {
	if release != "" {
		version += "-" + release
	}
	if epoch != "" && epoch != "0" {
		version = epoch + ":" + version
	}
	return version
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// unexpected makes the end of the file within something an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// budget lets the XML reader have at most left bytes for what it reads next, so
// that an endless tag or text is not kept in memory. Being an io.ByteReader
// keeps encoding/xml from reading ahead.
type budget struct {
	r     *bufio.Reader
	left  int
	total int64
}

// ReadByte returns the next byte of the budget.
func (b *budget) ReadByte() (byte, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("a tag or text of more than %d bytes", maxToken)
	}
	b.left--
	b.total++
	return b.r.ReadByte()
}

// Read returns one byte: encoding/xml uses only ReadByte.
func (b *budget) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := b.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}
