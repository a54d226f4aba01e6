package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client/pkg/versions"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// The API versions from which on engines with the containerd store can be asked
// for one platform of an image.
const (
	savesPlatforms    = "1.48"
	inspectsPlatforms = "1.49"
)

// ReadArchive reads the archive that an engine sends when it is asked to save
// known, hands its layers over as Image.Each does, and returns the image as the
// archive describes it. Package oci has one.
type ReadArchive func(ctx context.Context, archive io.Reader, known inventory.Image, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) (inventory.Image, error)

// Image is an image that an engine has. The caller closes it.
type Image struct {
	conn     *conn
	host     host
	read     ReadArchive
	info     inventory.Image
	id       string // by which the engine saves it
	manifest bool   // id is a manifest's or an index's: a containerd store
	platform string // to ask for, in the API's form; empty to ask for none
}

// OpenImage opens the image that the engine knows by a name, a digest or an id,
// or the beginning of one. The zero platform is the engine's own. The error is
// of kind NotFound when it has no such image, and Unavailable when there is no
// engine.
func (e *Engine) OpenImage(ctx context.Context, name string, platform inventory.Platform, read ReadArchive) (*Image, error) {
	if !isImageName(name) {
		return nil, fault.New(fault.Invalid, "image %q: no engine can have one of that name", clean(name, maxText)).
			With("give a name, a digest or an id")
	}
	c, err := dial(ctx, e.host)
	if err != nil {
		return nil, err
	}
	i := &Image{conn: c, host: e.host, read: read}
	if err := i.inspect(ctx, name, platform); err != nil {
		c.close()
		return nil, fmt.Errorf("open image %s: %w", clean(name, maxText), err)
	}
	return i, nil
}

// OpenWorkloadImage opens the image that a workload runs: the one with its id,
// whatever its name means by now. Without an id it is the one with its digest,
// else the one with its name.
func (e *Engine) OpenWorkloadImage(ctx context.Context, of asset.Image, read ReadArchive) (*Image, error) {
	name := of.ID
	if name == "" {
		name = of.Reference
		if repository, _, _ := strings.Cut(of.Reference, "@"); of.Digest != "" && repository != "" {
			name = withoutTag(repository) + "@" + of.Digest
		}
	}
	if name == "" {
		return nil, fault.New(fault.NotFound, "it is not known what image the workload runs").
			With("wait until the agent has inspected it, or name the image")
	}
	i, err := e.OpenImage(ctx, name, inventory.Platform{}, read)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "%w", err).
			With("it was removed while the workload runs on; scan it from its registry")
	}
	if err == nil && of.Reference != "" {
		i.info.Reference = clean(of.Reference, maxText)
	}
	return i, err
}

// withoutTag returns the repository of a reference without a digest.
func withoutTag(reference string) string {
	if slash, colon := strings.LastIndexByte(reference, '/'), strings.LastIndexByte(reference, ':'); colon > slash {
		return reference[:colon]
	}
	return reference
}

// isImageName says whether a name is fit to be part of a path and can be an
// image's.
func isImageName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@-[]"
	return name != "" && len(name) <= maxText && strings.Trim(name, letters) == "" && name[0] != '/' && name[0] != '.' && name[0] != '-' &&
		!strings.Contains(name, "..") && !strings.Contains(name, "//") && !strings.HasSuffix(name, "/")
}

// Image describes the image as far as the engine tells; after Each, as its own
// configuration does. The engine does not tell authors and the digests of
// compressed layers.
func (i *Image) Image() inventory.Image {
	info := i.info
	info.Layers = slices.Clone(info.Layers) // which whoever scans completes
	return info
}

// Each hands over the layers that skip does not name, one by one and in the
// order in which the engine sends them. They are known by their DiffID or not at
// all while they pass. Engines send all of an image: that is asked for only if
// skip does not name all of its layers by their DiffID.
func (i *Image) Each(ctx context.Context, _ int, skip func(inventory.Layer) bool,
	take func(context.Context, inventory.Layer, io.Reader) error) error {
	if !slices.ContainsFunc(i.info.Layers, func(l inventory.Layer) bool { return !skip(l) }) {
		return nil
	}
	archive, err := i.save(ctx)
	if err != nil {
		return fmt.Errorf("save image %s: %w", asset.ShortID(i.id), err)
	}
	known := i.info
	known.ID = i.id
	got, err := i.read(ctx, archive, known, skip, take)
	if err := errors.Join(err, archive.Close()); err != nil {
		return fmt.Errorf("save image %s: %w", asset.ShortID(i.id), err)
	}
	if err := i.same(got); err != nil {
		return err
	}
	if !i.manifest {
		got.Digest = i.info.Digest // the archive's own manifest was made up to save it
	}
	i.info = got
	return nil
}

// same refuses an archive of other layers than the engine told of.
func (i *Image) same(got inventory.Image) error {
	if !slices.EqualFunc(i.info.Layers, got.Layers, func(a, b inventory.Layer) bool { return a.DiffID == b.DiffID }) {
		return fault.New(fault.Corrupt, "save image %s: the engine sent other layers than it told of", asset.ShortID(i.id)).
			With("its store is damaged; remove the image and pull it again")
	}
	return nil
}

// save asks the engine for the image. The caller closes the archive.
func (i *Image) save(ctx context.Context) (io.ReadCloser, error) {
	t := i.host.transport()
	t.ResponseHeaderTimeout = saveWithin
	t.ReadBufferSize = saveBuffer
	saver := &conn{http: &http.Client{Transport: t, CheckRedirect: i.conn.http.CheckRedirect}, base: i.conn.base}
	query := url.Values{"names": {i.id}}
	if i.platform != "" && !versions.LessThan(i.conn.engine.APIVersion, savesPlatforms) {
		query.Set("platform", i.platform)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	body, err := saver.open(ctx, "/images/get", query)
	if err != nil {
		cancel(nil)
		saver.close()
		return nil, err
	}
	s := &archive{body: body, conn: saver, ctx: ctx, cancel: cancel}
	s.timer = time.AfterFunc(time.Hour, func() { cancel(errSilent) })
	s.timer.Stop()
	return s, nil
}

// Close ends the connection to the engine.
func (i *Image) Close() error {
	i.conn.close()
	return nil
}

var errSilent = errors.New("the engine sends nothing any more")

// archive is what an engine sends, as long as it sends.
type archive struct {
	body   io.ReadCloser
	conn   *conn
	ctx    context.Context // of the open request
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// Read reads on, and gives up an engine that is silent for silentFor.
func (a *archive) Read(b []byte) (int, error) {
	a.timer.Reset(silentFor)
	n, err := a.body.Read(b)
	a.timer.Stop()
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	switch cause := context.Cause(a.ctx); {
	case errors.Is(cause, errSilent):
		err = cause
	case cause != nil:
		return n, cause
	}
	return n, fault.New(fault.Unavailable, "the engine broke off: %w", err).With("is dockerd still running, and its disk not full?")
}

// Close ends the request; an engine that still sends stops.
func (a *archive) Close() error {
	a.timer.Stop()
	a.cancel(nil)
	err := a.body.Close()
	a.conn.close()
	return err
}

// platformQuery is a platform in the form of the API.
func platformQuery(p inventory.Platform) (string, error) {
	b, err := json.Marshal(struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant,omitempty"`
	}{p.Architecture, p.OS, p.Variant})
	return string(b), err
}
