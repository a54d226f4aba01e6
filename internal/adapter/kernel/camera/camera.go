// Package camera takes snapshots of containers for whoever looks into an attack: what
// runs in one, with open files, connections and memory maps, what it has written, and
// for a while the packets that it exchanges, as one archive on the host.
//
// All of it is another's word. Of /proc nothing is followed that is a link, files of a
// container's layer are reached from its folder alone, and in the archive they have
// numbers for names: neither taking a snapshot nor unpacking one leads elsewhere.
// Each part is bounded; what has no room or can't be read is told.
//
// It is not for stopping anything: a container that is to stand still is frozen before.
package camera

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/kernel"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
)

// Limits of one snapshot, and of those that are kept.
const (
	// MaxArchive bounds an archive in bytes; servers take as much.
	MaxArchive = 256 << 20
	// Keep is how many are kept on a host, KeepBytes how large they are together, and
	// KeepFor for how long: the oldest go first.
	Keep      = 20
	KeepBytes = 2 << 30
	KeepFor   = 30 * 24 * time.Hour
	// spare is how much must be free for the host itself.
	spare = 1 << 30
	// within bounds a snapshot without its packets.
	within = 90 * time.Second
	// maxLacks bounds the sentences on what is missing.
	maxLacks = 40
)

// Camera takes snapshots. It is safe for concurrent use; one is taken at a time.
type Camera struct {
	o  Options
	mu sync.Mutex
}

// Options are what a Camera is made of. All but Proc, Clock and As are required.
type Options struct {
	Host *kernel.Host
	Dir  string // where archives lie; it is made when there is none
	Proc string // the host's proc file system; /proc by default
	// Agent is the id of whom takes it, As what it signs it with; nil: it is not signed.
	Agent string
	As    Identity
	Clock func() time.Time
	Log   *slog.Logger
}

// New returns a camera.
func New(o Options) (*Camera, error) {
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of snapshots: %w", err)
	}
	return &Camera{o: o}, nil
}

// Version is that of the form of a Manifest. Within a version, fields are only added.
const Version = 1

// Manifest is the last file of an archive but for its signature, manifest.json: what is in it, and what is not.
type Manifest struct {
	Version  int            `json:"version"`
	Deed     string         `json:"deed"`
	Reason   string         `json:"reason,omitempty"`
	By       string         `json:"by,omitempty"`
	Agent    string         `json:"agent_id"`
	Began    time.Time      `json:"began"`
	Ended    time.Time      `json:"ended"`
	Workload asset.Workload `json:"workload"`
	Files    []File         `json:"files"`
	// Lacks says what is missing, a sentence each.
	Lacks []string `json:"lacks,omitempty"`
}

// File is one file of an archive.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"` // sha256: and 64 hex digits
	// Cut says that there was more of it.
	Cut bool `json:"cut,omitempty"`
}

// shot is one snapshot that is being taken.
type shot struct {
	*Camera
	d     response.Deed
	w     asset.Workload
	out   *archive
	lacks []string
}

func (s *shot) lack(format string, args ...any) {
	if len(s.lacks) < maxLacks {
		s.lacks = append(s.lacks, fmt.Sprintf(format, args...))
	}
}

// Snapshot is respond.Camera. NotFound when nothing runs in the container.
func (c *Camera) Snapshot(ctx context.Context, d response.Deed, w asset.Workload) (kept response.Kept, lacks []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.room(); err != nil {
		return kept, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within+d.Packets)
	defer cancel()
	running, err := c.running(ctx, w.ID)
	if err != nil {
		return kept, nil, err
	}
	began := c.o.Clock().UTC()
	name := filepath.Join(c.o.Dir, began.Format("20060102T150405Z")+"-"+asset.ShortID(w.ID)+"-"+safe(d.ID)+".tar.gz")
	out, err := create(name)
	if err != nil {
		return kept, nil, err
	}
	s := &shot{Camera: c, d: d, w: w, out: out}
	s.take(ctx, running)
	if err := ctx.Err(); err != nil {
		s.lack("it took too long, or was ended: %v", err)
	}
	m := Manifest{Version: Version, Deed: d.ID, Reason: d.Reason, By: d.By, Agent: c.o.Agent, Began: began, Ended: c.o.Clock().UTC(), Workload: w, Lacks: s.lacks}
	kept, err = out.finish(m, c.o.As)
	if err != nil {
		return kept, s.lacks, errors.Join(fmt.Errorf("write snapshot: %w", err), os.Remove(name))
	}
	return kept, s.lacks, nil
}

// safe leaves of an id what can stand in a file's name.
func safe(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, id)
}

// running lists what runs in a container, its first process first.
func (c *Camera) running(ctx context.Context, container string) ([]event.Running, error) {
	all, err := c.o.Host.Processes(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r event.Running) bool { return r.WorkloadID != container })
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "container %s does not run", asset.ShortID(container)).
			With("what it has written is told by docker diff until it is removed")
	}
	slices.SortFunc(all, func(a, b event.Running) int {
		const first = 1
		return cmp.Or(-cmp.Compare(isTrue(a.Process.ContainerPID == first), isTrue(b.Process.ContainerPID == first)),
			cmp.Compare(a.Process.Key.Start, b.Process.Key.Start), cmp.Compare(a.Process.Key.PID, b.Process.Key.PID))
	})
	return all, nil
}

func isTrue(b bool) int {
	if b {
		return 1
	}
	return 0
}

// take takes what there is. Packets are captured first and while the rest is taken:
// what passes meanwhile is news.
func (s *shot) take(ctx context.Context, running []event.Running) {
	var packets *capture
	if s.d.Packets > 0 {
		var err error
		if packets, err = s.capture(ctx, running[0].Process.Key.PID); err != nil {
			s.lack("packets: %v", err)
		}
	}
	s.processes(ctx, running)
	s.network(running[0].Process.Key.PID)
	s.layer(ctx, running[0].Process.Key.PID)
	if packets != nil {
		b, note := packets.wait(ctx)
		if note != "" {
			s.lack("packets: %s", note)
		}
		s.put("packets.pcap", b, false)
	}
}

// put adds a file to the archive.
func (s *shot) put(name string, b []byte, cut bool) {
	if err := s.out.put(name, b, cut); err != nil {
		s.lack("%s: %v", name, err)
	}
}

func (s *shot) putJSON(name string, v any) {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		s.lack("%s: %v", name, err)
		return
	}
	s.put(name, b, false)
}

// room removes what need not be kept any more, and says when there is too little room
// for another snapshot.
func (c *Camera) room() error {
	entries, err := os.ReadDir(c.o.Dir) // by name, which begins with the time
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	var left int
	var bytes int64
	for _, e := range slices.Backward(entries) {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		left++
		bytes += info.Size()
		old := c.o.Clock().Sub(info.ModTime()) > KeepFor
		unfinished := strings.HasSuffix(e.Name(), partSuffix)
		if old || unfinished || left >= Keep || bytes > KeepBytes-MaxArchive {
			if err := os.Remove(filepath.Join(c.o.Dir, e.Name())); err != nil {
				return fmt.Errorf("remove an old snapshot: %w", err)
			}
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.o.Dir, &fs); err != nil {
		return fmt.Errorf("look for room for a snapshot: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < spare+MaxArchive {
		return fault.New(fault.Exhausted, "a snapshot needs %d MiB of free disk, and there are %d", (spare+MaxArchive)>>20, free>>20).
			With("make room below " + c.o.Dir)
	}
	return nil
}
