package images

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxFindings bounds what one inventory can come to: an image of a whole
	// desktop has a tenth of it. Each is about a kilobyte in memory.
	maxFindings = 100_000
	// maxRest bounds the rest after a comparison.
	maxRest = time.Second
)

// queue are the images that are to be compared.
type queue struct {
	mu           sync.Mutex
	in           map[string]bool
	urgent, bulk []string
	// broken are images that can't be compared, with the generation of the
	// advisories; another one may do.
	broken map[string]string
	// list says that the store is to be asked for images that were not compared.
	list bool
}

// soon puts an image before all that only wait because of new advisories.
func (q *queue) soon(imageID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.in[imageID] {
		i := slices.Index(q.bulk, imageID)
		if i < 0 {
			return
		}
		q.bulk = slices.Delete(q.bulk, i, i+1)
	}
	q.in[imageID] = true
	q.urgent = append(q.urgent, imageID)
}

// later puts images behind all others.
func (q *queue) later(imageIDs []string, generation string) (added int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range imageIDs {
		if !q.in[id] && q.broken[id] != generation {
			q.in[id] = true
			q.bulk = append(q.bulk, id)
			added++
		}
	}
	return added
}

// next takes the first; "" when there is none.
func (q *queue) next() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range []*[]string{&q.urgent, &q.bulk} {
		if len(*line) > 0 {
			id := (*line)[0]
			*line = (*line)[1:]
			delete(q.in, id)
			return id
		}
	}
	return ""
}

func (q *queue) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.in) == 0
}

// hasUrgent reports whether somebody waits for one of them.
func (q *queue) hasUrgent() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.urgent) > 0
}

func (q *queue) breaks(imageID, generation string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.broken[imageID] = generation
}

// forget gives an image another chance that could not be compared.
func (q *queue) forget(imageID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.broken, imageID)
}

// brokenWith returns how many images can't be compared with that generation, and
// forgets those of others.
func (q *queue) brokenWith(generation string) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, g := range q.broken {
		if g != generation {
			delete(q.broken, id)
		}
	}
	return len(q.broken)
}

func (q *queue) wantList() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = true
}

func (q *queue) takeList() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list && len(q.in) == 0
	if list {
		q.list = false
	}
	return list
}

// listUnmatched puts images in line that were not compared with the advisories
// in force.
func (s *Service) listUnmatched(ctx context.Context) error {
	generation := s.advisories.generation()
	if generation == "" {
		return nil
	}
	if s.queue.brokenWith(generation) == 0 {
		s.condition(ctx, PartComparing, nil)
	}
	ids, err := s.st.Unmatched(ctx, generation, store.MaxPage)
	if err != nil {
		s.queue.wantList()
		return fmt.Errorf("list images that were not compared: %w", err)
	}
	if s.queue.later(ids, generation) > 0 && len(ids) == store.MaxPage {
		s.queue.wantList() // there may be more behind them
	}
	return nil
}

// refreshNext compares one image.
func (s *Service) refreshNext(ctx context.Context) error {
	id := s.queue.next()
	if id == "" {
		return nil
	}
	err := s.refresh(ctx, id)
	if err != nil {
		s.queue.soon(id)
	}
	return err
}

// refresh is the one way to what is wrong with an image: its inventory is
// compared with the advisories in force, what is accepted and what is in use is
// applied, and what comes of it replaces what was known. An image that can't be
// compared is left as it is, and is no error; it is a condition.
func (s *Service) refresh(ctx context.Context, imageID string) error {
	if s.advisories.db == nil {
		return nil // when there is one, the image is among those not compared
	}
	s.comparing.Lock()
	defer s.comparing.Unlock()
	f, err := s.compare(ctx, imageID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil // not scanned yet, or gone
	case err != nil:
		return err
	case f == nil:
		return nil
	}
	if err := s.st.PutFindings(ctx, *f); err != nil {
		return fmt.Errorf("store the findings of image %s: %w", imageID, err)
	}
	s.listeners.touch(imageID)
	s.compared()
	return nil
}

// compare returns what is wrong with an image; nil when it can't be compared.
func (s *Service) compare(ctx context.Context, imageID string) (*store.ImageFindings, error) {
	m, err := s.st.Image(ctx, imageID)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", imageID, err)
	}
	inv, err := s.st.Inventory(ctx, imageID)
	if err != nil {
		return nil, fmt.Errorf("read the inventory of image %s: %w", imageID, err)
	}
	paths, err := s.st.Uses(ctx, imageID)
	if err != nil {
		return nil, fmt.Errorf("read what is in use of image %s: %w", imageID, err)
	}
	rules, now, asOf := s.accepted.rules(&m, s.clock)
	generation := s.advisories.generation()
	found, err := scan.Match(ctx, s.advisories.db, &inv, scan.MatchOptions{
		Rules: rules[""], InUse: newInUse(paths).of, Now: now, Limit: maxFindings,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.queue.breaks(imageID, generation)
		s.condition(ctx, PartComparing, fmt.Errorf("compare image %s: %w", imageID, err))
		return nil, nil
	}
	f := &store.ImageFindings{ImageID: imageID, Database: generation, Matched: asOf, Vulnerabilities: once(found.Vulnerabilities)}
	f.Findings = judge(&inv, rules, now)
	for _, g := range found.Gaps {
		f.Gaps += g.Packages
	}
	return f, nil
}

// once leaves the first of findings that are the same: an inventory may name a
// package twice.
func once(all []finding.Vulnerability) []finding.Vulnerability {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(v finding.Vulnerability) bool {
		if seen[v.Fingerprint] {
			return true
		}
		seen[v.Fingerprint] = true
		return false
	})
}
