package account_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

const (
	home   = "192.0.2.7"
	secret = "a quiet harbour at dusk"
)

// cheap keeps tests quick; what it weakens is not what they look at.
var cheap = account.Hashing{Memory: 64, Time: 1, Threads: 1}

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type fixture struct {
	*account.Service
	db    *db.DB
	clock *clock
	root  access.Identity
}

// newFixture has an administrator already, as every store in use has.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := emptyFixture(t)
	if _, err := f.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func emptyFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "a.db"), ProcessCrashOnly: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{db: st, clock: &clock{t: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}}
	f.Service = account.New(st, account.Options{Clock: f.clock.now, Hashing: cheap}, slog.New(slog.DiscardHandler))
	f.root = access.Identity{Actor: "local:0", Name: "root", Role: access.Administrator, Scopes: access.Administrator.Scopes(), Address: "local"}
	return f
}

// user makes a user who has chosen the password.
func (f *fixture) user(t *testing.T, name string, role access.Role) access.User {
	t.Helper()
	first := "given by somebody else"
	u, err := f.CreateUser(t.Context(), f.root, account.NewUser{Name: name, Role: role, Password: first})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ChangePassword(t.Context(), f.identity(t, name, first), first, secret); err != nil {
		t.Fatal(err)
	}
	return u
}

func (f *fixture) identity(t *testing.T, name, password string) access.Identity {
	t.Helper()
	who, _ := f.signIn(t, name, password)
	return who
}

func (f *fixture) signIn(t *testing.T, name, password string) (access.Identity, string) {
	t.Helper()
	cookie, _, err := f.SignIn(t.Context(), name, password, home)
	if err != nil {
		t.Fatalf("sign in as %s: %v", name, err)
	}
	who, _, err := f.BySession(t.Context(), cookie, home)
	if err != nil {
		t.Fatalf("session of %s: %v", name, err)
	}
	return who, cookie
}

func (f *fixture) actions(t *testing.T) []string {
	t.Helper()
	lines, err := f.Audit(t.Context(), f.root, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(lines)
	var out []string
	for _, l := range lines[1:] { // the first is Bootstrap's
		out = append(out, l.Actor+" "+l.Action+" "+l.Target+" "+l.Outcome)
	}
	return out
}

func TestBootstrapMakesOneAdministratorOnce(t *testing.T) {
	f := emptyFixture(t)
	password, err := f.Bootstrap(t.Context())
	if err != nil || len(password) < account.MinPassword {
		t.Fatalf("first: got %q, %v, want a long password", password, err)
	}
	who := f.identity(t, account.FirstUser, password)
	if who.Role != access.Administrator || who.MustChange {
		t.Errorf("got %+v, want an administrator who need not change the password", who)
	}
	if again, err := f.Bootstrap(t.Context()); again != "" || err != nil {
		t.Errorf("second: got %q, %v, want nothing", again, err)
	}
}

func TestSignInRefusesEveryWrongWayAlike(t *testing.T) {
	f := newFixture(t)
	f.user(t, "maria", access.Viewer)
	gone := f.user(t, "otto", access.Viewer)
	yes := true
	if _, err := f.UpdateUser(t.Context(), f.root, gone.ID, account.UserChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, user, password string }{
		{"wrong password", "maria", "not the password"},
		{"unknown name", "nobody", secret},
		{"disabled user", "otto", secret},
		{"empty password", "maria", ""},
		{"huge password", "maria", strings.Repeat("x", 1<<20)},
		{"empty name", "", secret},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := f.SignIn(t.Context(), c.user, c.password, home)
			if !fault.Is(err, fault.Unauthenticated) || err.Error() != "the name or the password is wrong" {
				t.Errorf("got %v (%v), want the one refusal", err, fault.Of(err))
			}
		})
	}
	refused := 0
	for _, a := range f.actions(t) {
		if strings.HasPrefix(a, "anonymous session.refused") {
			refused++
		}
		if strings.Contains(a, "nobody") {
			t.Errorf("audit line %q repeats a name that is no user's", a)
		}
	}
	if refused != 6 {
		t.Errorf("got %d audit lines of refused sign-ins, want 6", refused)
	}
	if _, _, err := f.SignIn(t.Context(), " Maria ", secret, home); err != nil {
		t.Errorf("name in another case and with blanks: got %v, want a session", err)
	}
}

func TestPasswordRules(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name, user, password string
		ok                   bool
	}{
		{"eleven characters", "maria", "elevenchars", false},
		{"twelve characters", "maria", "twelve chars", true},
		{"twelve letters beyond ASCII", "marib", "ééééèèèèàààà", true},
		{"no digits asked for", "maric", "correct horse staple", true},
		{"one letter over and over", "marid", "aaaaaaaaaaaaaaaa", false},
		{"a common one", "marie", "Password1234", false},
		{"the user name", "konstantinopel", "konstantinopel", false},
		{"the user name twice", "marif0", "marif0marif0", false},
		{"the user name and a little", "marig", "marig1234567", false},
		{"not text", "marih", "\xff\xfe twelve chars", false},
		{"too long", "marii", strings.Repeat("ab", 513), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.CreateUser(t.Context(), f.root, account.NewUser{Name: c.user, Role: access.Viewer, Password: c.password})
			if c.ok && err != nil || !c.ok && !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want accepted %v", err, c.ok)
			}
		})
	}
}

func TestUserNames(t *testing.T) {
	f := newFixture(t)
	for name, ok := range map[string]bool{
		"maria": true, "Maria2": true, "a.b_c-d@e": true,
		"": false, "local": false, "root": false, "system": false, "-x": false, "a/b": false, "a:b": false,
		"a b": false, "ünal": false, strings.Repeat("a", 64): false,
	} {
		_, err := f.CreateUser(t.Context(), f.root, account.NewUser{Name: name, Role: access.Viewer, Password: secret})
		if ok && err != nil || !ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want accepted %v", name, err, ok)
		}
	}
	_, err := f.CreateUser(t.Context(), f.root, account.NewUser{Name: "MARIA", Role: access.Viewer, Password: secret})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("taken name: got %v, want a conflict", err)
	}
	_, err = f.CreateUser(t.Context(), f.root, account.NewUser{Name: "x", Role: "emperor", Password: secret})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("unknown role: got %v, want invalid", err)
	}
}

func TestThrottleOfOneNameGrowsAndIsForgotten(t *testing.T) {
	f := newFixture(t)
	f.user(t, "maria", access.Viewer)
	var waits []int
	for range 20 {
		_, _, err := f.SignIn(t.Context(), "maria", "wrong wrong wrong", home)
		var w *account.Wait
		if errors.As(err, &w) {
			waits = append(waits, w.Seconds())
			f.clock.pass(w.For)
			continue
		}
		if !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("got %v, want a refusal", err)
		}
	}
	if diff := cmp.Diff([]int{1, 2, 4, 8, 16, 32, 60}, waits[:7]); diff != "" {
		t.Errorf("pauses, want doubling up to a minute (-want +got):\n%s", diff)
	}
	f.clock.pass(2 * time.Minute)
	if _, _, err := f.SignIn(t.Context(), "maria", secret, home); err != nil {
		t.Fatalf("right password after the pause: %v", err)
	}
	if _, _, err := f.SignIn(t.Context(), "maria", "wrong wrong wrong", home); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("first mistake after a success: got %v, want no pause", err)
	}
}

func TestThrottleHoldsTheRightPasswordToo(t *testing.T) {
	f := newFixture(t)
	f.user(t, "maria", access.Viewer)
	for range 5 {
		f.SignIn(t.Context(), "maria", "wrong wrong wrong", home)
	}
	_, _, err := f.SignIn(t.Context(), "maria", secret, "198.51.100.9")
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("during the pause: got %v, want it to tell nothing about the password", err)
	}
}

func TestThrottleOfOneAddress(t *testing.T) {
	for _, c := range []struct{ name, first, second, other string }{
		{"IPv4", "192.0.2.1", "192.0.2.1", "192.0.2.2"},
		{"IPv6 counts by its /64", "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			for i := range 20 {
				f.SignIn(t.Context(), "name"+strings.Repeat("x", i), "wrong wrong wrong", c.first)
			}
			if _, _, err := f.SignIn(t.Context(), "another", secret, c.second); !fault.Is(err, fault.Exhausted) {
				t.Errorf("same network: got %v, want a pause", err)
			}
			if _, _, err := f.SignIn(t.Context(), "another", secret, c.other); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("other network: got %v, want no pause", err)
			}
		})
	}
}

func TestThrottledTriesDoNotFillTheAuditLog(t *testing.T) {
	f := newFixture(t)
	for range 200 {
		f.SignIn(t.Context(), "maria", "wrong wrong wrong", home)
	}
	if n := len(f.actions(t)); n != 6 {
		t.Errorf("got %d audit lines of 200 tries at once, want 5 checked and 1 unchecked", n)
	}
}

func TestManySignInsAtOnceGainNothing(t *testing.T) {
	f := newFixture(t)
	f.user(t, "maria", access.Viewer)
	var checked, paused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, _, err := f.SignIn(context.Background(), "maria", "wrong wrong wrong", home)
			mu.Lock()
			defer mu.Unlock()
			if fault.Is(err, fault.Unauthenticated) {
				checked++
			} else if fault.Is(err, fault.Exhausted) {
				paused++
			}
		})
	}
	wg.Wait()
	if checked != 5 || paused != 45 {
		t.Errorf("got %d passwords checked and %d refused unchecked, want 5 and 45", checked, paused)
	}
}

func TestSessionsEnd(t *testing.T) {
	hour := time.Hour
	for _, c := range []struct {
		name string
		do   func(t *testing.T, f *fixture, u access.User, cookie string)
		ends bool
	}{
		{"just after", func(*testing.T, *fixture, access.User, string) {}, false},
		{"idle for 13 hours", func(_ *testing.T, f *fixture, _ access.User, _ string) { f.clock.pass(13 * hour) }, true},
		{"used every ten hours for six days", func(t *testing.T, f *fixture, _ access.User, cookie string) {
			for range 14 {
				f.clock.pass(10 * hour)
				if _, _, err := f.BySession(t.Context(), cookie, home); err != nil {
					t.Fatal(err)
				}
			}
		}, false},
		{"used every hour for eight days", func(t *testing.T, f *fixture, _ access.User, cookie string) {
			for range 8 * 24 {
				f.clock.pass(hour)
				f.BySession(t.Context(), cookie, home)
			}
		}, true},
		{"signed out", func(t *testing.T, f *fixture, u access.User, cookie string) {
			who, _, _ := f.BySession(t.Context(), cookie, home)
			if err := f.SignOut(t.Context(), cookie, who); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"signed out everywhere, elsewhere", func(t *testing.T, f *fixture, _ access.User, _ string) {
			who, _ := f.signIn(t, "maria", secret)
			if err := f.SignOutAll(t.Context(), who); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"role changed", func(t *testing.T, f *fixture, u access.User, _ string) {
			role := access.Operator
			if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Role: &role}); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"disabled", func(t *testing.T, f *fixture, u access.User, _ string) {
			yes := true
			if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Disabled: &yes}); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"password set by an administrator", func(t *testing.T, f *fixture, u access.User, _ string) {
			p := "another long password"
			if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Password: &p}); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"password changed", func(t *testing.T, f *fixture, _ access.User, cookie string) {
			who, _, _ := f.BySession(t.Context(), cookie, home)
			if err := f.ChangePassword(t.Context(), who, secret, "another long password"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"deleted", func(t *testing.T, f *fixture, u access.User, _ string) {
			if err := f.DeleteUser(t.Context(), f.root, u.ID); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			u := f.user(t, "maria", access.Viewer)
			_, cookie := f.signIn(t, "maria", secret)
			c.do(t, f, u, cookie)
			_, _, err := f.BySession(t.Context(), cookie, home)
			if ended := fault.Is(err, fault.Unauthenticated); ended != c.ends {
				t.Errorf("got ended %v (%v), want %v", ended, err, c.ends)
			}
		})
	}
}

func TestForgedSessionsAndTokensAreNobody(t *testing.T) {
	f := newFixture(t)
	for _, v := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 1<<16), "cst_" + strings.Repeat("A", 43), "cst_", "cst_'; --"} {
		if _, _, err := f.BySession(t.Context(), v, home); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("cookie of %d bytes: got %v, want unauthenticated", len(v), err)
		}
		if _, err := f.ByToken(t.Context(), v, home); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("token of %d bytes: got %v, want unauthenticated", len(v), err)
		}
	}
}

func TestGivenPasswordMustBeChanged(t *testing.T) {
	f := newFixture(t)
	first := "given by somebody else"
	if _, err := f.CreateUser(t.Context(), f.root, account.NewUser{Name: "maria", Role: access.Administrator, Password: first}); err != nil {
		t.Fatal(err)
	}
	who := f.identity(t, "maria", first)
	if !who.MustChange || len(who.Scopes) != 0 {
		t.Errorf("got %+v, want no right before the change", who)
	}
	if _, err := f.Users(t.Context(), who); !fault.Is(err, fault.Denied) {
		t.Errorf("users: got %v, want denied", err)
	}
	if _, _, err := f.CreateToken(t.Context(), who, account.NewToken{Name: "x", Scopes: []access.Scope{access.ReadEvents}}); !fault.Is(err, fault.Denied) {
		t.Errorf("token: got %v, want denied", err)
	}
	if err := f.ChangePassword(t.Context(), who, "wrong wrong wrong", secret); !fault.Is(err, fault.Invalid) {
		t.Errorf("wrong old password: got %v, want invalid", err)
	}
	if err := f.ChangePassword(t.Context(), who, first, first); !fault.Is(err, fault.Invalid) {
		t.Errorf("the same again: got %v, want invalid", err)
	}
	if err := f.ChangePassword(t.Context(), who, first, secret); err != nil {
		t.Fatal(err)
	}
	if who = f.identity(t, "maria", secret); who.MustChange || !who.May(access.ManageUsers) {
		t.Errorf("got %+v, want an administrator's rights", who)
	}
}

func TestLastAdministratorStays(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "maria", access.Administrator)
	first, err := f.db.UserByName(t.Context(), account.FirstUser)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteUser(t.Context(), f.root, first.ID); err != nil {
		t.Fatal(err)
	}
	role, yes := access.Viewer, true
	if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Role: &role}); !fault.Is(err, fault.Conflict) {
		t.Errorf("demote: got %v, want a conflict", err)
	}
	if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Disabled: &yes}); !fault.Is(err, fault.Conflict) {
		t.Errorf("disable: got %v, want a conflict", err)
	}
	if err := f.DeleteUser(t.Context(), f.root, u.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("delete: got %v, want a conflict", err)
	}
	f.user(t, "otto", access.Administrator)
	if err := f.DeleteUser(t.Context(), f.root, u.ID); err != nil {
		t.Errorf("with another one: got %v, want done", err)
	}
}

func TestOutdatedHashIsReplacedAtSignIn(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "maria", access.Viewer)
	before, err := f.db.User(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	stronger := account.New(f.db, account.Options{Clock: f.clock.now, Hashing: account.Hashing{Memory: 128, Time: 2, Threads: 1}}, slog.New(slog.DiscardHandler))
	if _, _, err := stronger.SignIn(t.Context(), "maria", secret, home); err != nil {
		t.Fatal(err)
	}
	after, err := f.db.User(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if before.PasswordHash == after.PasswordHash || !strings.HasPrefix(after.PasswordHash, "$argon2id$v=19$m=128,t=2,p=1$") {
		t.Errorf("got %.40s, want the new parameters", after.PasswordHash)
	}
	if _, _, err := stronger.SignIn(t.Context(), "maria", secret, home); err != nil {
		t.Errorf("sign in with the new hash: %v", err)
	}
}

func TestTokensNeverCarryMoreThanTheirMaker(t *testing.T) {
	f := newFixture(t)
	for _, role := range access.Roles() {
		f.user(t, "u-"+string(role), role)
	}
	mayGive := map[access.Role][]access.Scope{
		access.Viewer: {access.ReadWorkloads, access.ReadEvents, access.ReadAgents, access.ReadImages, access.ReadNotify, access.ReadAdmission, access.ReadBehaviour, access.ReadResponse, access.ReadIncidents, access.ReadDetect},
		access.Operator: {access.ReadWorkloads, access.ReadEvents, access.ReadAgents, access.ReadImages, access.ReadNotify, access.ReadAdmission, access.ReadBehaviour, access.ReadResponse, access.ReadIncidents, access.ReadDetect,
			access.ManageImages, access.ManageRegistries, access.ManageAgents, access.ManageNotify, access.DecideAdmission, access.ManageBehaviour, access.ManageResponse, access.WriteIncidents, access.WriteDetect},
		access.Administrator: access.Scopes(),
	}
	for _, role := range access.Roles() {
		who := f.identity(t, "u-"+string(role), secret)
		for _, scope := range access.Scopes() {
			_, _, err := f.CreateToken(t.Context(), who, account.NewToken{Name: string(scope), Scopes: []access.Scope{scope}})
			if want := slices.Contains(mayGive[role], scope); want && err != nil || !want && !fault.Is(err, fault.Denied) {
				t.Errorf("%s gives %s: got %v, want allowed %v", role, scope, err, want)
			}
		}
	}
}

func TestTokenLife(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "otto", access.Operator)
	who := f.identity(t, "otto", secret)
	ends := f.clock.now().Add(time.Hour)
	tok, value, err := f.CreateToken(t.Context(), who, account.NewToken{
		Name: "script", Scopes: []access.Scope{access.ReadEvents, access.ManageAgents, access.ReadEvents}, Expires: &ends,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(value, "cst_") || len(value) != 47 || !strings.HasPrefix(value, tok.Prefix) {
		t.Errorf("got secret of %d bytes with prefix %q", len(value), tok.Prefix)
	}
	as := func() (access.Identity, error) { return f.ByToken(t.Context(), value, home) }
	got, err := as()
	if err != nil {
		t.Fatal(err)
	}
	want := access.Identity{Actor: "token:otto/script", Name: "script", Address: home, Scopes: []access.Scope{access.ManageAgents, access.ReadEvents}}
	slices.Sort(want.Scopes)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if _, _, err := f.CreateToken(t.Context(), got, account.NewToken{Name: "more", Scopes: []access.Scope{access.ReadEvents}}); !fault.Is(err, fault.Denied) {
		t.Errorf("a token makes a token: got %v, want denied", err)
	}
	if err := f.ChangePassword(t.Context(), got, secret, "another long password"); !fault.Is(err, fault.Denied) {
		t.Errorf("a token changes a password: got %v, want denied", err)
	}
	role := access.Viewer
	if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Role: &role}); err != nil {
		t.Fatal(err)
	}
	if got, err = as(); err != nil || got.May(access.ManageAgents) || !got.May(access.ReadEvents) {
		t.Errorf("after its owner's demotion: got %v, %v, want only what a viewer may give", got.Scopes, err)
	}
	f.clock.pass(2 * time.Hour)
	if _, err = as(); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after its end: got %v, want unauthenticated", err)
	}
}

func TestTokenEndsWithItsOwner(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "otto", access.Operator)
	_, value, err := f.CreateToken(t.Context(), f.identity(t, "otto", secret), account.NewToken{Name: "x", Scopes: []access.Scope{access.ReadEvents}})
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	if _, err := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ByToken(t.Context(), value, home); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("owner disabled: got %v, want unauthenticated", err)
	}
	if err := f.DeleteUser(t.Context(), f.root, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ByToken(t.Context(), value, home); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("owner deleted: got %v, want unauthenticated", err)
	}
}

func TestTokenUseIsRecordedOnceAMinute(t *testing.T) {
	f := newFixture(t)
	_, value, err := f.CreateToken(t.Context(), f.root, account.NewToken{Name: "x", Scopes: []access.Scope{access.ReadEvents}})
	if err != nil {
		t.Fatal(err)
	}
	used := func() time.Time {
		tokens, err := f.Tokens(t.Context(), f.root)
		if err != nil || len(tokens) != 1 || tokens[0].LastUsed == nil {
			t.Fatalf("got %v, %v, want one token with its last use", tokens, err)
		}
		return *tokens[0].LastUsed
	}
	use := func() {
		if _, err := f.ByToken(t.Context(), value, home); err != nil {
			t.Fatal(err)
		}
	}
	use()
	first := used()
	f.clock.pass(30 * time.Second)
	use()
	if got := used(); !got.Equal(first) {
		t.Errorf("after half a minute: got %s, want %s still", got, first)
	}
	f.clock.pass(31 * time.Second)
	use()
	if got := used(); !got.Equal(first.Add(61 * time.Second)) {
		t.Errorf("after a minute: got %s, want it recorded", got)
	}
}

func TestOthersTokens(t *testing.T) {
	f := newFixture(t)
	f.user(t, "otto", access.Operator)
	f.user(t, "maria", access.Administrator)
	otto, maria := f.identity(t, "otto", secret), f.identity(t, "maria", secret)
	mk := func(who access.Identity, name string) access.Token {
		tok, _, err := f.CreateToken(t.Context(), who, account.NewToken{Name: name, Scopes: []access.Scope{access.ReadEvents}})
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	a, b := mk(otto, "a"), mk(maria, "b")
	if tokens, err := f.Tokens(t.Context(), otto); err != nil || len(tokens) != 1 || tokens[0].ID != a.ID {
		t.Errorf("otto sees %v, %v, want his own alone", tokens, err)
	}
	if tokens, err := f.Tokens(t.Context(), maria); err != nil || len(tokens) != 2 {
		t.Errorf("maria sees %d, %v, want both", len(tokens), err)
	}
	if err := f.DeleteToken(t.Context(), otto, b.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("otto deletes maria's: got %v, want not found", err)
	}
	if err := f.DeleteToken(t.Context(), maria, a.ID); err != nil {
		t.Errorf("maria deletes otto's: got %v, want done", err)
	}
}

func TestOnlyAdministratorsManageUsers(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "otto", access.Operator)
	f.user(t, "vera", access.Viewer)
	for _, who := range []access.Identity{{}, f.identity(t, "otto", secret), f.identity(t, "vera", secret)} {
		want := fault.Denied
		if who.Actor == "" {
			want = fault.Unauthenticated
		}
		_, e1 := f.Users(t.Context(), who)
		_, e2 := f.CreateUser(t.Context(), who, account.NewUser{Name: "x", Role: access.Administrator, Password: secret})
		_, e3 := f.UpdateUser(t.Context(), who, u.ID, account.UserChange{})
		e4 := f.DeleteUser(t.Context(), who, u.ID)
		_, e5 := f.Audit(t.Context(), who, 0, 10)
		for i, err := range []error{e1, e2, e3, e4, e5} {
			if !fault.Is(err, want) {
				t.Errorf("%q, call %d: got %v, want %v", who.Actor, i+1, err, want)
			}
		}
	}
}

func TestEveryChangeIsInTheAuditLog(t *testing.T) {
	f := newFixture(t)
	u := f.user(t, "maria", access.Viewer)
	who, cookie := f.signIn(t, "maria", secret)
	tok, _, err := f.CreateToken(t.Context(), who, account.NewToken{Name: "x", Scopes: []access.Scope{access.ReadEvents}})
	role := access.Operator
	_, e1 := f.UpdateUser(t.Context(), f.root, u.ID, account.UserChange{Role: &role})
	e2 := f.DeleteToken(t.Context(), who, tok.ID)
	e3 := f.SignOut(t.Context(), cookie, who)
	e4 := f.DeleteUser(t.Context(), f.root, u.ID)
	if err := errors.Join(err, e1, e2, e3, e4); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"local:0 user.create user:maria done",
		"user:maria session.start user:maria done",
		"user:maria user.password user:maria done",
		"user:maria session.start user:maria done",
		"user:maria token.create token:maria/x done",
		"local:0 user.update user:maria done",
		"user:maria token.delete token:maria/x done",
		"user:maria session.end user:maria done",
		"local:0 user.delete user:maria done",
	}
	if diff := cmp.Diff(want, f.actions(t)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestIdentityInContext(t *testing.T) {
	if _, _, ok := account.From(t.Context()); ok {
		t.Error("an empty context names somebody")
	}
	ctx := account.With(t.Context(), access.Identity{Actor: "user:maria"}, "token")
	who, csrf, ok := account.From(ctx)
	if !ok || who.Actor != "user:maria" || csrf != "token" {
		t.Errorf("got %v %q %v", who, csrf, ok)
	}
	if _, _, ok := account.From(account.With(ctx, access.Identity{}, "")); ok {
		t.Error("the zero identity is somebody")
	}
}
