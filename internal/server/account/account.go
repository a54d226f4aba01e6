// Package account decides who may use Castellan: users and their passwords,
// sign-ins, API tokens, and the audit log of every change to them.
//
// The API and the console both call it, so that validation, permission checks
// and audit exist once. It is not for HTTP (see internal/server), and not for
// what containers may do.
package account

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of sign-ins and names.
const (
	// IdleLimit ends a session that was not used for so long: half a working
	// day away from the screen is a new sign-in.
	IdleLimit = 12 * time.Hour
	// AbsoluteLimit ends every session, used or not.
	AbsoluteLimit = 7 * 24 * time.Hour
	// MinPassword is the least number of characters (Unicode code points) of
	// a password; NIST SP 800-63B asks for length and for no composition rules.
	MinPassword = 12
	// MaxPassword bounds the bytes that one sign-in makes the server hash.
	MaxPassword = 1024
	// MaxTokens bounds the API tokens of one owner.
	MaxTokens = 100
	// MaxUsers bounds the users: the list is read whole.
	MaxUsers = 10_000
)

// LocalOwner is the owner of tokens that the command line on the server's own
// host made, and no user's name.
const LocalOwner = "local"

// Store is what this package needs kept.
type Store interface {
	store.Users
	store.UserChanges
	store.Sessions
	store.Tokens
	store.AuditLog
}

// Options change what New assumes; the zero value is right for production.
type Options struct {
	Clock   func() time.Time // time.Now
	Hashing Hashing          // DefaultHashing
	// Hashers bounds how many passwords are hashed at once, so that a flood of
	// sign-ins costs bounded memory; 0 means 2.
	Hashers int
}

// Service answers who asks and changes who may. It is safe for concurrent use.
type Service struct {
	st       *tokenStore
	clock    func() time.Time
	log      *slog.Logger
	hasher   *hasher
	throttle *throttle

	// changes makes reading and replacing a user one step: this process is the
	// store's only writer of users.
	changes sync.Mutex

	mu   sync.Mutex
	used map[int64]time.Time // token id → when its use was last recorded or tried to be
}

// New returns a service over the store.
func New(st Store, o Options, log *slog.Logger) *Service {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Hashing == (Hashing{}) {
		o.Hashing = DefaultHashing()
	}
	if o.Hashers <= 0 {
		o.Hashers = defaultHashers
	}
	return &Service{
		st: &tokenStore{Store: st}, clock: o.Clock, log: log,
		hasher:   newHasher(o.Hashing, o.Hashers),
		throttle: newThrottle(),
		used:     map[int64]time.Time{},
	}
}

// identityKey is where With keeps the identity in a context.
type identityKey struct{}

type carried struct {
	who  access.Identity
	csrf string
}

// With returns a context that carries who asks and, for a browser's session,
// the token that its changing requests must repeat.
func With(ctx context.Context, who access.Identity, csrf string) context.Context {
	return context.WithValue(ctx, identityKey{}, carried{who, csrf})
}

// From returns what With put into the context; ok is false, and the identity
// may do nothing, when nobody is signed in.
func From(ctx context.Context) (who access.Identity, csrf string, ok bool) {
	c, _ := ctx.Value(identityKey{}).(carried)
	return c.who, c.csrf, c.who.Actor != ""
}
