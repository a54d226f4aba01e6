package console

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/query"
)

// tokensData is the page of tokens, and the form for a new one as it was typed.
type tokensData struct {
	List      []access.Token
	Grantable []access.Scope
	Problem   string
	Name      string
	Scopes    []access.Scope
	Lasts     string
	// Made and Secret are of the token that was just made: the only time that
	// its secret is shown.
	Made   access.Token
	Secret string
}

// tokenLives are the choices for how long a token is good.
func tokenLives() []span {
	return []span{{"1d", "1 day"}, {"30d", "30 days"}, {"90d", "90 days"}, {"365d", "1 year"}, {"never", "never expires"}}
}

const tokenLife = "90d" // chosen unless somebody chooses

func (c *Console) tokens(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showTokens(w, r, v, http.StatusOK, tokensData{Lasts: tokenLife})
}

func (c *Console) showTokens(w http.ResponseWriter, r *http.Request, v visit, status int, d tokensData) error {
	var err error
	if d.List, err = c.Account.Tokens(r.Context(), v.who); err != nil {
		return err
	}
	d.Grantable = account.Grantable(v.who)
	return c.show(w, r, status, tokensBody(c.page(r, v, "tokens", "API tokens"), d))
}

// createToken makes a token and shows its secret in the answer itself: it has
// no address, and no cache may keep it.
func (c *Console) createToken(w http.ResponseWriter, r *http.Request, v visit) error {
	d := tokensData{Name: r.PostForm.Get("name"), Lasts: r.PostForm.Get("lasts")}
	for _, s := range r.PostForm["scope"] {
		d.Scopes = append(d.Scopes, access.Scope(s))
	}
	made, secret, err := c.newToken(r, v, d)
	if err == nil {
		return c.showTokens(w, r, v, http.StatusCreated, tokensData{Made: made, Secret: secret, Lasts: tokenLife})
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d.Problem = said
	return c.showTokens(w, r, v, c.Status(err), d)
}

func (c *Console) newToken(r *http.Request, v visit, d tokensData) (access.Token, string, error) {
	n := account.NewToken{Name: d.Name, Scopes: d.Scopes}
	if d.Lasts != "never" {
		life, err := query.Duration(d.Lasts)
		if err != nil || life <= 0 || life > 10*366*24*time.Hour {
			return access.Token{}, "", fault.New(fault.Invalid, "choose how long the token is good")
		}
		end := v.now.Add(life)
		n.Expires = &end
	}
	return c.Account.CreateToken(r.Context(), v.who, n)
}

func (c *Console) revokeToken(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "no token has the number %q", r.PathValue("id"))
	}
	if err := c.Account.DeleteToken(r.Context(), v.who, id); err != nil {
		return err
	}
	redirect(w, r, "/tokens?done=token-revoked")
	return nil
}

// chosen reports whether the form had the scope ticked.
func (d tokensData) chosen(s access.Scope) bool { return slices.Contains(d.Scopes, s) }

// expiry says until when a token is good, and how that looks.
func expiry(t access.Token, now time.Time) (string, tone) {
	switch {
	case t.Expires == nil:
		return "never", warn
	case t.Expires.Before(now):
		return "expired " + day(*t.Expires), danger
	}
	return day(*t.Expires), calm
}
