package console

import (
	"net/http"
	"strconv"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// usersData is the page of users, and the form for a new one as it was typed.
type usersData struct {
	List    []access.User
	Problem string
	Name    string
	Role    access.Role
}

func (c *Console) users(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showUsers(w, r, v, http.StatusOK, usersData{Role: access.Viewer})
}

func (c *Console) showUsers(w http.ResponseWriter, r *http.Request, v visit, status int, d usersData) error {
	var err error
	if d.List, err = c.Account.Users(r.Context(), v.who); err != nil {
		return err
	}
	return c.show(w, r, status, usersBody(c.page(r, v, "users", "Users"), d))
}

func (c *Console) createUser(w http.ResponseWriter, r *http.Request, v visit) error {
	f := r.PostForm
	d := usersData{Name: f.Get("name"), Role: access.Role(f.Get("role"))}
	_, err := c.Account.CreateUser(r.Context(), v.who, account.NewUser{
		Name: d.Name, Role: d.Role, Password: f.Get("password"),
	})
	return c.afterUser(w, r, v, d, "user-created", err)
}

// changeUser does one of the changes that the page offers for a user.
func (c *Console) changeUser(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "no user has the number %q", r.PathValue("id"))
	}
	var change account.UserChange
	word := r.PathValue("change")
	switch word {
	case "role":
		role := access.Role(r.PostForm.Get("role"))
		change.Role = &role
	case "disable", "enable":
		disabled := word == "disable"
		change.Disabled = &disabled
	case "reset":
		password := r.PostForm.Get("password")
		change.Password = &password
	case "delete":
		err := c.Account.DeleteUser(r.Context(), v.who, id)
		return c.afterUser(w, r, v, usersData{Role: access.Viewer}, "user-delete", err)
	default:
		return c.nowhere(w, r, v)
	}
	_, err = c.Account.UpdateUser(r.Context(), v.who, id, change)
	return c.afterUser(w, r, v, usersData{Role: access.Viewer}, "user-"+word, err)
}

// afterUser goes back to the list, or shows it with what was refused.
func (c *Console) afterUser(w http.ResponseWriter, r *http.Request, v visit, d usersData, done string, err error) error {
	if err == nil {
		redirect(w, r, "/users?done="+done)
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d.Problem = said
	return c.showUsers(w, r, v, c.Status(err), d)
}
