package feeds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pace"
)

const (
	// perHost is how many requests one publisher gets at a time.
	perHost = 4
	// perUpdate is how many sources are fetched at a time.
	perUpdate = 4
)

// Options are what a Fetcher can be told. The zero value fetches from the
// publishers.
type Options struct {
	// Mirror is the address of a server with the same layout as the folder:
	// everything is fetched from there, and nothing from the publishers.
	Mirror string
	// Transport carries the requests; nil means one that takes proxies from the
	// environment.
	Transport http.RoundTripper
	// Agent is what requests call the program.
	Agent string
	// Progress is called now and then while something is fetched, from several
	// goroutines at a time.
	Progress func(Progress)
}

// Progress is how far the fetching of one file is.
type Progress struct {
	Source string
	File   string // in the layout
	Done   int64  // bytes of the file that are here
	Total  int64  // 0: the publisher doesn't say
}

// Fetcher brings the files of sources into a folder and keeps them current. One
// folder belongs to one Fetcher at a time.
type Fetcher struct {
	dir      string
	mirror   string
	client   *http.Client
	agent    string
	progress func(Progress)
	now      func() time.Time
	// pause waits between tries; tests don't wait.
	pause func(context.Context, time.Duration) error

	mu    sync.Mutex
	hosts map[string]chan struct{}
}

// NewFetcher returns a Fetcher for the folder dir, which is made if need be when
// something is fetched.
func NewFetcher(dir string, o Options) (*Fetcher, error) {
	f := &Fetcher{
		dir: dir, mirror: strings.TrimRight(o.Mirror, "/"), agent: o.Agent, progress: o.Progress,
		now: time.Now, pause: sleep, hosts: map[string]chan struct{}{},
	}
	if f.agent == "" {
		f.agent = "castellan"
	}
	if f.progress == nil {
		f.progress = func(Progress) {}
	}
	if f.mirror != "" {
		u, err := url.Parse(f.mirror)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fault.New(fault.Invalid, "mirror %q: want an address with http:// or https://", o.Mirror).
				With("a folder needs no mirror: name it as where the feeds are")
		}
	}
	transport := o.Transport
	if transport == nil {
		transport = newTransport()
	}
	f.client = &http.Client{Transport: transport, CheckRedirect: redirect}
	return f, nil
}

// newTransport is the standard one, which honours HTTPS_PROXY and the like, with
// a limit to how long a publisher may think. It must not unpack: what is resumed
// are the bytes that were sent.
func newTransport() *http.Transport {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		t = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	t = t.Clone()
	t.DisableCompression = true
	t.ResponseHeaderTimeout = answerWithin
	t.MaxIdleConnsPerHost = perHost
	return t
}

// redirect follows publishers to their content networks, but never from an
// encrypted connection to an open one.
func redirect(req *http.Request, via []*http.Request) error {
	const longest = 5
	if len(via) >= longest {
		return fmt.Errorf("more than %d redirections", longest)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("redirected from https to an open connection")
	}
	return nil
}

// Updated is what became of one source.
type Updated struct {
	Source    string
	Changed   int   // files that are new or changed
	Unchanged int   // files that the publisher has not changed
	Removed   int   // files that are superseded
	Bytes     int64 // fetched
	Err       error // what is there from before stays
}

// Update fetches what has changed of the sources since the last time, all of it
// the first time. It tells what became of each; the error joins those of all that
// failed, which leaves the others updated.
func (f *Fetcher) Update(ctx context.Context, sources []Source) ([]Updated, error) {
	all := make([]Updated, len(sources))
	var wg sync.WaitGroup
	places := make(chan struct{}, perUpdate)
	for i, s := range sources {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			all[i] = f.update(ctx, s)
		})
	}
	wg.Wait()
	var failed []error
	for _, u := range all {
		if u.Err != nil {
			failed = append(failed, u.Err)
		}
	}
	return all, errors.Join(failed...)
}

// update fetches one source.
func (f *Fetcher) update(ctx context.Context, s Source) Updated {
	u := &update{f: f, source: s, done: Updated{Source: s.Name}}
	u.done.Err = u.run(ctx)
	if u.done.Err != nil {
		u.done.Err = fmt.Errorf("fetch %s: %w", s.Name, u.done.Err)
	}
	return u.done
}

// update is one source being fetched.
type update struct {
	f      *Fetcher
	source Source
	state  *state

	mu   sync.Mutex // guards state.Files and done while several files are fetched
	done Updated
}

func (u *update) run(ctx context.Context) (err error) {
	if err := os.MkdirAll(u.path(""), 0o755); err != nil {
		return err
	}
	if u.state, err = loadState(u.path(stateFile)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.state.save(u.path(stateFile))) }()
	switch u.source.Format {
	case OSV:
		return u.osv(ctx)
	case DebianTracker:
		return u.get(ctx, item{path: "data.json", remote: "json", limit: maxFile})
	case SecDB:
		return u.secdb(ctx)
	case UpdateInfo:
		return u.amazon(ctx)
	case AmazonCVE:
		return u.amazonCVE(ctx)
	case UbuntuTracker:
		return u.ubuntu(ctx)
	case UbuntuVEX:
		return u.get(ctx, item{path: "vex-all.tar.xz", limit: maxArchive})
	case CSAF:
		return u.csaf(ctx)
	case KEV:
		return u.get(ctx, item{path: kevFile, limit: maxKEV})
	case EPSS:
		return u.get(ctx, item{path: epssFile, limit: maxEPSS})
	}
	return fault.New(fault.Unsupported, "%s cannot be fetched", u.source.Name)
}

// path returns where a file of the source is on disk.
func (u *update) path(name string) string {
	return filepath.Join(u.f.dir, filepath.FromSlash(u.source.Dir), filepath.FromSlash(name))
}

// url returns where an item is fetched from: at a mirror it has its place in the
// layout.
func (u *update) url(it item) string {
	switch {
	case u.f.mirror != "":
		return u.f.mirror + "/" + escapePath(path.Join(u.source.Dir, it.path))
	case it.url != "":
		return it.url
	case it.remote != "":
		return u.base() + "/" + it.remote
	}
	return u.base() + "/" + escapePath(it.path)
}

// base is the publisher's address of the folder.
func (u *update) base() string {
	scheme, rest, _ := strings.Cut(u.source.Base, "://")
	return scheme + "://" + escapePath(rest)
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// exists reports whether a file of the source is there, as large as it was when it
// was fetched.
func (u *update) exists(name string) bool {
	u.mu.Lock()
	size := u.state.Files[name].Size
	u.mu.Unlock()
	info, err := os.Stat(u.path(name))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// remove deletes files of the source that are superseded.
func (u *update) remove(names ...string) error {
	for _, name := range names {
		if err := os.Remove(u.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(u.state.Files, name)
		u.done.Removed++
	}
	return nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if !pace.Wait(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// place waits for a place at a host; the caller gives it back.
func (f *Fetcher) place(ctx context.Context, address string) (release func(), err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	places := f.hosts[u.Host]
	if places == nil {
		places = make(chan struct{}, perHost)
		f.hosts[u.Host] = places
	}
	f.mu.Unlock()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
