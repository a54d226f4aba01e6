package detections

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// MaxSilence is how long a silence may last: what is right for longer is tuned.
	MaxSilence = 366 * 24 * time.Hour
	// maxGroups bounds the groups of a silence.
	maxGroups = 100
	// maxPattern bounds a pattern of rules or groups, and what a silence is about.
	maxPattern = 512
)

// nameForm is what documents may be called: their names are in URLs and in problems.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Rule is a rule that holds, and how it fares on all hosts.
type Rule struct {
	threat.Rule
	Stats threat.RuleStats `json:"stats"`
	// Silences are those that are of it, by their rule.
	Silences []threat.Silence `json:"silences,omitempty"`
}

// Document is one that holds, and how many agents have it.
type Document struct {
	store.DetectionDocument
	// Current agents have all that holds, Behind ones do not yet. Of those of which
	// nothing was heard for a while neither is counted.
	Current int `json:"current"`
	Behind  int `json:"behind"`
	// Unusable is how many agents can't use it as it is, and Error what one of them says.
	Unusable int    `json:"unusable,omitempty"`
	Error    string `json:"error,omitempty"`
}

// heardLately is how long an agent's last word counts: it tells each minute.
const heardLately = 5 * time.Minute

// Rules returns all rules that hold, those that come with the program too. It needs
// access.ReadDetect.
func (s *Service) Rules(ctx context.Context, who access.Identity) ([]Rule, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	x, err := s.standing(ctx)
	if err != nil {
		return nil, err
	}
	s.flush(ctx)
	ids := make([]string, len(x.rules))
	for i, r := range x.rules {
		ids[i] = r.ID
	}
	all, err := s.Store.DetectionStats(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read how rules fare: %w", err)
	}
	stats := map[string]threat.RuleStats{}
	for _, st := range all {
		stats[st.Rule] = st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	out := make([]Rule, 0, len(x.rules))
	for _, r := range x.rules {
		one := Rule{Rule: *r, Stats: stats[r.ID]}
		one.Stats.Rule = r.ID
		for _, a := range s.agents {
			if e := a.errors[r.ID]; e != "" {
				one.Stats.Error = e
			}
		}
		for _, v := range x.hush {
			if now.Before(v.Until) && detect.Names(&v, r.ID) {
				one.Silences = append(one.Silences, v)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// Theme returns what a rule stands under; "" for one that is not known.
func (s *Service) Theme(ctx context.Context, rule string) string {
	x, err := s.standing(ctx)
	if err != nil {
		return "" // which a condition says
	}
	if i := slices.IndexFunc(x.rules, func(r *threat.Rule) bool { return r.ID == rule }); i >= 0 {
		return x.rules[i].Theme
	}
	return ""
}

// All returns the rules that hold, for nobody to change; none while they can't be
// read, which a condition says.
func (s *Service) All(ctx context.Context) []*threat.Rule {
	x, err := s.standing(ctx)
	if err != nil {
		return nil
	}
	return x.rules
}

// Rule returns one rule; NotFound if there is none. It needs access.ReadDetect.
func (s *Service) Rule(ctx context.Context, who access.Identity, id string) (Rule, error) {
	all, err := s.Rules(ctx, who)
	if err != nil {
		return Rule{}, err
	}
	i := slices.IndexFunc(all, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, fault.New(fault.NotFound, "there is no rule of detection %.80q", id).With("castellan detect rules lists those that there are")
	}
	return all[i], nil
}

// Documents returns those that hold. It needs access.ReadDetect.
func (s *Service) Documents(ctx context.Context, who access.Identity) ([]Document, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	x, err := s.standing(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	out := make([]Document, 0, len(x.documents))
	for _, d := range x.documents {
		d.Text = ""
		one := Document{DetectionDocument: d}
		for _, a := range s.agents {
			if now.Sub(a.seen) > heardLately {
				continue
			}
			if a.stamp == x.stamp {
				one.Current++
			} else {
				one.Behind++
			}
			if i := slices.IndexFunc(a.unusable, func(u link.UnusableText) bool { return u.Name == d.Name && u.Version == d.Version }); i >= 0 {
				one.Unusable++
				one.Error = a.unusable[i].Error
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// Document returns a version of a document, the newest with 0. It needs
// access.ReadDetect.
func (s *Service) Document(ctx context.Context, who access.Identity, name string, version int64) (store.DetectionDocument, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return store.DetectionDocument{}, err
	}
	return s.Store.DetectionDocument(ctx, name, version)
}

// Versions returns the history of a document as store.DetectionVersions does; NotFound
// if there is none. It needs access.ReadDetect.
func (s *Service) Versions(ctx context.Context, who access.Identity, name string, before int64, limit int) ([]store.DetectionDocument, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	all, err := s.Store.DetectionVersions(ctx, name, before, limit)
	if err == nil && len(all) == 0 && before == 0 {
		_, err = s.Store.DetectionDocument(ctx, name, 0)
	}
	return all, err
}

// Check says what would be wrong with a text as a document, beside the others that
// hold. It needs access.ReadDetect.
func (s *Service) Check(ctx context.Context, who access.Identity, name, text string) ([]written.Problem, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	return s.check(ctx, name, text)
}

// check compiles all documents with one of them changed, or without it where text is
// empty.
func (s *Service) check(ctx context.Context, name, text string) ([]written.Problem, error) {
	if !nameForm.MatchString(name) {
		return nil, fault.New(fault.Invalid, "a document can't be called %.80q", name).With("use small letters, digits, dots and hyphens, such as shop.yaml")
	}
	if len(text) > store.MaxDetectionDocument || !utf8.ValidString(text) {
		return []written.Problem{{File: name, Text: fmt.Sprintf("it is larger than %d bytes, or no text", store.MaxDetectionDocument)}}, nil
	}
	documents, err := s.Store.DetectionDocuments(ctx)
	if err != nil {
		return nil, fmt.Errorf("read rules of detection: %w", err)
	}
	documents = slices.DeleteFunc(documents, func(d store.DetectionDocument) bool { return d.Name == name })
	if text != "" {
		documents = append(documents, store.DetectionDocument{Name: name, Text: text})
	}
	size := 0
	for i := range documents {
		size += len(documents[i].Text)
	}
	if size > link.MaxDetectionBytes {
		return []written.Problem{{File: name, Text: fmt.Sprintf("all documents together have %d bytes; at most %d are taken", size, link.MaxDetectionBytes)}}, nil
	}
	err = detect.Check(textsOf(documents))
	if problems := written.ProblemsOf(err); problems != nil {
		return problems, nil
	}
	return nil, err
}

// Set makes a text the document of that name, if its newest version is after, 0 for
// none: else Conflict. What can't be used is Invalid, and changes nothing. Agents are
// told. It needs access.WriteDetect.
func (s *Service) Set(ctx context.Context, who access.Identity, name, text, comment string, after int64) (store.DetectionDocument, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return store.DetectionDocument{}, err
	}
	if text == "" {
		return store.DetectionDocument{}, fault.New(fault.Invalid, "document %s is empty", name).With("to remove it: castellan detect rm " + name)
	}
	return s.put(ctx, who, store.DetectionDocument{Name: name, Text: text, Comment: comment}, after)
}

// Remove has a document hold no more, as Set does. It needs access.WriteDetect.
func (s *Service) Remove(ctx context.Context, who access.Identity, name, comment string, after int64) (store.DetectionDocument, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return store.DetectionDocument{}, err
	}
	newest, err := s.Store.DetectionDocument(ctx, name, 0)
	if err != nil {
		return store.DetectionDocument{}, err
	}
	if newest.Removed {
		return store.DetectionDocument{}, fault.New(fault.NotFound, "document %s is removed already", name)
	}
	return s.put(ctx, who, store.DetectionDocument{Name: name, Comment: comment, Removed: true}, after)
}

func (s *Service) put(ctx context.Context, who access.Identity, d store.DetectionDocument, after int64) (store.DetectionDocument, error) {
	if err := audit.CheckComment(d.Comment); err != nil {
		return d, err
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	problems, err := s.check(ctx, d.Name, d.Text)
	if err != nil {
		return d, err
	}
	if len(problems) > 0 {
		return d, written.Refused(problems)
	}
	d.Actor, d.Created = who.Actor, s.Clock()
	stored, err := s.Store.PutDetectionDocument(ctx, d, after)
	if err != nil {
		return d, err
	}
	what := "set"
	if d.Removed {
		what = "removed"
	}
	return stored, s.changed(ctx, who, "detect.document", fmt.Sprintf("%s:%d", stored.Name, stored.Version), strings.TrimSpace(what+" "+d.Comment))
}

// Silences returns those that hold beside documents, or all that are kept. It needs
// access.ReadDetect.
func (s *Service) Silences(ctx context.Context, who access.Identity, all bool) ([]store.DetectionSilence, error) {
	if err := who.Need(access.ReadDetect); err != nil {
		return nil, err
	}
	at := s.Clock()
	if all {
		at = time.Time{}
	}
	return s.Store.DetectionSilences(ctx, at)
}

// Silence has a rule not be heard in some groups for a while. It needs
// access.WriteDetect.
func (s *Service) Silence(ctx context.Context, who access.Identity, v threat.Silence) (store.DetectionSilence, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return store.DetectionSilence{}, err
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	x, err := s.standing(ctx)
	if err != nil {
		return store.DetectionSilence{}, err
	}
	now := s.Clock()
	if err := checkSilence(&v, x, now); err != nil {
		return store.DetectionSilence{}, err
	}
	v.By = who.Actor
	stored, err := s.Store.PutDetectionSilence(ctx, store.DetectionSilence{Silence: v, Created: now})
	if err != nil {
		return stored, err
	}
	return stored, s.changed(ctx, who, "detect.silence", fmt.Sprintf("silence:%d", stored.ID),
		fmt.Sprintf("%s in %s until %s: %s", v.Rule, groupsOf(&v), v.Until.UTC().Format(time.RFC3339), v.Reason))
}

func groupsOf(v *threat.Silence) string {
	if len(v.Groups) == 0 {
		return "all groups"
	}
	return strings.Join(v.Groups, ", ")
}

func checkSilence(v *threat.Silence, x *standing, now time.Time) error {
	for _, s := range append([]string{v.Rule, v.About}, v.Groups...) {
		if len(s) > maxPattern || !utf8.ValidString(s) {
			return fault.New(fault.Invalid, "a rule, a group, or what a silence is about is longer than %d bytes, or no text", maxPattern)
		}
	}
	if v.Reason = strings.TrimSpace(v.Reason); v.Reason == "" || len(v.Reason) > audit.MaxComment || !utf8.ValidString(v.Reason) {
		return fault.New(fault.Invalid, "a silence needs a reason, of %d bytes at most", audit.MaxComment)
	}
	switch {
	case len(v.Groups) > maxGroups || slices.Contains(v.Groups, ""):
		return fault.New(fault.Invalid, "a silence has %d groups, or one without a name; at most %d are taken", len(v.Groups), maxGroups)
	case !v.Until.After(now):
		return fault.New(fault.Invalid, "the silence would be over already")
	case v.Until.Sub(now) > MaxSilence:
		return fault.New(fault.Invalid, "a silence lasts a year at most").With("what is right for ever is tuned: change the rule's parameters, or switch it off")
	case !slices.ContainsFunc(x.rules, func(r *threat.Rule) bool { return detect.Names(v, r.ID) }):
		return fault.New(fault.Invalid, "no rule is called %.80q", v.Rule).With("castellan detect rules lists those that there are; * stands for any part")
	}
	return nil
}

// Unsilence ends a silence. It needs access.WriteDetect.
func (s *Service) Unsilence(ctx context.Context, who access.Identity, id int64) (store.DetectionSilence, error) {
	if err := who.Need(access.WriteDetect); err != nil {
		return store.DetectionSilence{}, err
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	v, err := s.Store.EndDetectionSilence(ctx, id, who.Actor, s.Clock())
	if err != nil {
		return v, err
	}
	return v, s.changed(ctx, who, "detect.unsilence", fmt.Sprintf("silence:%d", id), v.Rule)
}

// changed puts in force what was stored, tells the agents, and writes the audit log.
func (s *Service) changed(ctx context.Context, who access.Identity, action, target, detail string) error {
	within, cancel := audit.Outlive(ctx) // what was stored holds
	defer cancel()
	_, err := s.load(within)
	return errors.Join(err, audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, action, target, detail))
}
