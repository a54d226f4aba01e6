package trail

import "hash/maphash"

// maxSeen is how many calls are known again: a queue brings some twice within minutes,
// and a trail those that EventBridge brought before within a quarter of an hour.
const maxSeen = 1 << 18

// seen knows the newest calls by their ids. It is for one goroutine.
type seen struct {
	seed  maphash.Seed
	known map[uint64]struct{}
	ring  []uint64
	next  int
}

// first says whether a call is seen for the first time.
func (s *seen) first(account, id string) bool {
	if s.known == nil {
		s.seed, s.known = maphash.MakeSeed(), map[uint64]struct{}{}
	}
	h := maphash.String(s.seed, account+" "+id)
	if _, ok := s.known[h]; ok {
		return false
	}
	s.known[h] = struct{}{}
	if len(s.ring) < maxSeen {
		s.ring = append(s.ring, h)
		return true
	}
	delete(s.known, s.ring[s.next])
	s.ring[s.next] = h
	s.next = (s.next + 1) % maxSeen
	return true
}
