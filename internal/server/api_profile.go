package server

import (
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

type watchProfileQuery struct {
	WatchGroupName
	Revision int64 `query:"revision" minimum:"0" doc:"A revision; what it is now unless given"`
}

type watchProfileForm struct {
	Body struct {
		Group   string `json:"group" maxLength:"512"`
		Text    string `json:"text" maxLength:"4194304" doc:"The profile, as it is exported"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why it is changed"`
		// Signature is the text of a file.
		Signature string `json:"signature,omitempty" maxLength:"65536" doc:"What castellan watch profile sign wrote for exactly that text"`
		After     int64  `json:"after" minimum:"-1" doc:"The revision that was changed: it must be the newest still; -1: whatever it is"`
	}
}

type watchProfileText struct {
	Body struct {
		Text string `json:"text" maxLength:"4194304" doc:"The profile"`
	}
}

type watchStartForm struct {
	Body struct {
		Group string `json:"group" maxLength:"512"`
		Name  string `json:"name" maxLength:"64" doc:"Name of the starting profile"`
	}
}

type watchHistoryQuery struct {
	WatchGroupName
	Before int64 `query:"before" minimum:"0" doc:"Continue behind this revision"`
	Limit  int   `query:"limit" minimum:"0" maximum:"1000"`
}

type watchHistoryList struct {
	Revisions []store.BehaviourRevision `json:"revisions" nullable:"false" doc:"The newest first"`
}

type watchChangesQuery struct {
	WatchGroupName
	From    int64  `query:"from" minimum:"0" doc:"The earlier revision; the one before unless given"`
	To      int64  `query:"to" minimum:"0" doc:"The later revision; what it is now unless given"`
	Images  bool   `query:"images" doc:"What a version of the image does that those before did not, instead"`
	Version string `query:"version" maxLength:"128" doc:"With images: digest of the version; the newest unless given"`
}

type watchChangesList struct {
	Changes []watch.Change `json:"changes" nullable:"false" doc:"What is added first"`
}

type watchStartingList struct {
	Names []string `json:"names" nullable:"false"`
}

func (a *api) behaviourProfileRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/watch/profile", id: "get-behaviour-profile", tag: "watch", scope: access.ReadBehaviour,
		summary: "The profile of a group, with what it rests on, and as text",
	}, func(q ask[watchProfileQuery]) (*body[behaviour.Profiled], error) {
		p, err := a.behaviour.Profile(q.ctx, q.who, asset.Group(q.input.Group), q.input.Revision)
		return &body[behaviour.Profiled]{p}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/watch/profile", id: "put-behaviour-profile", tag: "watch", scope: access.ManageBehaviour, most: maxProfileBody,
		summary: "Make a text the profile of a group", about: "What is the same keeps what it rests on. Agents are told at once. A server with keys of profiles takes only what is signed by one.",
	}, func(q ask[watchProfileForm]) (*body[store.BehaviourGroup], error) {
		b := &q.input.Body
		g, err := a.behaviour.Import(q.ctx, q.who, asset.Group(b.Group), behaviour.Edit{Text: b.Text, Signature: b.Signature, Comment: b.Comment, After: b.After})
		return &body[store.BehaviourGroup]{g}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/watch/profile/check", id: "check-behaviour-profile", tag: "watch", scope: access.ReadBehaviour, most: maxProfileBody,
		summary: "What is wrong with a text as a profile",
	}, func(q ask[watchProfileText]) (*body[policyProblems], error) {
		problems, err := a.behaviour.CheckProfile(q.who, q.input.Body.Text)
		told := []policyProblem{}
		for _, p := range problems {
			told = append(told, policyProblem{p.Line, p.Column, p.Text, p.Remedy})
		}
		return &body[policyProblems]{policyProblems{told}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/watch/profile/starting", id: "list-starting-profiles", tag: "watch", scope: access.ReadBehaviour,
		summary: "The starting profiles that there are",
	}, func(ask[empty]) (*body[watchStartingList], error) {
		return &body[watchStartingList]{watchStartingList{list(watch.StartingNames())}}, nil
	})
	handle(a, route{
		method: http.MethodPost, path: "/watch/profile/start", id: "start-behaviour-profile", tag: "watch", scope: access.ManageBehaviour,
		summary: "Give a group a starting profile, with what it has already",
	}, func(q ask[watchStartForm]) (*body[store.BehaviourGroup], error) {
		g, err := a.behaviour.Start(q.ctx, q.who, asset.Group(q.input.Body.Group), q.input.Body.Name)
		return &body[store.BehaviourGroup]{g}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/watch/profile/history", id: "list-behaviour-revisions", tag: "watch", scope: access.ReadBehaviour,
		summary: "Who changed the profile of a group, when and why",
	}, func(q ask[watchHistoryQuery]) (*body[watchHistoryList], error) {
		all, err := a.behaviour.Revisions(q.ctx, q.who, asset.Group(q.input.Group), q.input.Before, q.input.Limit)
		return &body[watchHistoryList]{watchHistoryList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/watch/profile/changes", id: "list-behaviour-changes", tag: "watch", scope: access.ReadBehaviour,
		summary: "What one profile permits that another does not",
	}, func(q ask[watchChangesQuery]) (*body[watchChangesList], error) {
		in, name := q.input, asset.Group(q.input.Group)
		var all []watch.Change
		var err error
		if in.Images {
			all, err = a.behaviour.VersionChanges(q.ctx, q.who, name, in.Version)
		} else {
			all, err = a.behaviour.Changes(q.ctx, q.who, name, in.From, in.To)
		}
		return &body[watchChangesList]{watchChangesList{list(all)}}, err
	})
}
