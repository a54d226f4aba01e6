package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// maxProfileBody bounds a body with the text of a profile in it.
const maxProfileBody = 2*watch.MaxDocument + maxBody

type watchGroupQuery struct {
	Mode      []string `query:"mode,explode" enum:"discover,monitor,protect" maxItems:"3" doc:"What the profile does; may be repeated"`
	Proposed  bool     `query:"proposed" doc:"Only groups for which another mode is proposed"`
	Outside   bool     `query:"outside" doc:"Only groups with violations that nobody has permitted"`
	Unsettled bool     `query:"unsettled" doc:"Only groups whose profile is not settled yet"`
	Text      string   `query:"text" maxLength:"256" doc:"Part of the name"`
	Cluster   string   `query:"cluster" maxLength:"512" doc:"The first part of the name"`
	After     string   `query:"after" maxLength:"512" doc:"Continue behind this group"`
	Limit     int      `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type watchTotals struct {
	Modes      map[string]int          `json:"modes" doc:"Groups by mode"`
	Proposals  int                     `json:"proposals"`
	Violations map[profile.Control]int `json:"violations" doc:"Those that nobody has permitted, by control"`
}

type watchGroupList struct {
	Groups    []store.BehaviourGroup   `json:"groups" nullable:"false" doc:"In the order of their names"`
	Totals    watchTotals              `json:"totals" doc:"Of all groups"`
	Promotion store.BehaviourPromotion `json:"promotion" doc:"How modes change by themselves where a group has nothing of its own"`
	Progress  behaviour.Progress       `json:"progress" doc:"How far events are known"`
}

// WatchGroupName names a group. It is exported because huma looks only at exported
// fields.
type WatchGroupName struct {
	Group string `query:"group" required:"true" maxLength:"512" doc:"cluster/service/container"`
}

type watchModeForm struct {
	Body struct {
		Group   string `json:"group" maxLength:"512"`
		Mode    string `json:"mode" enum:"discover,monitor,protect"`
		Anyway  bool   `json:"anyway,omitempty" doc:"Protect though the profile is not settled"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchAnswersForm struct {
	Body struct {
		Group   string                             `json:"group" maxLength:"512"`
		Answers map[profile.Control]profile.Answer `json:"answers" doc:"off or audit by control: exec, file, network, privilege, resource; others follow from the mode"`
		Comment string                             `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchPromotionForm struct {
	Body struct {
		Group      string `json:"group,omitempty" maxLength:"512" doc:"Empty: all groups that have nothing of their own"`
		Inherit    bool   `json:"inherit,omitempty" doc:"The group gets the fleet's again; the rest is not looked at"`
		Promote    string `json:"promote,omitempty" enum:",propose,promote" doc:"What is done once it is settled; empty: nothing"`
		After      string `json:"after,omitempty" maxLength:"20" doc:"For how long it must be settled: 24h, 7d; a day unless given"`
		Most       string `json:"most,omitempty" enum:",monitor,protect" doc:"The mode that it leads to at most; protect unless given"`
		NewVersion string `json:"new_version,omitempty" enum:",hold" doc:"hold: a protected group goes on to block when a new image comes"`
	}
}

type watchChangeForm struct {
	Body struct {
		Group   string `json:"group" maxLength:"512"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchReleaseForm struct {
	Body struct {
		Group    string `json:"group" maxLength:"512"`
		Released bool   `json:"released" doc:"true: nothing of it is blocked; false: it is again"`
		Comment  string `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchForgetQuery struct {
	WatchGroupName
	Comment string `query:"comment" maxLength:"500" doc:"Why"`
}

type watchViolationQuery struct {
	Group      string    `query:"group" maxLength:"512" doc:"cluster/service/container"`
	Control    string    `query:"control" enum:"exec,file,network,privilege,resource"`
	Kind       string    `query:"kind" maxLength:"64" doc:"Kind of event"`
	Reaction   string    `query:"reaction" enum:"audited,denied,killed" doc:"What the host's kernel did"`
	Open       bool      `query:"open" doc:"Only what nobody has permitted"`
	Text       string    `query:"text" maxLength:"256" doc:"Part of what was done, to what, or by which program"`
	Since      time.Time `query:"since" doc:"Seen from this time on, by the agents' clocks"`
	BeforeLast time.Time `query:"before_last" doc:"With before_id: continue behind this violation"`
	BeforeID   int64     `query:"before_id" minimum:"0"`
	Limit      int       `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type watchViolationList struct {
	Violations []store.BehaviourViolation `json:"violations" nullable:"false" doc:"What was seen last first"`
}

// WatchNumber names a violation or a permit. It is exported as WatchGroupName is.
type WatchNumber struct {
	ID int64 `path:"id" minimum:"1"`
}

type watchNumberForm struct {
	WatchNumber
	Body struct {
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchPermitForm struct {
	WatchNumber
	Body struct {
		Width   string `json:"width,omitempty" maxLength:"20" doc:"How much with it: one of the violation's widths; what was done alone unless given"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why"`
	}
}

type watchViolation struct {
	store.BehaviourViolation
	Widths []watch.Width `json:"widths" nullable:"false" doc:"What can be permitted of it, the narrowest first; empty where no profile can say what it was"`
	// Signers as in behaviour.Detail.
	Signers []string `json:"signers,omitempty" doc:"Keys of which one must sign profiles that people change: permitting is refused then, and the profile is to be exported, edited, signed and imported"`
}

type watchPermitQuery struct {
	Group  string `query:"group" maxLength:"512" doc:"Of this group alone"`
	Before int64  `query:"before" minimum:"0" doc:"Continue behind this permit"`
	Limit  int    `query:"limit" minimum:"0" maximum:"1000"`
}

type watchPermitList struct {
	Permits []store.BehaviourPermit `json:"permits" nullable:"false" doc:"The newest first"`
}

type watchRehearseForm struct {
	Body struct {
		Group string    `json:"group" maxLength:"512"`
		Text  string    `json:"text,omitempty" maxLength:"4194304" doc:"The profile; empty: that of the group as it is now"`
		Since time.Time `json:"since,omitzero" doc:"Events from this time on; a week unless given"`
	}
}

func (a *api) behaviourRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/watch/groups", id: "list-behaviour-groups", tag: "watch", scope: access.ReadBehaviour,
		summary: "Groups with what their profile does, and how settled it is",
	}, a.listBehaviour)
	handle(a, route{
		method: http.MethodGet, path: "/watch/group", id: "get-behaviour-group", tag: "watch", scope: access.ReadBehaviour,
		summary: "One group, with what each agent holds it to",
	}, func(q ask[WatchGroupName]) (*body[behaviour.Detail], error) {
		d, err := a.behaviour.Group(q.ctx, q.who, asset.Group(q.input.Group))
		return &body[behaviour.Detail]{d}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/watch/group", id: "forget-behaviour-group", tag: "watch", scope: access.ManageBehaviour, status: http.StatusNoContent,
		summary: "Forget all that is known of a group: it is learned anew",
	}, func(q ask[watchForgetQuery]) (*empty, error) {
		return &empty{}, a.behaviour.Forget(q.ctx, q.who, asset.Group(q.input.Group), q.input.Comment)
	})
	a.behaviourModeRoutes()
	a.behaviourProfileRoutes()
	a.violationRoutes()
	handle(a, route{
		method: http.MethodPost, path: "/watch/rehearse", id: "rehearse-behaviour", tag: "watch", scope: access.ReadBehaviour, most: maxProfileBody,
		summary: "What protect would have blocked, and whether that would have been wrong", about: "Over the stored events of the group. One rehearsal runs at a time.",
	}, func(q ask[watchRehearseForm]) (*body[behaviour.Rehearsed], error) {
		b := &q.input.Body
		r, err := a.behaviour.Rehearse(q.ctx, q.who, behaviour.Rehearse{Group: asset.Group(b.Group), Text: b.Text, Since: b.Since})
		r.Cases = list(r.Cases)
		return &body[behaviour.Rehearsed]{r}, err
	})
}

func (a *api) listBehaviour(q ask[watchGroupQuery]) (*body[watchGroupList], error) {
	in := q.input
	f := store.BehaviourQuery{Proposed: in.Proposed, Outside: in.Outside, Text: in.Text, Cluster: in.Cluster, After: asset.Group(in.After), Limit: in.Limit}
	if in.Unsettled {
		f.Below = watch.SettledMeasure
	}
	for _, w := range in.Mode {
		m, ok := profile.ParseMode(w)
		if !ok {
			return nil, fault.New(fault.Invalid, "%q is no mode: want discover, monitor or protect", w)
		}
		f.Modes = append(f.Modes, m)
	}
	groups, err := a.behaviour.Groups(q.ctx, q.who, f)
	if err != nil {
		return nil, err
	}
	totals, err := a.behaviour.Totals(q.ctx, q.who)
	if err != nil {
		return nil, err
	}
	promotion, err := a.behaviour.Promotion(q.ctx, q.who)
	out := watchGroupList{
		Groups: list(groups), Totals: watchTotals{Modes: map[string]int{}, Proposals: totals.Proposals, Violations: totals.Violations},
		Promotion: promotion, Progress: a.behaviour.Progress(),
	}
	for m, n := range totals.Modes {
		out.Totals.Modes[m.String()] = n
	}
	return &body[watchGroupList]{out}, err
}

func (a *api) behaviourModeRoutes() {
	handle(a, route{
		method: http.MethodPut, path: "/watch/mode", id: "put-behaviour-mode", tag: "watch", scope: access.ManageBehaviour,
		summary: "Change what the profile of a group does", about: "Agents are told at once.",
	}, func(q ask[watchModeForm]) (*body[store.BehaviourGroup], error) {
		b := &q.input.Body
		m, ok := profile.ParseMode(b.Mode)
		if !ok {
			return nil, fault.New(fault.Invalid, "%q is no mode: want discover, monitor or protect", b.Mode)
		}
		g, err := a.behaviour.SetMode(q.ctx, q.who, asset.Group(b.Group), behaviour.Decision{Mode: m, Anyway: b.Anyway, Comment: b.Comment})
		return &body[store.BehaviourGroup]{g}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/watch/answers", id: "put-behaviour-answers", tag: "watch", scope: access.ManageBehaviour,
		summary: "Switch single controls of a group to audit alone, or off",
	}, func(q ask[watchAnswersForm]) (*body[store.BehaviourGroup], error) {
		b := &q.input.Body
		g, err := a.behaviour.SetAnswers(q.ctx, q.who, asset.Group(b.Group), b.Answers, b.Comment)
		return &body[store.BehaviourGroup]{g}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/watch/promotion", id: "put-behaviour-promotion", tag: "watch", scope: access.ManageBehaviour, status: http.StatusNoContent,
		summary: "Say how modes change by themselves",
	}, func(q ask[watchPromotionForm]) (*empty, error) {
		b := &q.input.Body
		after, err := time.Duration(0), error(nil)
		if b.After != "" {
			if after, err = query.Duration(b.After); err != nil {
				return nil, err
			}
		}
		p := &store.BehaviourPromotion{Promote: b.Promote, After: after, Most: profile.Mode(b.Most), NewVersion: b.NewVersion}
		if b.Inherit {
			p = nil
		}
		return &empty{}, a.behaviour.SetPromotion(q.ctx, q.who, asset.Group(b.Group), p)
	})
	handle(a, route{
		method: http.MethodPost, path: "/watch/decline", id: "decline-behaviour-proposal", tag: "watch", scope: access.ManageBehaviour,
		summary: "Say no to the mode that is proposed for a group",
	}, func(q ask[watchChangeForm]) (*body[store.BehaviourGroup], error) {
		g, err := a.behaviour.Decline(q.ctx, q.who, asset.Group(q.input.Body.Group))
		return &body[store.BehaviourGroup]{g}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/watch/release", id: "release-behaviour-group", tag: "watch", scope: access.ManageBehaviour,
		summary: "Let go of a protected group on all hosts, or hold it again",
	}, func(q ask[watchReleaseForm]) (*body[store.BehaviourGroup], error) {
		b := &q.input.Body
		g, err := a.behaviour.SetReleased(q.ctx, q.who, asset.Group(b.Group), b.Released, b.Comment)
		return &body[store.BehaviourGroup]{g}, err
	})
}

func (a *api) violationRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/watch/violations", id: "list-behaviour-violations", tag: "watch", scope: access.ReadBehaviour,
		summary: "What lay outside the profiles of groups",
	}, func(q ask[watchViolationQuery]) (*body[watchViolationList], error) {
		in := q.input
		all, err := a.behaviour.Violations(q.ctx, q.who, store.ViolationQuery{
			Group: asset.Group(in.Group), Control: profile.Control(in.Control), Kind: event.Kind(in.Kind), Reaction: event.Reaction(in.Reaction),
			Open: in.Open, Text: in.Text, Since: in.Since, BeforeLast: in.BeforeLast, BeforeID: in.BeforeID, Limit: in.Limit,
		})
		return &body[watchViolationList]{watchViolationList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/watch/violations/{id}", id: "get-behaviour-violation", tag: "watch", scope: access.ReadBehaviour,
		summary: "One violation, with what would make it normal",
	}, func(q ask[WatchNumber]) (*body[watchViolation], error) {
		v, err := a.behaviour.Violation(q.ctx, q.who, q.input.ID)
		return &body[watchViolation]{watchViolation{v, list(watch.Widths(&v.Violation)), a.behaviour.Signers()}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/watch/violations/{id}/permit", id: "permit-behaviour-violation", tag: "watch", scope: access.ManageBehaviour,
		status: http.StatusCreated, summary: "Make a violation normal: it is added to the profile of its group",
	}, func(q ask[watchPermitForm]) (*body[store.BehaviourPermit], error) {
		p, err := a.behaviour.Permit(q.ctx, q.who, q.input.ID, behaviour.Permitting{Width: q.input.Body.Width, Comment: q.input.Body.Comment})
		return &body[store.BehaviourPermit]{p}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/watch/permits", id: "list-behaviour-permits", tag: "watch", scope: access.ReadBehaviour,
		summary: "What people made normal",
	}, func(q ask[watchPermitQuery]) (*body[watchPermitList], error) {
		all, err := a.behaviour.Permits(q.ctx, q.who, asset.Group(q.input.Group), q.input.Before, q.input.Limit)
		return &body[watchPermitList]{watchPermitList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/watch/permits/{id}/undo", id: "undo-behaviour-permit", tag: "watch", scope: access.ManageBehaviour,
		summary: "Take a permit back: what it added goes from the profile again",
	}, func(q ask[watchNumberForm]) (*body[store.BehaviourPermit], error) {
		p, err := a.behaviour.Undo(q.ctx, q.who, q.input.ID, q.input.Body.Comment)
		return &body[store.BehaviourPermit]{p}, err
	})
}
