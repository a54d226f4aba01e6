// Package retag finds images that are pushed over a tag that had another image.
package retag

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/detect/cloud"
	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxTags    = 16 << 10
	maxPushers = 8
	remember   = 90 * 24 * time.Hour
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "trail-image-over-tag", Theme: "trail", Title: "An image was pushed over a tag that had another", Severity: finding.Medium,
		Tactic: threat.Persistence, Techniques: []string{"T1525", "T1204.003"}, Kinds: []event.Kind{event.KindCall},
		Meaning:    "Tasks that name the tag run the new image when they start again, and nobody has changed their definition.",
		FalseAlarm: "Pipelines that move tags; those called latest, main and the like are told only of who never pushed to the repository.",
		Tuning:     "Add tags that are meant to be moved to moving; make the tags of other repositories immutable.",
		Remedy:     "Compare both images; push the former again if nobody knows the new one, and look at what runs it.",
	},
		pattern.List("moving", "tags that are meant to be moved", "latest", "main", "master", "dev", "develop", "edge", "nightly", "stable", "staging", "prod", "production", "test", "cache", "buildcache"),
	)
}

type tags struct {
	moving  map[string]bool
	digests *keep.Map[string, string]
	pushers *keep.Map[string, []string]
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &tags{moving: v.Set("moving"), digests: newDigests(), pushers: newPushers()}
	entry := pattern.On(d.look, event.KindCall)
	entry.Programs = []string{"ecr:PutImage"}
	return pattern.Learned(about, d, entry), v.Err()
}

// memory is what outlives a start of the server: tags are moved months after they were
// pushed.
type memory struct {
	Digests []keep.Kept[string, string]   `json:"digests"`
	Pushers []keep.Kept[string, []string] `json:"pushers"`
}

// Memory is part of pattern.Learner.
func (d *tags) Memory() ([]byte, error) {
	if d.digests.Len() == 0 {
		return nil, nil
	}
	return json.Marshal(memory{d.digests.All(), d.pushers.All()})
}

// Remember is part of pattern.Learner.
func (d *tags) Remember(b []byte) error {
	var m memory
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	d.digests, d.pushers = newDigests(), newPushers()
	d.digests.Take(m.Digests)
	d.pushers.Take(m.Pushers)
	return nil
}

func newDigests() *keep.Map[string, string] { return keep.New[string, string](maxTags, remember) }

func newPushers() *keep.Map[string, []string] {
	return keep.New[string, []string](maxTags/8, remember)
}

func (d *tags) look(s *rule.Subject) *rule.Match {
	c := s.Event.Call
	if c == nil || c.Error != "" {
		return nil
	}
	var asked struct {
		Repository string `json:"repositoryName"`
		Tag        string `json:"imageTag"`
	}
	if json.Unmarshal(c.Request, &asked) != nil || asked.Tag == "" {
		return nil
	}
	digest := first(cloud.Values(cloud.Params(c.Response), "imageDigest"), cloud.Values(cloud.Params(c.Request), "imageDigest"))
	if digest == "" || len(digest) > 256 {
		return nil
	}
	now := s.Event.Time
	repository := threat.Clip(c.Account + "/" + c.Region + "/" + asked.Repository)
	pusher := c.Actor.Role
	if pusher == "" {
		pusher = c.Actor.ARN
	}
	known, stranger := d.pushed(repository, pusher, now)
	name := threat.Clip(repository + ":" + asked.Tag)
	at, ok := d.digests.Get(name, now)
	if !ok {
		d.digests.Put(name, digest, now)
		return nil
	}
	before := *at
	*at = digest
	if before == digest || d.moving[asked.Tag] && !(known && stranger) {
		return nil
	}
	says := fmt.Sprintf("%s pushed %s over the tag %s of %s, which was %s", &c.Actor, short(digest), asked.Tag, asked.Repository, short(before))
	if known && stranger {
		says += "; it never pushed there before"
	}
	return rule.MatchOf(s, says, repository, asked.Tag, digest)
}

// pushed notes who pushes to a repository. known says that somebody did before, and
// stranger that this one did not.
func (d *tags) pushed(repository, pusher string, now time.Time) (known, stranger bool) {
	at, ok := d.pushers.Get(repository, now)
	if !ok {
		d.pushers.Put(repository, []string{pusher}, now)
		return false, false
	}
	for _, p := range *at {
		if p == pusher {
			return true, false
		}
	}
	if len(*at) < maxPushers {
		*at = append(*at, pusher)
	}
	return true, true
}

func first(lists ...[]string) string {
	for _, l := range lists {
		if len(l) > 0 {
			return l[0]
		}
	}
	return ""
}

// short is enough of a digest to know it by.
func short(digest string) string {
	const letters = len("sha256:") + 12
	return digest[:min(len(digest), letters)]
}
