package account_test

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/store"
)

// counting is a store that counts what is asked of tokens, and can have something
// happen between reading one and answering.
type counting struct {
	account.Store
	asked atomic.Int32
	then  func()
}

func (c *counting) Tokens(ctx context.Context, q store.TokenQuery) ([]access.Token, error) {
	found, err := c.Store.Tokens(ctx, q)
	if q.Hash != nil {
		c.asked.Add(1)
		if then := c.then; then != nil {
			c.then = nil
			then()
		}
	}
	return found, err
}

// remembering is a fixture whose service stands on a store that counts.
func remembering(t *testing.T) (*fixture, *counting) {
	f := newFixture(t)
	c := &counting{Store: f.db}
	f.Service = account.New(c, account.Options{Clock: f.clock.now, Hashing: cheap}, slog.New(slog.DiscardHandler))
	return f, c
}

// What takes a token or its owner's rights away holds with the next request,
// however often the token was used before.
func TestWhatIsRememberedOfATokenEndsAtOnce(t *testing.T) {
	viewer, yes := access.Viewer, true
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *fixture, access.User, access.Token) error
		want func(access.Identity, error) bool
	}{
		{"deleted", func(t *testing.T, f *fixture, _ access.User, k access.Token) error {
			return f.DeleteToken(t.Context(), f.root, k.ID)
		}, refused},
		{"owner disabled", func(t *testing.T, f *fixture, u access.User, _ access.Token) error {
			_, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Disabled: &yes})
			return err
		}, refused},
		{"owner deleted", func(t *testing.T, f *fixture, u access.User, _ access.Token) error {
			return f.DeleteUser(t.Context(), f.root, u.ID)
		}, refused},
		{"owner demoted", func(t *testing.T, f *fixture, u access.User, _ access.Token) error {
			_, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Role: &viewer})
			return err
		}, func(who access.Identity, err error) bool {
			return err == nil && slices.Equal(who.Scopes, []access.Scope{access.ReadEvents})
		}},
		{"over", func(_ *testing.T, f *fixture, _ access.User, _ access.Token) error {
			f.clock.pass(5 * time.Second)
			return nil
		}, refused},
	} {
		for _, while := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				f, c := remembering(t)
				u, ends := f.user(t, "otto", access.Operator), f.clock.now().Add(4*time.Second)
				k, value, err := f.CreateToken(t.Context(), f.identity(t, "otto", secret), account.NewToken{Name: "x", Scopes: []access.Scope{access.ManageAgents, access.ReadEvents}, Expires: &ends})
				if err != nil {
					t.Fatal(err)
				}
				do := func() {
					if err := tc.do(t, f, u, k); err != nil {
						t.Fatal(err)
					}
				}
				if while { // it is read, and before it is remembered, is good no longer
					c.then = do
					_, _ = f.ByToken(t.Context(), value, home) // either answer is right
				} else {
					for range 3 {
						if who, err := f.ByToken(t.Context(), value, home); err != nil || len(who.Scopes) != 2 {
							t.Fatalf("got %v, %v", who, err)
						}
					}
					if got := c.asked.Load(); got != 1 {
						t.Errorf("the store was asked %d times, want once", got)
					}
					do()
				}
				if who, err := f.ByToken(t.Context(), value, home); !tc.want(who, err) {
					t.Errorf("got %v, %v", who, err)
				}
			})
		}
	}
}

func refused(_ access.Identity, err error) bool { return fault.Is(err, fault.Unauthenticated) }

// What another program does to the store holds after a while, and who asks can't
// change what is remembered.
func TestATokenIsLookedAtAgain(t *testing.T) {
	f, c := remembering(t)
	k, value, err := f.CreateToken(t.Context(), f.root, account.NewToken{Name: "x", Scopes: []access.Scope{access.ReadEvents}})
	if err != nil {
		t.Fatal(err)
	}
	who, err := f.ByToken(t.Context(), value, home)
	if err != nil {
		t.Fatal(err)
	}
	who.Scopes[0] = access.ManageUsers
	if who, err = f.ByToken(t.Context(), value, home); err != nil || who.May(access.ManageUsers) {
		t.Errorf("got %v, %v", who, err)
	}
	if err := c.Store.DeleteToken(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(11 * time.Second)
	if who, err := f.ByToken(t.Context(), value, home); !refused(who, err) {
		t.Errorf("got %v, %v", who, err)
	}
	other := value[:len(value)-1] + map[bool]string{true: "b", false: "a"}[value[len(value)-1] == 'a']
	if who, err := f.ByToken(t.Context(), other, home); !refused(who, err) {
		t.Errorf("got %v, %v", who, err)
	}
}
