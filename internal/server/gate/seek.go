package gate

import (
	"strings"
	"sync"
	"time"
)

const (
	// seekAgain is how long a repository is not asked for again, and seekFor how long
	// an image that its registry does not show is waited for: a listing of a large
	// repository takes minutes.
	seekAgain = 20 * time.Second
	seekFor   = 10 * time.Minute
	// forgetSought is when one that was waited for in vain may be waited for again,
	// and maxSought bounds those that are remembered.
	forgetSought = time.Hour
	maxSought    = 10_000
)

// seeks are the images that were asked for of registries that are watched.
type seeks struct {
	mu    sync.Mutex
	first map[image]time.Time  // when one was asked for first
	last  map[string]time.Time // when a repository was asked for last
}

// sought is how far the search for an image is.
type sought int

const (
	nowhere sought = iota // no registry that is watched would have it
	seeking
	missing // its registry does not show it
)

// seek has an image looked for that nobody knows, if its registry is watched.
func (s *Service) seek(n image, now time.Time) sought {
	host, repository, _ := strings.Cut(n.repository, "/")
	if s.Seeker == nil || repository == "" || n.digest == "" {
		return nowhere
	}
	k := &s.seeks
	k.mu.Lock()
	defer k.mu.Unlock()
	first, asked := k.first[n]
	if asked && now.Sub(first) > forgetSought {
		delete(k.first, n)
		asked = false
	}
	if asked && now.Sub(first) > seekFor {
		return missing
	}
	if now.Sub(k.last[n.repository]) >= seekAgain {
		if !s.Seeker.Seek(host, repository) {
			return nowhere
		}
		if len(k.last) >= maxSought {
			clear(k.last)
		}
		k.last[n.repository] = now
	}
	if !asked {
		if len(k.first) >= maxSought {
			clear(k.first)
		}
		k.first[n] = now
	}
	return seeking
}
