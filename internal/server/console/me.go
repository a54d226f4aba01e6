package console

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// account shows who one is and may do.
func (c *Console) account(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.show(w, r, http.StatusOK, accountBody(c.page(r, v, "account", "Account"), ""))
}

// passwordPage is the forced change: the same form, alone on its page.
func (c *Console) passwordPage(w http.ResponseWriter, r *http.Request, v visit) error {
	if !v.who.MustChange {
		redirect(w, r, "/account")
		return nil
	}
	return c.show(w, r, http.StatusOK, passwordBody(c.page(r, v, "account", "Choose your password"), ""))
}

func (c *Console) changePassword(w http.ResponseWriter, r *http.Request, v visit) error {
	err := changedPassword(r, c.Account, v)
	if err == nil {
		http.SetCookie(w, account.NoCookie())
		redirect(w, r, "/sign-in?done=password")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	if v.who.MustChange {
		return c.show(w, r, http.StatusUnprocessableEntity,
			passwordBody(c.page(r, v, "account", "Choose your password"), said))
	}
	return c.show(w, r, http.StatusUnprocessableEntity, accountBody(c.page(r, v, "account", "Account"), said))
}

func changedPassword(r *http.Request, a Passwords, v visit) error {
	fresh := r.PostForm.Get("new")
	if fresh != r.PostForm.Get("again") {
		return fault.New(fault.Invalid, "the two new passwords differ")
	}
	return a.ChangePassword(r.Context(), v.who, r.PostForm.Get("old"), fresh)
}

// signOutEverywhere ends all sessions of who asks, this one included.
func (c *Console) signOutEverywhere(w http.ResponseWriter, r *http.Request, v visit) error {
	if err := c.Account.SignOutAll(r.Context(), v.who); err != nil {
		return err
	}
	http.SetCookie(w, account.NoCookie())
	redirect(w, r, "/sign-in?done=everywhere")
	return nil
}
