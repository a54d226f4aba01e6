package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func user(name string, role access.Role) access.User {
	return access.User{Name: name, Role: role, PasswordHash: "$argon2id$x", MustChange: true, Created: base()}
}

// makeUser stores a user.
func (k *kit) makeUser(name string, role access.Role) access.User {
	k.Helper()
	u, err := k.st.CreateUser(k.ctx, user(name, role))
	k.ok(err)
	return u
}

func userCases() []testCase {
	return []testCase{
		{"create and read", createUser},
		{"list", func(k *kit) {
			k.makeUser("zoe", access.Viewer)
			k.makeUser("anna", access.Administrator)
			us, err := k.st.Users(k.ctx)
			k.ok(err)
			same(k, "users", []string{us[0].Name, us[1].Name}, []string{"anna", "zoe"})
		}},
		{"a name is taken once", nameTakenOnce},
		{"no such user", noSuchUser},
		{"change", func(k *kit) {
			u := k.makeUser("anna", access.Administrator)
			at := base().Add(time.Hour)
			u.PasswordHash, u.MustChange, u.LastSignIn = "$argon2id$y", false, &at
			k.ok(k.st.UpdateUser(k.ctx, u))
			got, err := k.st.User(k.ctx, u.ID)
			k.ok(err)
			same(k, "user", got, u)
		}},
		{"an id is not used again", func(k *kit) {
			k.makeUser("anna", access.Administrator)
			u := k.makeUser("bert", access.Viewer)
			k.ok(k.st.DeleteUser(k.ctx, u.ID))
			if next := k.makeUser("carl", access.Viewer); next.ID == u.ID {
				k.Errorf("id %d was used again", u.ID)
			}
		}},
		{"the last administrator stays", lastAdministrator},
		{"without any administrator changes go on", func(k *kit) {
			u := k.makeUser("anna", access.Viewer)
			u.Disabled = true
			k.ok(k.st.UpdateUser(k.ctx, u))
			k.ok(k.st.DeleteUser(k.ctx, u.ID))
		}},
		{"two administrators demoted at once", demotedAtOnce},
		{"deleting ends sessions and tokens", deleteUser},
		{"renaming keeps tokens", func(k *kit) {
			u := k.makeUser("anna", access.Administrator)
			k.makeToken("anna", "ci", 1)
			u.Name = "anne"
			k.ok(k.st.UpdateUser(k.ctx, u))
			ts, err := k.st.Tokens(k.ctx, store.TokenQuery{Owner: "anne"})
			k.ok(err)
			same(k, "tokens", len(ts), 1)
		}},
	}
}

func lastAdministrator(k *kit) {
	a := k.makeUser("anna", access.Administrator)
	b := k.makeUser("bert", access.Administrator)
	k.makeUser("carl", access.Operator)
	b.Disabled = true
	k.ok(k.st.UpdateUser(k.ctx, b))
	for what, change := range map[string]func(*access.User){
		"demote":  func(u *access.User) { u.Role = access.Operator },
		"disable": func(u *access.User) { u.Disabled = true },
	} {
		u := a
		change(&u)
		if err := k.st.UpdateUser(k.ctx, u); !fault.Is(err, fault.Conflict) {
			k.Errorf("%s the last one: got %v, want a conflict", what, err)
		}
	}
	k.wantFault(k.st.DeleteUser(k.ctx, a.ID), fault.Conflict)
	got, err := k.st.User(k.ctx, a.ID)
	k.ok(err)
	same(k, "after the refusals", got, a)

	b.Disabled = false
	k.ok(k.st.UpdateUser(k.ctx, b))
	k.ok(k.st.DeleteUser(k.ctx, a.ID))
}

func demotedAtOnce(k *kit) {
	us := []access.User{k.makeUser("anna", access.Administrator), k.makeUser("bert", access.Administrator)}
	errs := make([]error, len(us))
	var wg sync.WaitGroup
	for i, u := range us {
		u.Role = access.Viewer
		wg.Go(func() { errs[i] = k.st.UpdateUser(k.ctx, u) })
	}
	wg.Wait()
	refused := 0
	for _, err := range errs {
		if err != nil {
			k.wantFault(err, fault.Conflict)
			refused++
		}
	}
	same(k, "refused", refused, 1)
}

func deleteUser(k *kit) {
	k.makeUser("anna", access.Administrator)
	u := k.makeUser("bert", access.Viewer)
	k.ok(k.st.PutSession(k.ctx, session(1, u.ID)))
	k.makeToken("bert", "ci", 1)
	k.makeToken("anna", "ci", 2)
	k.ok(k.st.DeleteUser(k.ctx, u.ID))
	_, err := k.st.Session(k.ctx, hash(1), base())
	k.wantFault(err, fault.NotFound)
	ts, err := k.st.Tokens(k.ctx, store.TokenQuery{})
	k.ok(err)
	same(k, "tokens left", len(ts), 1)
	same(k, "owner", ts[0].Owner, "anna")
	k.wantFault(k.st.PutSession(k.ctx, session(2, u.ID)), fault.NotFound)
}

func hash(n byte) []byte {
	h := make([]byte, 32)
	h[0] = n
	return h
}

func session(n byte, userID int64) access.Session {
	return access.Session{
		Hash: hash(n), UserID: userID, CSRF: fmt.Sprint("csrf-", n), Created: base(),
		Expires: base().Add(time.Hour), Used: base(), Address: "192.0.2.1",
	}
}

func sessionCases() []testCase {
	return []testCase{
		{"put and read", func(k *kit) {
			want := session(1, k.makeUser("anna", access.Administrator).ID)
			k.ok(k.st.PutSession(k.ctx, want))
			got, err := k.st.Session(k.ctx, hash(1), base())
			k.ok(err)
			same(k, "session", got, want)
		}},
		{"put again records its use", func(k *kit) {
			want := session(1, k.makeUser("anna", access.Administrator).ID)
			k.ok(k.st.PutSession(k.ctx, want))
			want.Used = base().Add(time.Minute)
			k.ok(k.st.PutSession(k.ctx, want))
			got, err := k.st.Session(k.ctx, hash(1), base())
			k.ok(err)
			same(k, "session", got, want)
		}},
		{"unknown", func(k *kit) {
			_, err := k.st.Session(k.ctx, hash(9), base())
			k.wantFault(err, fault.NotFound)
		}},
		{"expired", func(k *kit) {
			s := session(1, k.makeUser("anna", access.Administrator).ID)
			k.ok(k.st.PutSession(k.ctx, s))
			_, err := k.st.Session(k.ctx, hash(1), s.Expires.Add(-1))
			k.ok(err)
			_, err = k.st.Session(k.ctx, hash(1), s.Expires)
			k.wantFault(err, fault.NotFound)
		}},
		{"end one, end all", func(k *kit) {
			u, v := k.makeUser("anna", access.Administrator), k.makeUser("bert", access.Viewer)
			for n, id := range []int64{u.ID, u.ID, u.ID, v.ID} {
				k.ok(k.st.PutSession(k.ctx, session(byte(n), id)))
			}
			k.ok(k.st.DeleteSessions(k.ctx, hash(0), u.ID))
			same(k, "after one", k.live(4), []byte{1, 2, 3})
			k.ok(k.st.DeleteSessions(k.ctx, nil, u.ID))
			same(k, "after all", k.live(4), []byte{3})
			k.ok(k.st.DeleteSessions(k.ctx, hash(0), u.ID))
		}},
	}
}

// live returns which of the sessions 0 to n-1 are there.
func (k *kit) live(n byte) []byte {
	k.Helper()
	var live []byte
	for i := range n {
		_, err := k.st.Session(k.ctx, hash(i), base())
		switch {
		case err == nil:
			live = append(live, i)
		case !fault.Is(err, fault.NotFound):
			k.Fatal(err)
		}
	}
	return live
}

func token(owner, name string, n byte) access.Token {
	expires := base().Add(time.Hour)
	return access.Token{
		Name: name, Owner: owner, Hash: hash(n), Prefix: "cst_ab",
		Scopes: []access.Scope{access.ReadEvents, access.ReadAgents}, Created: base(), Expires: &expires,
	}
}

func (k *kit) makeToken(owner, name string, n byte) access.Token {
	k.Helper()
	t, err := k.st.PutToken(k.ctx, token(owner, name, n))
	k.ok(err)
	return t
}

func tokenCases() []testCase {
	return []testCase{
		{"create and find", func(k *kit) {
			made := k.makeToken("anna", "ci", 1)
			k.makeToken("local", "ci", 2)
			want := token("anna", "ci", 1)
			want.ID = made.ID
			for what, q := range map[string]store.TokenQuery{
				"by id": {ID: made.ID}, "by owner": {Owner: "anna"}, "by hash": {Hash: hash(1)},
			} {
				got, err := k.st.Tokens(k.ctx, q)
				k.ok(err)
				same(k, what, got, []access.Token{want})
			}
			all, err := k.st.Tokens(k.ctx, store.TokenQuery{})
			k.ok(err)
			same(k, "all", len(all), 2)
			none, err := k.st.Tokens(k.ctx, store.TokenQuery{Hash: []byte{}})
			k.ok(err)
			same(k, "by an empty hash", len(none), 0)
		}},
		{"a name once per owner", func(k *kit) {
			k.makeToken("anna", "ci", 1)
			_, err := k.st.PutToken(k.ctx, token("anna", "ci", 2))
			k.wantFault(err, fault.Conflict)
			k.makeToken("bert", "ci", 3)
		}},
		{"last use", func(k *kit) {
			t := k.makeToken("anna", "ci", 1)
			at := base().Add(time.Minute)
			t.LastUsed = &at
			_, err := k.st.PutToken(k.ctx, t)
			k.ok(err)
			got, err := k.st.Tokens(k.ctx, store.TokenQuery{ID: t.ID})
			k.ok(err)
			same(k, "token", got, []access.Token{t})
		}},
		{"delete", func(k *kit) {
			t := k.makeToken("anna", "ci", 1)
			k.ok(k.st.DeleteToken(k.ctx, t.ID))
			k.wantFault(k.st.DeleteToken(k.ctx, t.ID), fault.NotFound)
			_, err := k.st.PutToken(k.ctx, t)
			k.wantFault(err, fault.NotFound)
		}},
	}
}

func auditCases() []testCase {
	return []testCase{
		{"append and page", func(k *kit) {
			for i := range 5 {
				k.ok(k.st.AppendAudit(k.ctx, access.Audit{
					Time: base().Add(time.Duration(i) * time.Second), Actor: "user:anna", Address: "192.0.2.1",
					Action: "user.create", Target: fmt.Sprint(i), Outcome: "done", Detail: "role viewer",
				}))
			}
			page, err := k.st.Audit(k.ctx, 0, 2)
			k.ok(err)
			same(k, "first page", []string{page[0].Target, page[1].Target}, []string{"4", "3"})
			same(k, "line", page[0], access.Audit{
				ID: page[0].ID, Time: base().Add(4 * time.Second), Actor: "user:anna", Address: "192.0.2.1",
				Action: "user.create", Target: "4", Outcome: "done", Detail: "role viewer",
			})
			page, err = k.st.Audit(k.ctx, page[1].ID, 0)
			k.ok(err)
			same(k, "the rest", len(page), 3)
		}},
		{"an id of the caller changes nothing", func(k *kit) {
			k.ok(k.st.AppendAudit(k.ctx, access.Audit{Action: "one", Time: base()}))
			page, err := k.st.Audit(k.ctx, 0, 0)
			k.ok(err)
			k.ok(k.st.AppendAudit(k.ctx, access.Audit{ID: page[0].ID, Action: "two", Time: base()}))
			page, err = k.st.Audit(k.ctx, 0, 0)
			k.ok(err)
			same(k, "lines", []string{page[0].Action, page[1].Action}, []string{"two", "one"})
		}},
		{"limits", func(k *kit) {
			for range store.DefaultPage + 1 {
				k.ok(k.st.AppendAudit(k.ctx, access.Audit{Action: "x", Time: base()}))
			}
			page, err := k.st.Audit(k.ctx, 0, -1)
			k.ok(err)
			same(k, "lines", len(page), store.DefaultPage)
		}},
	}
}

func createUser(k *kit) {
	u := k.makeUser("anna", access.Administrator)
	if u.ID == 0 {
		k.Error("no id was given")
	}
	want := user("anna", access.Administrator)
	want.ID = u.ID
	for what, read := range map[string]func() (access.User, error){
		"by id":   func() (access.User, error) { return k.st.User(k.ctx, u.ID) },
		"by name": func() (access.User, error) { return k.st.UserByName(k.ctx, "anna") },
	} {
		got, err := read()
		k.ok(err)
		same(k, what, got, want)
	}
}

func nameTakenOnce(k *kit) {
	k.makeUser("anna", access.Administrator)
	_, err := k.st.CreateUser(k.ctx, user("anna", access.Viewer))
	k.wantFault(err, fault.Conflict)
	other := k.makeUser("bert", access.Viewer)
	other.Name = "anna"
	k.wantFault(k.st.UpdateUser(k.ctx, other), fault.Conflict)
}

func noSuchUser(k *kit) {
	_, err := k.st.User(k.ctx, 99)
	k.wantFault(err, fault.NotFound)
	_, err = k.st.UserByName(k.ctx, "none")
	k.wantFault(err, fault.NotFound)
	k.wantFault(k.st.UpdateUser(k.ctx, access.User{ID: 99}), fault.NotFound)
	k.wantFault(k.st.DeleteUser(k.ctx, 99), fault.NotFound)
}
