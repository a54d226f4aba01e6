package images

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// useDelay is how long what is in use waits, so that the hundreds of files
	// that a service maps at its start are one change.
	useDelay = 10 * time.Second
	// maxSeen bounds the memory of what was told before: some 10 MiB. Beyond it
	// all is forgotten, and may be told to the store twice.
	maxSeen = 250_000
	// maxUsed bounds the paths that wait: some 20 MiB.
	maxUsed = 100_000
	// usesAtOnce is how many are stored in one step: a few milliseconds.
	usesAtOnce = 500
	// maxUsePath is PATH_MAX.
	maxUsePath = 4_096
)

// used are files that workloads use and that are not in the store yet.
type used struct {
	seed maphash.Seed

	mu      sync.Mutex
	seen    map[uint64]struct{} // hashes of workload and path
	waiting map[string][]string // paths by workload
	paths   int                 // in waiting
	due     time.Time           // when they are stored; zero when there are none
	dropped uint64
}

// Used tells of files of its image that a workload executed or mapped, as the
// container sees them. It is quick and never waits: most calls tell of what was
// told before.
func (s *Service) Used(workloadID string, paths ...string) {
	if workloadID != "" && s.used.add(workloadID, paths, s.clock()) {
		s.nudge()
	}
}

// add reports whether something waits now and nothing did before.
func (u *used) add(workloadID string, paths []string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := u.due.IsZero()
	for _, p := range paths {
		if !strings.HasPrefix(p, "/") || len(p) > maxUsePath {
			continue
		}
		key := u.hash(workloadID, p)
		if _, told := u.seen[key]; told {
			continue
		}
		if u.paths >= maxUsed {
			u.dropped++ // the next time it is told there is room again
			continue
		}
		if len(u.seen) >= maxSeen {
			clear(u.seen)
		}
		u.seen[key] = struct{}{}
		u.waiting[workloadID] = append(u.waiting[workloadID], untrusted.Clip(p, maxUsePath))
		u.paths++
	}
	if !first || u.paths == 0 {
		return false
	}
	u.due = now.Add(useDelay)
	return true
}

func (u *used) hash(workloadID, p string) uint64 {
	var h maphash.Hash
	h.SetSeed(u.seed)
	h.WriteString(workloadID)
	h.WriteString(p)
	return h.Sum64()
}

// dueAt returns when what waits is to be stored; zero when nothing does.
func (u *used) dueAt() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.due
}

func (u *used) take() (waiting map[string][]string, dropped uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	waiting, dropped = u.waiting, u.dropped
	u.waiting, u.paths, u.due, u.dropped = map[string][]string{}, 0, time.Time{}, 0
	return waiting, dropped
}

// back puts what could not be stored back.
func (u *used) back(waiting map[string][]string, due time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, paths := range waiting {
		u.waiting[id] = append(u.waiting[id], paths...)
		u.paths += len(paths)
	}
	if u.paths > 0 && u.due.IsZero() {
		u.due = due
	}
}

// storeUses stores what is in use and has those images compared anew of which
// something new is.
func (s *Service) storeUses(ctx context.Context) error {
	waiting, dropped := s.used.take()
	if dropped > 0 {
		s.log.Warn("files in use forgotten: too many at once", "count", dropped)
	}
	byImage := map[string]map[string]bool{}
	for workloadID, paths := range waiting {
		imageID, err := s.imageOf(ctx, workloadID)
		if err != nil {
			s.used.back(waiting, s.clock().Add(afterTrouble))
			return err
		}
		if imageID == "" {
			continue
		}
		if byImage[imageID] == nil {
			byImage[imageID] = map[string]bool{}
		}
		for _, p := range paths {
			byImage[imageID][p] = true
		}
	}
	for imageID, paths := range byImage {
		news, err := s.noteUses(ctx, imageID, slices.Sorted(maps.Keys(paths)))
		if news {
			s.queue.soon(imageID)
		}
		if fault.Is(err, fault.NotFound) {
			continue // retention removed it
		}
		if err != nil {
			s.used.back(waiting, s.clock().Add(afterTrouble))
			return fmt.Errorf("store what is in use of image %s: %w", imageID, err)
		}
	}
	return nil
}

// noteUses stores the files in use of one image, in parts: reports of agents wait
// while one is written.
func (s *Service) noteUses(ctx context.Context, imageID string, paths []string) (news bool, err error) {
	for part := range slices.Chunk(paths, usesAtOnce) {
		n, err := s.st.NoteUses(ctx, imageID, part)
		if err != nil {
			return news, err
		}
		news = news || n
	}
	return news, nil
}

// imageOf returns the image of a workload, "" when it is not known.
func (s *Service) imageOf(ctx context.Context, workloadID string) (string, error) {
	w, err := s.st.Workload(ctx, workloadID)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read workload %s: %w", workloadID, err)
	}
	if inventory.CheckDigest(w.Image.ID) != nil {
		return "", nil
	}
	return w.Image.ID, nil
}
