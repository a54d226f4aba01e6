package camera

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of what is taken of a container's layer, which the container fills.
const (
	maxChanges   = 100_000
	maxDepth     = 64
	maxPerFolder = 20_000
	maxHashedAll = 1 << 30   // bytes of all changed files
	maxKeptAll   = 128 << 20 // bytes of content
	maxPath      = 4 << 10
)

// Change is one file of a container's layer, in changes.json: what it has written,
// changed or removed since it started.
type Change struct {
	Path    string    `json:"path"` // in the container
	Kind    string    `json:"kind"` // file, folder, link, device, pipe, socket, removed
	Mode    string    `json:"mode"` // as ls has it, in octal
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Size    int64     `json:"size,omitempty"`
	Time    time.Time `json:"time"`              // when it was last changed; programs set it
	Changed time.Time `json:"changed"`           // when anything of it was; they don't
	Link    string    `json:"link,omitempty"`    // where a link leads
	Digest  string    `json:"sha256,omitempty"`  // of a file of up to 64 MiB
	Content string    `json:"content,omitempty"` // its name in the archive
}

// ofEngine is where engines keep layers: Docker with its own store, and with that of
// containerd. What a container with the right to mount calls its root can name any
// folder; by this it can't name one of the host's.
var ofEngine = regexp.MustCompile(`(/overlay2/[0-9a-z]{25,64}/diff|/io\.containerd\.snapshotter\.v1\.overlayfs/snapshots/[0-9]+/fs)$`)

// layer takes the files that a container has written.
func (s *shot) layer(ctx context.Context, pid uint32) {
	root, err := s.openLayer(pid)
	if err != nil {
		s.lack("changed files: %v", err)
		return
	}
	w := &walk{shot: s}
	w.folder(ctx, root, "/", 0)
	s.putJSON("changes.json", w.all)
	if w.full != "" {
		s.lack("changed files: %s", w.full)
	}
	if w.unread > 0 {
		s.lack("changed files: %d could not be read, the first: %v", w.unread, w.first)
	}
}

// openLayer opens the folder of a container's layer, by the host's root and not ours.
func (s *shot) openLayer(pid uint32) (int, error) {
	upper, err := s.o.Host.UpperFolder(int(pid))
	if err != nil {
		return -1, err
	}
	if path.Clean(upper) != upper || !ofEngine.MatchString(upper) {
		return -1, fault.New(fault.Denied, "its root file system is kept in %.200q, which is no folder of an engine's", upper)
	}
	host, err := unix.Open(s.o.Proc+"/1/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) { // of a host that is itself a container: then its root is ours
		host, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open the host's root: %w", err)
	}
	defer unix.Close(host)
	fd, err := unix.Openat2(host, strings.TrimPrefix(upper, "/"), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("open its layer: %w", err)
	}
	return fd, nil
}

// walk goes through a layer.
type walk struct {
	*shot
	all          []Change
	hashed, kept int64
	full         string // why it did not go on
	unread       int
	first        error
}

func (w *walk) fail(err error) {
	if w.unread++; w.first == nil {
		w.first = err
	}
}

// folder notes what is in an open folder, and closes it.
func (w *walk) folder(ctx context.Context, fd int, at string, depth int) {
	f := os.NewFile(uintptr(fd), "layer")
	defer f.Close()
	names, err := f.Readdirnames(maxPerFolder + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		w.fail(err)
	}
	if len(names) > maxPerFolder {
		w.full, names = fmt.Sprintf("folder %.200q has more than %d", at, maxPerFolder), names[:maxPerFolder]
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case ctx.Err() != nil:
			w.full = "there was no time for all"
			return
		case len(w.all) >= maxChanges:
			w.full = fmt.Sprintf("there are more than %d", maxChanges)
			return
		}
		if err := w.entry(ctx, int(f.Fd()), name, path.Join(at, name), depth); err != nil {
			w.fail(err)
		}
	}
}

// entry notes one entry of a folder. It is opened as what it is, without being read:
// what is read later is that same one, whatever has its name by then.
func (w *walk) entry(ctx context.Context, dir int, name, at string, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%.200q: %w", at, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%.200q: %w", at, err)
	}
	c := Change{
		Path: valid([]byte(at[:min(len(at), maxPath)])), Mode: fmt.Sprintf("%04o", st.Mode&0o7777), UID: st.Uid, GID: st.Gid,
		Time: time.Unix(st.Mtim.Unix()).UTC(), Changed: time.Unix(st.Ctim.Unix()).UTC(), Kind: kindOf(&st),
	}
	switch c.Kind {
	case "link":
		c.Link = linkIn(fd, "")
	case "file":
		c.Size = st.Size
		if err := w.file(fd, &st, &c); err != nil {
			w.fail(fmt.Errorf("%.200q: %w", at, err))
		}
	}
	w.all = append(w.all, c)
	if c.Kind != "folder" {
		return nil
	}
	if depth >= maxDepth {
		w.full = fmt.Sprintf("folders lie more than %d deep", maxDepth)
		return nil
	}
	below, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%.200q: %w", at, err)
	}
	w.folder(ctx, below, at, depth+1)
	return nil
}

// kindOf says what a file is. A character device 0:0 is how overlayfs notes that a
// file was removed (Documentation/filesystems/overlayfs.rst).
func kindOf(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "folder"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return "removed"
		}
	}
	return "device"
}

// file hashes a file that is open as what it is, and keeps a small one's content where
// that is wanted.
func (w *walk) file(fd int, st *unix.Stat_t, c *Change) error {
	if st.Size > maxHashed || w.hashed+st.Size > maxHashedAll {
		return nil // its size is told, and no digest
	}
	// By its descriptor it is reopened itself: a device cannot have taken its place.
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if w.d.Files && st.Size <= maxContent && w.kept+st.Size <= maxKeptAll {
		b, cut, err := readAtMost(f, maxContent)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		c.Digest, c.Content = hex.EncodeToString(sum[:]), fmt.Sprintf("files/%06d", len(w.all))
		w.kept, w.hashed = w.kept+int64(len(b)), w.hashed+int64(len(b))
		w.put(c.Content, b, cut)
		return nil
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxHashed))
	w.hashed += n
	if err == nil {
		c.Digest = hex.EncodeToString(h.Sum(nil))
	}
	return err
}
