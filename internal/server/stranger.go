package server

import (
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// freeStrangers is how many wrong tokens an origin may show before it is told to
	// wait; the first pause is a second, each further one twice as long.
	freeStrangers    = 20
	maxStrangerPause = 5 * time.Minute
	// forgetStranger without a wrong token, an origin begins anew.
	forgetStranger = time.Hour
	// maxStrangers bounds the origins that are remembered: some hundred kilobytes.
	maxStrangers = 5_000
	// strangerEvery is how often the log says that wrong tokens were shown.
	strangerEvery = time.Minute
	// maxStrangerName bounds what the log shows of the registry that was named.
	maxStrangerName = 63
)

// strangers counts who shows wrong tokens to webhooks. The right token is taken
// whoever was wrong at the same address: behind a proxy all are at one, and a
// token of 256 bits is not guessed. It is safe for concurrent use.
type strangers struct {
	clock func() time.Time
	log   *slog.Logger
	total atomic.Int64

	mu     sync.Mutex
	of     map[string]*stranger
	told   time.Time // when the log said it last
	untold int       // since
}

type stranger struct {
	wrong       int
	last, until time.Time
}

func newStrangers(clock func() time.Time, log *slog.Logger) *strangers {
	return &strangers{clock: clock, log: log, of: map[string]*stranger{}}
}

// refused counts a wrong token and returns what is answered: err, or that its
// origin is to wait.
func (s *strangers) refused(registry, address string, err error) error {
	total := s.total.Add(1)
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.untold++; now.Sub(s.told).Abs() >= strangerEvery {
		s.log.Warn("webhooks were called with wrong tokens", "count", s.untold, "since_start", total,
			"last_registry", untrusted.Clip(registry, maxStrangerName), "last_address", address)
		s.told, s.untold = now, 0
	}
	k := s.get(account.Origin(address), now)
	if left := k.until.Sub(now); left > 0 {
		return &Problem{
			Title: "too many", Status: http.StatusTooManyRequests, Detail: "too many wrong tokens came from this address",
			Remedy:     "give the registry the token that it was made, or make a new one: castellan registries edit NAME --webhook",
			retryAfter: int(math.Ceil(left.Seconds())),
		}
	}
	if k.wrong++; k.wrong >= freeStrangers {
		k.until = now.Add(min(time.Second<<min(k.wrong-freeStrangers, 16), maxStrangerPause))
	}
	return err
}

// get returns an origin. Where there is no room for one more, those are forgotten
// that were wrong too long ago, or else any: who has many addresses is not slowed
// down by a longer memory.
func (s *strangers) get(origin string, now time.Time) *stranger {
	k := s.of[origin]
	if k == nil && len(s.of) >= maxStrangers {
		for other, o := range s.of {
			if now.Sub(o.last).Abs() > forgetStranger {
				delete(s.of, other)
			}
		}
		for other := range s.of {
			if len(s.of) <= maxStrangers*7/8 { // room for many more, so that this is seldom
				break
			}
			delete(s.of, other)
		}
	}
	if k == nil || now.Sub(k.last).Abs() > forgetStranger {
		k = &stranger{}
		s.of[origin] = k
	}
	k.last = now
	return k
}
