package server

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// RegistryName is the part of a path that names a registry. It is exported because
// huma looks only at exported fields.
type RegistryName struct {
	Name string `path:"name" maxLength:"63" doc:"The registry's name"`
}

type registryList struct {
	Registries []registries.View `json:"registries" nullable:"false" doc:"By name"`
}

// registryMade is the answer to what may have made a webhook's token.
type registryMade struct {
	Registry registries.View `json:"registry"`
	// Token and Path are shown this once.
	Token string `json:"webhook_token,omitempty" doc:"Token of the webhook: shown this once. Sent as Authorization: Bearer, or at the end of the path"`
	Path  string `json:"webhook_path,omitempty" doc:"Where the registry tells of changes, on this server"`
}

type registryForm struct {
	Body struct {
		registries.Spec
		Webhook bool `json:"webhook,omitempty" doc:"Make a webhook, by which the registry tells of changes"`
	}
}

type registryChange struct {
	RegistryName
	Body struct {
		registries.Spec
		Webhook string `json:"webhook,omitempty" enum:"keep,new,none" doc:"keep: as it is, also when left out; new: make a new token; none: end it"`
	}
}

// registryImageFilters are the parameters of GET /registries/{name}/images;
// query.RegistryImages reads them.
type registryImageFilters struct {
	Asked
	RegistryName
	Repository string `query:"repository" doc:"Exact name of the repository"`
	State      string `query:"state" doc:"State: waiting, running, done, failed, skipped, left, gone"`
	Severity   string `query:"severity" doc:"The least of the image's gravest vulnerability: critical, high, medium, low"`
	Text       string `query:"text" doc:"Part of a repository, tag or digest"`
	After      int64  `query:"after" minimum:"0" doc:"Id of the last image of the page before"`
	Limit      int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type registryImagePage struct {
	Images []store.RegistryImage `json:"images" nullable:"false" doc:"What is there first, the newest first"`
	Next   int64                 `json:"next,omitempty" doc:"The parameter after of the next page; absent on the last"`
}

type registryRepositoryFilters struct {
	RegistryName
	Text   string `query:"text" maxLength:"256" doc:"Part of the name"`
	Offset int    `query:"offset" minimum:"0" doc:"How many to pass over: next of the page before"`
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type registryRepositoryPage struct {
	Repositories []store.RegistryRepository `json:"repositories" nullable:"false" doc:"Those that could not be listed first, then by name"`
	Next         int                        `json:"next,omitempty" doc:"The parameter offset of the next page; absent on the last"`
}

type registryImageID struct {
	RegistryName
	ID int64 `path:"id" minimum:"1" doc:"The image's number"`
}

func (a *api) registryRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/registries", id: "list-registries", tag: "registries", scope: access.ReadImages,
		summary: "Registries that are watched, and what they hold",
	}, func(q ask[empty]) (*body[registryList], error) {
		all, err := a.registries.Registries(q.ctx)
		return &body[registryList]{registryList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/registries", id: "create-registry", tag: "registries", scope: access.ManageRegistries,
		status: http.StatusCreated, summary: "Watch a registry",
		about: "It is looked at at once. Credentials are those that this server's docker configuration and AWS role have.",
	}, func(q ask[registryForm]) (*body[registryMade], error) {
		v, token, err := a.registries.Create(q.ctx, q.who, q.input.Body.Spec, q.input.Body.Webhook)
		return &body[registryMade]{made(v, token)}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/registries/{name}", id: "get-registry", tag: "registries", scope: access.ReadImages,
		summary: "One registry",
	}, func(q ask[RegistryName]) (*body[registries.View], error) {
		v, err := a.registries.Registry(q.ctx, q.input.Name)
		return &body[registries.View]{v}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/registries/{name}", id: "update-registry", tag: "registries", scope: access.ManageRegistries,
		summary: "Change a registry: all of its configuration is replaced",
	}, a.updateRegistry)
	handle(a, route{
		method: http.MethodDelete, path: "/registries/{name}", id: "delete-registry", tag: "registries", scope: access.ManageRegistries,
		status: http.StatusNoContent, summary: "Watch a registry no longer, and forget what it holds",
	}, func(q ask[RegistryName]) (*empty, error) {
		return &empty{}, a.registries.Delete(q.ctx, q.who, q.input.Name)
	})
	handle(a, route{
		method: http.MethodPost, path: "/registries/{name}/check", id: "check-registry", tag: "registries", scope: access.ManageImages,
		status: http.StatusNoContent, summary: "Look at a registry now, also at what failed before",
	}, func(q ask[RegistryName]) (*empty, error) {
		return &empty{}, a.registries.Check(q.ctx, q.who, q.input.Name)
	})
	a.registryImageRoutes()
}

func (a *api) registryImageRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/registries/{name}/images", id: "list-registry-images", tag: "registries", scope: access.ReadImages,
		summary: "Images that a registry holds, with the state of their scans",
	}, a.listRegistryImages)
	handle(a, route{
		method: http.MethodPost, path: "/registries/{name}/images/{id}/scan", id: "scan-registry-image", tag: "registries", scope: access.ManageImages,
		status: http.StatusNoContent, summary: "Have an image of a registry scanned anew",
	}, func(q ask[registryImageID]) (*empty, error) {
		e, err := a.st.RegistryEntry(q.ctx, q.input.ID)
		if err == nil && e.Registry != q.input.Name {
			err = fault.New(fault.NotFound, "registry %s has no image %d", q.input.Name, q.input.ID)
		}
		if err != nil {
			return nil, err
		}
		return &empty{}, a.registries.Rescan(q.ctx, q.who, q.input.ID)
	})
	handle(a, route{
		method: http.MethodGet, path: "/registries/{name}/repositories", id: "list-registry-repositories", tag: "registries", scope: access.ReadImages,
		summary: "Repositories of a registry, and what kept them from being listed",
	}, a.listRegistryRepositories)
	handle(a, route{
		method: http.MethodGet, path: "/images/{id}/registries", id: "list-image-registries", tag: "images", scope: access.ReadImages,
		summary: "Where registries hold an image: repositories and tags",
	}, func(q ask[imageID]) (*body[registryImagePage], error) {
		if _, err := a.st.Image(q.ctx, q.input.ID); err != nil {
			return nil, err
		}
		all, err := a.st.ImageEntries(q.ctx, q.input.ID)
		return &body[registryImagePage]{registryImagePage{Images: list(all)}}, err
	})
}

// made says once by what a registry may tell of changes.
func made(v registries.View, token string) registryMade {
	m := registryMade{Registry: v, Token: token}
	if token != "" {
		m.Path = apiPrefix + "/registries/" + v.Name + "/webhook"
	}
	return m
}

func (a *api) updateRegistry(q ask[registryChange]) (*body[registryMade], error) {
	b := q.input.Body
	if b.Name == "" {
		b.Name = q.input.Name
	}
	if b.Name != q.input.Name {
		return nil, fault.New(fault.Invalid, "name: a registry keeps its name").With("remove it, and create one with the other name")
	}
	hook := map[string]registries.Webhook{"new": registries.WebhookAnew, "none": registries.WebhookEnds}[b.Webhook]
	v, token, err := a.registries.Update(q.ctx, q.who, b.Spec, hook)
	return &body[registryMade]{made(v, token)}, err
}

func (a *api) listRegistryImages(q ask[registryImageFilters]) (*body[registryImagePage], error) {
	iq, err := query.RegistryImages(q.input.values)
	if err != nil {
		return nil, err
	}
	if _, err := a.st.Registry(q.ctx, q.input.Name); err != nil {
		return nil, err
	}
	iq.Registry = q.input.Name
	iq.Limit = pageOf(iq.Limit)
	found, err := a.st.RegistryImages(q.ctx, iq)
	if err != nil {
		return nil, err
	}
	next := nextAfter(found, iq.Limit, func(m *store.RegistryImage) int64 { return m.ID })
	return &body[registryImagePage]{registryImagePage{Images: list(found), Next: next}}, nil
}

func (a *api) listRegistryRepositories(q ask[registryRepositoryFilters]) (*body[registryRepositoryPage], error) {
	in := q.input
	if _, err := a.st.Registry(q.ctx, in.Name); err != nil {
		return nil, err
	}
	in.Limit = pageOf(in.Limit)
	found, err := a.st.RegistryRepositories(q.ctx, store.RegistryRepositoryQuery{Registry: in.Name, Text: in.Text, Offset: in.Offset, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &body[registryRepositoryPage]{registryRepositoryPage{Repositories: list(found), Next: nextOffset(in.Offset, in.Limit, len(found))}}, nil
}
