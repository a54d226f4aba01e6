package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

const (
	// lockAttempts and lockPause bound how long a folder that somebody else writes
	// is waited for; an index is written in milliseconds.
	lockAttempts = 200
	lockPause    = 50 * time.Millisecond
)

// AttachPath attaches an envelope to an image in an OCI image layout, a folder,
// and returns the digest of the manifest that holds it. It is otherwise like
// Registry.Attach.
func AttachPath(ctx context.Context, path string, s signature.Subject, e signature.Envelope) (string, error) {
	digest, err := attachPath(ctx, path, s, e)
	if err != nil {
		return "", fmt.Errorf("attach to %s: %w", shown(path), err)
	}
	return digest, nil
}

func attachPath(ctx context.Context, path string, s signature.Subject, e signature.Envelope) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return "", fault.New(fault.Unsupported, "it is an archive, to which nothing is added").
			With("unpack it into a folder first: mkdir layout && tar -xf " + shown(path) + " -C layout")
	}
	f, err := openFolder(path)
	if err != nil {
		return "", err
	}
	digest, err := attachIn(ctx, f, path, s, e)
	return digest, errors.Join(err, f.Close())
}

func attachIn(ctx context.Context, f folder, path string, s signature.Subject, e signature.Envelope) (digest string, err error) {
	unlock, err := lock(ctx, f)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	l, err := readLayout(f)
	if err != nil {
		return "", err
	}
	if s.MediaType == "" || s.Size == 0 {
		full, err := l.resolve(ctx, s.Digest)
		if err != nil {
			return "", err
		}
		s.MediaType, s.Size = full.MediaType, full.Size
	}
	a, err := prepare(s, e)
	if err != nil {
		return "", err
	}
	w := folderWriter(path)
	if e.Way == signature.ByCosignTag {
		return w.addLayer(ctx, l, a)
	}
	for _, b := range [][]byte{a.config, e.Payload, a.manifest} {
		if err := w.blob(b); err != nil {
			return "", err
		}
	}
	entry, err := a.entry()
	if err != nil {
		return "", err
	}
	return a.digest, w.list(f, entry, nil)
}

// folderWriter writes into a layout that is there and that is locked.
type folderWriter string

// blob writes a blob, unless it is there.
func (w folderWriter) blob(b []byte) error {
	path := filepath.Join(string(w), blobName(digestOf(b, "")))
	if there, err := os.ReadFile(path); err == nil && string(there) == string(b) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return whole(path, func(f io.Writer) error { _, err := f.Write(b); return err })
}

// list adds an entry to the index.
func (w folderWriter) list(f files, entry fullDescriptor, replaces func(fullDescriptor) bool) error {
	now, err := small(f, fileIndex, maxManifest)
	if err != nil {
		return err
	}
	next, err := withEntry(now, entry, maxManifests, replaces)
	if err != nil || next == nil {
		return err
	}
	return whole(filepath.Join(string(w), fileIndex), func(f io.Writer) error { _, err := f.Write(next); return err })
}

// addLayer adds an envelope to those that an older cosign finds.
func (w folderWriter) addLayer(ctx context.Context, l *layoutStore, a *attaching) (string, error) {
	suffix, err := cosignSuffix(a.envelope.MediaType)
	if err != nil {
		return "", err
	}
	tag := referrersTag(a.subject.Digest) + suffix
	var now []byte
	for _, d := range l.entries {
		if d.tag() != tag {
			continue
		}
		if now, err = newResolver(l, Choice{}).document(ctx, d.brief(), maxManifest, "manifest", l.manifest); err != nil {
			return "", err
		}
	}
	next, config, err := a.withLayer(now)
	if err != nil {
		return "", err
	}
	if next == nil {
		return digestOf(now, ""), nil
	}
	for _, b := range [][]byte{a.envelope.Payload, config, next} {
		if err := w.blob(b); err != nil {
			return "", err
		}
	}
	digest := digestOf(next, "")
	entry := fullDescriptor{MediaType: typeManifest, Digest: digest, Size: int64(len(next)), Annotations: map[string]string{annotationName: tag}}
	return digest, w.list(l.files, entry, func(d fullDescriptor) bool { return d.tag() == tag })
}

// lock keeps others who attach out of a folder until unlock is called.
func lock(ctx context.Context, f folder) (unlock func() error, err error) {
	dir, err := f.root.Open(".")
	if err != nil {
		return nil, err
	}
	for range lockAttempts {
		if err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		if err := sleep(ctx, lockPause); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(fault.New(fault.Conflict, "somebody else is writing into it: %w", err).With("try again when that is done"), dir.Close())
	}
	return dir.Close, nil // which gives the lock back
}
