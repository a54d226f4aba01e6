package threat

import (
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Call is the call of AWS that a threat is about: who did what where in the cloud.
type Call struct {
	ID      string          `json:"id"`   // CloudTrail's eventID of the last of it
	Name    string          `json:"name"` // ecs:RunTask
	Account string          `json:"account,omitempty"`
	Region  string          `json:"region,omitempty"`
	Kind    event.ActorKind `json:"kind,omitempty"`  // of the actor
	Actor   string          `json:"actor,omitempty"` // ARN
	Words   string          `json:"words,omitempty"` // names the actor
	Key     string          `json:"key,omitempty"`   // id of the access key
	Source  string          `json:"source,omitempty"`
	Agent   string          `json:"user_agent,omitempty"`
}

// CallOf takes of a call what a threat tells of it.
func CallOf(c *event.Call) *Call {
	out := &Call{ID: c.ID, Name: c.Is(), Account: c.Account, Region: c.Region, Kind: c.Actor.Kind(), Actor: c.Actor.ARN, Words: c.Actor.String(), Key: c.Actor.Key, Source: c.Source, Agent: c.Agent}
	out.bound()
	return out
}

func (c *Call) bound() {
	for _, s := range []*string{&c.ID, &c.Name, &c.Account, &c.Region, &c.Key} {
		*s = untrusted.Clip(*s, maxWord)
	}
	for _, s := range []*string{&c.Actor, &c.Words, &c.Source, &c.Agent} {
		*s = untrusted.Clip(*s, maxHostname)
	}
}
