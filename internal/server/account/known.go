package account

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
)

const (
	// knownFor is how long a token is believed without a look at the store. What this
	// process changes holds at once; nobody else writes to the store while it runs,
	// and should somebody do so all the same, it holds after this.
	knownFor = 10 * time.Second
	// maxKnown bounds the tokens that are remembered.
	maxKnown = 10_000
)

// tokenStore is the store, and remembers the tokens that are good: a door asks
// thousands of times a second with the same. Every change of tokens or users goes
// through it and makes it forget all.
type tokenStore struct {
	Store

	mu      sync.Mutex
	changes uint64                 // so many changes there were
	of      map[uint64]*knownToken // by the first bytes of the hash, which are no secret
}

// knownToken is a token with what its owner may grant.
type knownToken struct {
	access.Token
	granted []access.Scope
	at      time.Time
}

// known returns the token of a hash if it is remembered, and otherwise how many
// changes there were, to remember it by.
func (s *tokenStore) known(hash []byte, now time.Time) (k *knownToken, changes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k = s.of[binary.BigEndian.Uint64(hash)]
	if k == nil || subtle.ConstantTimeCompare(k.Hash, hash) != 1 || now.Sub(k.at) >= knownFor || now.Before(k.at) {
		return nil, s.changes
	}
	return k, s.changes
}

// remember notes a token that was read when there were so many changes. After
// another one it may be good no longer.
func (s *tokenStore) remember(k *knownToken, changes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if changes != s.changes {
		return
	}
	if s.of == nil || len(s.of) >= maxKnown {
		s.of = map[uint64]*knownToken{}
	}
	s.of[binary.BigEndian.Uint64(k.Hash)] = k
}

// forget is called when something has changed, or may have, for an error doesn't
// say that nothing has.
func (s *tokenStore) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	clear(s.of)
}

// PutToken is Store's. To record a use changes nothing of what a token may do.
func (s *tokenStore) PutToken(ctx context.Context, t access.Token) (access.Token, error) {
	if t.LastUsed == nil {
		defer s.forget()
	}
	return s.Store.PutToken(ctx, t)
}

// DeleteToken is Store's.
func (s *tokenStore) DeleteToken(ctx context.Context, id int64) error {
	defer s.forget()
	return s.Store.DeleteToken(ctx, id)
}

// CreateUser is Store's.
func (s *tokenStore) CreateUser(ctx context.Context, u access.User) (access.User, error) {
	defer s.forget()
	return s.Store.CreateUser(ctx, u)
}

// UpdateUser is Store's.
func (s *tokenStore) UpdateUser(ctx context.Context, u access.User) error {
	defer s.forget()
	return s.Store.UpdateUser(ctx, u)
}

// DeleteUser is Store's.
func (s *tokenStore) DeleteUser(ctx context.Context, id int64) error {
	defer s.forget()
	return s.Store.DeleteUser(ctx, id)
}
