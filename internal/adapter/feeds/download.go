package feeds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxTries is how often something is tried without getting any further.
	maxTries = 5
	// maxResumes is how often a connection may break in one file.
	maxResumes = 100
	// firstPause and longestPause are waited between tries, doubling, each with
	// up to half of it more, so that not all clients come back at once.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// longestRetryAfter is how long a publisher may ask to wait.
	longestRetryAfter = 2 * time.Minute
	// answerWithin is how long a publisher may think, and be silent in between.
	answerWithin = 60 * time.Second
	// syncFrom is from which size on a file is on disk before it counts. A
	// smaller one that is lost with the power has another size than the state
	// says, and is fetched again; syncing ten thousands of them takes minutes.
	syncFrom = 1 << 20
)

// item is one file to be fetched.
type item struct {
	path   string // below the source's folder in the layout
	remote string // below the publisher's address; empty: the same as path
	url    string // the publisher's address, where it is not below the source's
	limit  int64
	sum    checksum
	// optional says that the publisher may not have it.
	optional bool
	mark     string
}

// errAbsent says that the publisher has no such file.
var errAbsent = errors.New("the publisher has no such file")

// errChanged says that the file is another than the one that was begun: it must
// be fetched from its beginning.
var errChanged = errors.New("the file has changed meanwhile")

// get fetches one file if it has changed. That an optional file is not there is
// no error.
func (u *update) get(ctx context.Context, it item) error {
	_, err := u.fetch(ctx, it)
	if it.optional && errors.Is(err, errAbsent) {
		return nil
	}
	return err
}

// fetch fetches one file and reports whether it is new or changed.
func (u *update) fetch(ctx context.Context, it item) (changed bool, err error) {
	d := &download{u: u, item: it, address: u.url(it), target: u.path(it.path)}
	release, err := u.f.place(ctx, d.address)
	if err != nil {
		return false, err
	}
	defer release()
	if err := os.MkdirAll(filepath.Dir(d.target), 0o755); err != nil {
		return false, err
	}
	u.mu.Lock()
	d.have = u.state.Files[it.path]
	u.mu.Unlock()
	if d.have.URL != d.address || !u.exists(it.path) {
		d.have = fileState{}
	}
	changed, err = d.run(ctx)
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.address, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	d.have.Checked, d.have.Mark = u.f.now().UTC(), it.mark
	u.state.Files[it.path] = d.have
	u.done.Bytes += d.bytes
	if changed {
		u.done.Changed++
	} else {
		u.done.Unchanged++
	}
	return changed, nil
}

// download is one file being fetched.
type download struct {
	u       *update
	item    item
	address string
	target  string
	have    fileState // of the complete file that is there
	bytes   int64     // received, also in vain
	reached int64     // the most that was here of the file at a time
}

// run tries until the file is here, is unchanged, or there is no hope.
func (d *download) run(ctx context.Context) (changed bool, err error) {
	tries := 0
	for range maxResumes {
		before := d.reached
		changed, wait, err := d.try(ctx)
		if err == nil {
			return changed, nil
		}
		if d.reached > before && !errors.Is(err, errChanged) {
			tries = 0
		}
		tries++
		if !again(err) || tries >= maxTries {
			return false, err
		}
		if wait == 0 {
			wait = min(firstPause<<(tries-1), longestPause)
			wait += rand.N(wait / 2)
		}
		if err := d.u.f.pause(ctx, wait); err != nil {
			return false, err
		}
	}
	return false, fault.New(fault.Unavailable, "the connection broke %d times", maxResumes)
}

// again reports whether trying again may help.
func again(err error) bool {
	switch fault.Of(err) {
	case fault.NotFound, fault.Denied, fault.Exhausted, fault.Invalid, fault.Conflict:
		return false
	}
	var file *fs.PathError
	return !errors.Is(err, errAbsent) && !errors.Is(err, context.Canceled) && !errors.As(err, &file)
}

// try makes one request. wait is how long the publisher asks to wait.
func (d *download) try(ctx context.Context) (changed bool, wait time.Duration, err error) {
	part := loadPart(d.target)
	if part.url != d.address {
		part = partState{}
	}
	ctx, alive, stop := watch(ctx)
	defer stop()
	req, err := d.request(ctx, part)
	if err != nil {
		return false, 0, err
	}
	resp, err := d.u.f.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return false, 0, fault.New(fault.Unavailable, "%w", withoutAddress(err)).With("check the connection, or HTTPS_PROXY; in an air gap use --mirror or a folder")
	}
	defer func() { _ = resp.Body.Close() }() // nothing is lost: what counts was read
	switch resp.StatusCode {
	case http.StatusNotModified:
		if d.have.URL == "" {
			return false, 0, errors.New("the publisher says unchanged of what was never fetched")
		}
		return false, 0, nil
	case http.StatusOK:
		part = partState{}
	case http.StatusPartialContent:
		if err := part.continuedBy(resp); err != nil {
			return false, 0, errors.Join(err, dropPart(d.target))
		}
	default:
		return false, retryAfter(resp), errors.Join(d.refused(resp), d.outOfRange(resp))
	}
	if err := d.receive(resp, part, alive); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return false, 0, err
	}
	return true, 0, nil
}

// request asks for the rest of what was begun, or for the file if it has changed.
func (d *download) request(ctx context.Context, part partState) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", d.u.f.agent)
	req.Header.Set("Accept-Encoding", "identity")
	switch {
	case part.size > 0:
		req.Header.Set("Range", "bytes="+strconv.FormatInt(part.size, 10)+"-")
		req.Header.Set("If-Range", part.validator())
	default:
		if d.have.ETag != "" {
			req.Header.Set("If-None-Match", d.have.ETag)
		}
		if d.have.LastModified != "" {
			req.Header.Set("If-Modified-Since", d.have.LastModified)
		}
	}
	return req, nil
}

// refused turns an answer that is no file into an error.
func (d *download) refused(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return errAbsent
	case code == http.StatusForbidden && d.item.optional: // what buckets say of what is not there
		return errAbsent
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusProxyAuthRequired:
		return fault.New(fault.Denied, "the publisher answered %d", code)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code == http.StatusRequestedRangeNotSatisfiable:
		return fault.New(fault.Unavailable, "the publisher answered %d", code)
	default:
		return fault.New(fault.Invalid, "the publisher answered %d", code)
	}
}

// outOfRange drops what was begun if the publisher says that there is no rest.
func (d *download) outOfRange(resp *http.Response) error {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return dropPart(d.target)
	}
	return nil
}

// retryAfter returns how long the publisher asks to wait, 0 if it doesn't.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, longestRetryAfter)
}

// receive appends the answer to what was begun, and puts the file into its place
// when it is whole.
func (d *download) receive(resp *http.Response, part partState, alive func()) error {
	total := part.size + resp.ContentLength
	if resp.ContentLength < 0 {
		total = 0
	}
	if total > d.item.limit {
		return errors.Join(tooLarge(d.item.limit), dropPart(d.target))
	}
	if part.size == 0 {
		part = newPart(d.address, resp)
		if err := part.save(d.target); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(d.target+partSuffix, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	size, err := d.copy(f, resp.Body, part.size, total, alive)
	if err == nil && size >= syncFrom {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	switch {
	case size > d.item.limit:
		return errors.Join(tooLarge(d.item.limit), dropPart(d.target))
	case err != nil:
		return err
	case total > 0 && size != total:
		return fault.New(fault.Unavailable, "got %d bytes of %d", size, total)
	}
	return d.finish(part, size)
}

// copy writes body into f from offset on, and returns the size of the file.
func (d *download) copy(f *os.File, body io.Reader, offset, total int64, alive func()) (int64, error) {
	if err := f.Truncate(offset); err != nil {
		return offset, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	report := func(done int64) {
		d.u.f.progress(Progress{Source: d.u.source.Name, File: path.Join(d.u.source.Dir, d.item.path), Done: done, Total: total})
	}
	report(offset)
	size := offset
	buf := make([]byte, 256<<10)
	for size <= d.item.limit {
		n, err := body.Read(buf)
		alive()
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return size, err
			}
			size += int64(n)
			d.bytes += int64(n)
			d.reached = max(d.reached, size)
			report(size)
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, fault.New(fault.Unavailable, "%w", err)
		}
	}
	return size, nil
}

// finish checks a file that has its whole length and puts it into its place.
func (d *download) finish(part partState, size int64) error {
	name := d.target + partSuffix
	if err := errors.Join(checkSum(name, d.item.sum), checkSum(name, part.sum), checkForm(name, d.item.path)); err != nil {
		return errors.Join(err, dropPart(d.target))
	}
	if err := os.Rename(name, d.target); err != nil {
		return err
	}
	err := dropPart(d.target)
	if size >= syncFrom {
		err = errors.Join(err, syncFolder(filepath.Dir(d.target)))
	}
	if err != nil {
		return err
	}
	d.have = fileState{URL: d.address, ETag: part.etag, LastModified: part.modified, Size: size}
	return nil
}

// watch returns a context that ends when alive was not called for a while: a
// connection that is open and silent would be waited for without end.
func watch(ctx context.Context) (watched context.Context, alive, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(answerWithin, func() {
		cancel(fault.New(fault.Unavailable, "nothing came for %v", answerWithin))
	})
	return watched, func() { timer.Reset(answerWithin) }, func() {
		timer.Stop()
		cancel(nil)
	}
}

// withoutAddress drops the address that net/http puts in front, which the caller
// does itself.
func withoutAddress(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
