package console

import (
	"net/http"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// ownersData is the page of who is responsible for which images.
type ownersData struct {
	Rules   asset.Owners
	Manages bool
	Form    ownerForm
	Problem string
}

// ownerForm is the form for a rule as it was typed.
type ownerForm struct {
	Of, Pattern, Name, Contact string
}

// The choices of what a pattern is one of.
const (
	ofImages = "image"
	ofGroups = "group"
)

func ownerSubjects() []span {
	return []span{{ofImages, "images, by their repository"}, {ofGroups, "groups, for the images that they run"}}
}

// rule is what the form says.
func (f ownerForm) rule() asset.OwnerRule {
	r := asset.OwnerRule{Image: f.Pattern, Owner: asset.Owner{Name: f.Name, Contact: f.Contact}}
	if f.Of == ofGroups {
		r.Image, r.Group = "", f.Pattern
	}
	return r
}

// ownerSubject is what a rule's pattern is one of.
func ownerSubject(r asset.OwnerRule) string {
	if r.Group != "" {
		return ofGroups
	}
	return ofImages
}

func (c *Console) owners(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showOwners(w, r, v, http.StatusOK, ownersData{Form: ownerForm{Of: ofImages}})
}

func (c *Console) showOwners(w http.ResponseWriter, r *http.Request, v visit, status int, d ownersData) error {
	var err error
	if d.Rules, err = c.Images.Owners(r.Context(), v.who); err != nil {
		return err
	}
	d.Manages = v.manages()
	return c.show(w, r, status, ownersBody(c.page(r, v, "images", "Owners"), d))
}

// typedOwner is the form that was sent.
func typedOwner(r *http.Request) ownerForm {
	get := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	return ownerForm{Of: get("of"), Pattern: get("pattern"), Name: get("name"), Contact: get("contact")}
}

// setOwner makes a rule.
func (c *Console) setOwner(w http.ResponseWriter, r *http.Request, v visit) error {
	form := typedOwner(r)
	err := c.Images.SetOwner(r.Context(), v.who, form.rule())
	if err == nil {
		redirect(w, r, "/owners?done=owner-set")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	return c.showOwners(w, r, v, c.Status(err), ownersData{Form: form, Problem: said})
}

// removeOwner takes a rule away.
func (c *Console) removeOwner(w http.ResponseWriter, r *http.Request, v visit) error {
	if err := c.Images.RemoveOwner(r.Context(), v.who, typedOwner(r).rule()); err != nil {
		return err
	}
	redirect(w, r, "/owners?done=owner-removed")
	return nil
}
