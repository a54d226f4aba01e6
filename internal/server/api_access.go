package server

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/account"
)

// sessionState is who asks.
type sessionState struct {
	Identity access.Identity `json:"identity"`
	CSRF     string          `json:"csrf_token,omitempty" doc:"What changing requests of this session repeat in the header X-CSRF-Token"`
}

type signInForm struct {
	Caller
	Body struct {
		Name     string `json:"name" maxLength:"200"`
		Password string `json:"password" maxLength:"4096"`
	}
}

// Caller is where a request came from. It is exported because huma looks only
// at exported fields.
type Caller struct{ address string }

// Resolve is huma.Resolver.
func (c *Caller) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	c.address = clientAddress(r)
	return nil
}

type signedIn struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      sessionState
}

type signedOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

type sessionCookie struct {
	Cookie http.Cookie `cookie:"__Host-castellan"`
}

type passwordForm struct {
	Body struct {
		Old string `json:"old" maxLength:"4096" doc:"The password of now"`
		New string `json:"new" maxLength:"4096" doc:"The password to be: 12 characters or more"`
	}
}

func (a *api) sessionRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/session", id: "get-session", tag: "session", summary: "Who am I, and what may I do",
	}, func(q ask[empty]) (*body[sessionState], error) {
		return &body[sessionState]{sessionState{Identity: shown(q.who), CSRF: q.csrf}}, nil
	})
	handle(a, route{
		method: http.MethodPost, path: "/session", id: "sign-in", tag: "session", open: true, summary: "Sign in with name and password",
		about: "Too many wrong passwords for one name or from one address are answered with 429 and Retry-After.",
	}, a.signIn)
	handle(a, route{
		method: http.MethodDelete, path: "/session", id: "sign-out", tag: "session", status: http.StatusNoContent, summary: "Sign out",
	}, func(q ask[sessionCookie]) (*signedOut, error) {
		return &signedOut{*account.NoCookie()}, a.accounts.SignOut(q.ctx, q.input.Cookie.Value, q.who)
	})
	handle(a, route{
		method: http.MethodPost, path: "/account/password", id: "change-password", tag: "session", status: http.StatusNoContent,
		summary: "Change one's own password", about: "All sessions of the user end, this one included.",
	}, func(q ask[passwordForm]) (*signedOut, error) {
		return &signedOut{*account.NoCookie()}, a.accounts.ChangePassword(q.ctx, q.who, q.input.Body.Old, q.input.Body.New)
	})
}

func (a *api) signIn(q ask[signInForm]) (*signedIn, error) {
	in := q.input
	value, session, err := a.accounts.SignIn(q.ctx, in.Body.Name, in.Body.Password, in.address)
	if err != nil {
		return nil, err
	}
	who, _, err := a.accounts.BySession(q.ctx, value, in.address)
	if err != nil {
		return nil, err
	}
	return &signedIn{
		SetCookie: *account.Cookie(value, session),
		Body:      sessionState{Identity: shown(who), CSRF: session.CSRF},
	}, nil
}

// shown is an identity with a list of scopes that is never null.
func shown(who access.Identity) access.Identity {
	who.Scopes = list(who.Scopes)
	return who
}

type userPage struct {
	Users []access.User `json:"users" nullable:"false"`
}

type userID struct {
	ID int64 `path:"id" minimum:"1" doc:"The user's id"`
}

type userForm struct {
	Body struct {
		Name     string      `json:"name" maxLength:"200" doc:"1 to 63 of a-z, 0-9 and . _ @ -" example:"maria"`
		Role     access.Role `json:"role" enum:"viewer,operator,administrator"`
		Password string      `json:"password" maxLength:"4096" doc:"12 characters or more; the user must change it at the first sign-in"`
	}
}

type userChange struct {
	ID   int64 `path:"id" minimum:"1" doc:"The user's id"`
	Body struct {
		Role     *access.Role `json:"role,omitempty" enum:"viewer,operator,administrator"`
		Disabled *bool        `json:"disabled,omitempty" doc:"A disabled user may not sign in, and the user's tokens are refused"`
		Password *string      `json:"password,omitempty" maxLength:"4096" doc:"The user must change it at the next sign-in"`
	}
}

type auditFilters struct {
	Before int64 `query:"before" minimum:"0" doc:"Only ids below: that of the last line of the page before"`
	Limit  int   `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type auditPage struct {
	Audit []access.Audit `json:"audit" nullable:"false" doc:"Newest first"`
}

func (a *api) userRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/users", id: "list-users", tag: "users", scope: access.ManageUsers, summary: "Who may sign in",
	}, func(q ask[empty]) (*body[userPage], error) {
		users, err := a.accounts.Users(q.ctx, q.who)
		return &body[userPage]{userPage{list(users)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/users", id: "create-user", tag: "users", scope: access.ManageUsers,
		status: http.StatusCreated, summary: "Add a user",
	}, func(q ask[userForm]) (*body[access.User], error) {
		b := q.input.Body
		u, err := a.accounts.CreateUser(q.ctx, q.who, account.NewUser{Name: b.Name, Role: b.Role, Password: b.Password})
		return &body[access.User]{u}, err
	})
	handle(a, route{
		method: http.MethodPatch, path: "/users/{id}", id: "update-user", tag: "users", scope: access.ManageUsers,
		summary: "Change a user", about: "All sessions of the user end. The last enabled administrator can't be taken away.",
	}, func(q ask[userChange]) (*body[access.User], error) {
		b := q.input.Body
		u, err := a.accounts.UpdateUser(q.ctx, q.who, q.input.ID, account.UserChange{Role: b.Role, Disabled: b.Disabled, Password: b.Password})
		return &body[access.User]{u}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/users/{id}", id: "delete-user", tag: "users", scope: access.ManageUsers,
		status: http.StatusNoContent, summary: "Delete a user with sessions and tokens",
	}, func(q ask[userID]) (*empty, error) {
		return &empty{}, a.accounts.DeleteUser(q.ctx, q.who, q.input.ID)
	})
	handle(a, route{
		method: http.MethodGet, path: "/audit", id: "list-audit", tag: "audit", scope: access.ReadAudit,
		summary: "Every change and every refused sign-in, newest first",
	}, func(q ask[auditFilters]) (*body[auditPage], error) {
		lines, err := a.accounts.Audit(q.ctx, q.who, q.input.Before, q.input.Limit)
		return &body[auditPage]{auditPage{list(lines)}}, err
	})
}

type tokenPage struct {
	Tokens []access.Token `json:"tokens" nullable:"false"`
}

type tokenForm struct {
	Body struct {
		Name    string         `json:"name" maxLength:"200" doc:"What it is for; unique among one's own"`
		Scopes  []access.Scope `json:"scopes" minItems:"1" maxItems:"20" nullable:"false" doc:"What it may do; never more than its maker"`
		Expires *time.Time     `json:"expires,omitempty" doc:"When it ends; never unless given"`
	}
}

type newToken struct {
	Token  access.Token `json:"token"`
	Secret string       `json:"secret" doc:"The token itself, shown this once"`
}

type tokenID struct {
	ID int64 `path:"id" minimum:"1" doc:"The token's id"`
}

func (a *api) tokenRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/tokens", id: "list-tokens", tag: "tokens",
		summary: "One's own API tokens, or with tokens:manage everyone's",
	}, func(q ask[empty]) (*body[tokenPage], error) {
		tokens, err := a.accounts.Tokens(q.ctx, q.who)
		return &body[tokenPage]{tokenPage{list(tokens)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/tokens", id: "create-token", tag: "tokens", status: http.StatusCreated,
		summary: "Make an API token; the answer has its secret, once",
	}, func(q ask[tokenForm]) (*body[newToken], error) {
		b := q.input.Body
		t, secret, err := a.accounts.CreateToken(q.ctx, q.who, account.NewToken{Name: b.Name, Scopes: b.Scopes, Expires: b.Expires})
		return &body[newToken]{newToken{t, secret}}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/tokens/{id}", id: "delete-token", tag: "tokens", status: http.StatusNoContent,
		summary: "Revoke a token of one's own, or with tokens:manage anybody's",
	}, func(q ask[tokenID]) (*empty, error) {
		return &empty{}, a.accounts.DeleteToken(q.ctx, q.who, q.input.ID)
	})
}
