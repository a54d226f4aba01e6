package trail

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/castellan-security/castellan/internal/detect"
)

// rememberEvery is how often it is stored what rules learned: so much may be lost when
// the server is killed. It can be some megabytes, and is small where few call AWS.
const rememberEvery = 5 * time.Minute

// memories are what rules learned, as it is stored.
type memories struct {
	next time.Time
	sums map[string][sha256.Size]byte // of what is stored, by rule
}

// due says whether it is time to store them, and notes that it was.
func (m *memories) due(now time.Time) bool {
	if now.Before(m.next) {
		return false
	}
	m.next = now.Add(rememberEvery)
	return true
}

// changed returns those that are not stored as they are, and their sums.
func (m *memories) changed(all map[string]json.RawMessage) (map[string]json.RawMessage, map[string][sha256.Size]byte) {
	news, sums := map[string]json.RawMessage{}, map[string][sha256.Size]byte{}
	for rule, body := range all {
		sum := sha256.Sum256(body)
		if m.sums[rule] != sum {
			news[rule], sums[rule] = body, sum
		}
	}
	return news, sums
}

// recall gives an engine what the one before learned, or, at the start, what is
// stored of it. s.looking is held.
func (s *Service) recall(ctx context.Context, e *detect.Engine) error {
	if s.engine != nil {
		if err := e.Inherit(s.engine); err != nil {
			s.Log.Error("rules that look at calls of AWS learn anew what is usual", "error", err)
		}
		return nil
	}
	stored, err := s.Store.DetectionMemories(ctx)
	if err != nil {
		return fmt.Errorf("read what rules of detection learned: %w", err)
	}
	if err := e.Remember(stored); err != nil {
		s.Log.Error("rules that look at calls of AWS learn anew what is usual", "error", err)
	}
	return nil
}

// keepMemories stores what rules learned.
func (s *Service) keepMemories(ctx context.Context) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.engine == nil {
		return
	}
	all, err := s.engine.Memories()
	if err != nil {
		s.Log.Error("not all that rules learned of calls of AWS is stored", "error", err)
	}
	news, sums := s.learned.changed(all)
	if len(news) == 0 {
		return
	}
	if err := s.Store.PutDetectionMemories(ctx, news); err != nil {
		if ctx.Err() == nil {
			s.Log.Error("what rules learned of calls of AWS is not stored, and would be lost when the server ends", "error", err)
		}
		return
	}
	if s.learned.sums == nil {
		s.learned.sums = map[string][sha256.Size]byte{}
	}
	maps.Copy(s.learned.sums, sums)
}
