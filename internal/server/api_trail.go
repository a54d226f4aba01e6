package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/trail"
	"github.com/castellan-security/castellan/internal/store"
)

type trailList struct {
	Trails []trail.View `json:"trails" nullable:"false" doc:"Those that are read, by name"`
}

// TrailName names a trail.
type TrailName struct {
	Name string `path:"name" maxLength:"63" pattern:"^[a-z0-9]+(-[a-z0-9]+)*$" doc:"Small letters, digits and hyphens"`
}

// TrailForm is how a trail is configured. It is exported because huma looks only at
// exported fields.
type TrailForm struct {
	Queue      string `json:"queue" maxLength:"512" doc:"URL of the queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"`
	Role       string `json:"role,omitempty" maxLength:"600" doc:"ARN of a role that is assumed to read it: for another account"`
	ExternalID string `json:"external_id,omitempty" maxLength:"1224" doc:"What the role's trust policy asks for beside"`
	Quiet      string `json:"quiet,omitempty" maxLength:"20" doc:"How long nothing may come before that is told, such as 6h; 12h unless given"`
}

func (f *TrailForm) trail(name string) (asset.Trail, error) {
	t := asset.Trail{Name: name, Queue: f.Queue, Role: f.Role, ExternalID: f.ExternalID}
	if f.Quiet != "" {
		d, err := time.ParseDuration(f.Quiet)
		if err != nil {
			d = -1 // which Check refuses
		}
		t.Quiet = d
	}
	return t, t.Check()
}

type trailForm struct {
	TrailName
	Body TrailForm
}

type trailTest struct {
	Says string `json:"says" doc:"What was found, in words"`
}

func (a *api) trailRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/detect/trails", id: "list-trails", tag: "detect", scope: access.ReadDetect,
		summary: "Trails of CloudTrail that are read, and how that goes",
	}, func(q ask[struct{}]) (*body[trailList], error) {
		all, err := a.trail.Trails(q.ctx, q.who)
		return &body[trailList]{trailList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/detect/trails/{name}", id: "set-trail", tag: "detect", scope: access.WriteDetect,
		summary: "Add a trail, or change one", about: "It is read from then on.",
	}, func(q ask[trailForm]) (*body[store.WatchedTrail], error) {
		t, err := q.input.Body.trail(q.input.Name)
		if err != nil {
			return nil, err
		}
		w, err := a.trail.Put(q.ctx, q.who, t)
		return &body[store.WatchedTrail]{w}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/detect/trails/{name}/test", id: "test-trail", tag: "detect", scope: access.WriteDetect,
		summary: "Say whether a trail could be read", about: "It need not be configured, and its queue is left as it is.",
	}, func(q ask[trailForm]) (*body[trailTest], error) {
		t, err := q.input.Body.trail(q.input.Name)
		if err != nil {
			return nil, err
		}
		says, err := a.trail.Test(q.ctx, q.who, t)
		return &body[trailTest]{trailTest{says}}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/detect/trails/{name}", id: "remove-trail", tag: "detect", scope: access.WriteDetect, status: http.StatusNoContent,
		summary: "Read a trail no longer",
	}, func(q ask[TrailName]) (*struct{}, error) {
		return nil, a.trail.Remove(q.ctx, q.who, q.input.Name)
	})
}
