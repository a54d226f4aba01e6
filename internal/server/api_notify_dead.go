package server

import (
	"context"
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

type deadFilters struct {
	Target int64 `query:"target" minimum:"0" doc:"Only those of the target with this number"`
}

type deadPage struct {
	Dead []notice.Dead `json:"dead" nullable:"false" doc:"Those that were given up last first"`
}

type deadChoice struct {
	Body struct {
		ID     string `json:"id,omitempty" maxLength:"100" doc:"That of one notification"`
		Target int64  `json:"target,omitempty" minimum:"0" doc:"All of the target with this number"`
		All    bool   `json:"all,omitempty" doc:"All there are"`
	}
}

type deadCount struct {
	Count int `json:"count" doc:"How many there were"`
}

func (a *api) deadRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/notify/dead", id: "list-dead-notifications", tag: "notify", scope: access.ReadNotify,
		summary: "Notifications that were given up, and why",
	}, func(q ask[deadFilters]) (*body[deadPage], error) {
		all, err := a.notify.Dead(q.ctx, q.who, q.input.Target)
		return &body[deadPage]{deadPage{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/notify/dead/retry", id: "retry-dead-notifications", tag: "notify", scope: access.ManageNotify,
		summary: "Deliver notifications after all that were given up", about: "By id, by target, or all: one of them.",
	}, func(q ask[deadChoice]) (*body[deadCount], error) { return endDead(q, a.notify.RetryDead) })
	handle(a, route{
		method: http.MethodPost, path: "/notify/dead/drop", id: "drop-dead-notifications", tag: "notify", scope: access.ManageNotify,
		summary: "Forget notifications that were given up", about: "By id, by target, or all: one of them.",
	}, func(q ask[deadChoice]) (*body[deadCount], error) { return endDead(q, a.notify.DropDead) })
}

func endDead(q ask[deadChoice], end func(context.Context, access.Identity, store.DeadQuery) (int, error)) (*body[deadCount], error) {
	b := q.input.Body
	given := 0
	for _, is := range []bool{b.ID != "", b.Target != 0, b.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, fault.New(fault.Invalid, "dead letters: say which: id, target or all, one of them")
	}
	n, err := end(q.ctx, q.who, store.DeadQuery{ID: b.ID, Target: b.Target})
	return &body[deadCount]{deadCount{n}}, err
}
