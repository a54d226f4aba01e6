package story_test

import (
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/detect/story"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// A call by credentials of a container is of the container's story for as long as they
// hold, and one by another session is not.
func TestCallsByCredentialsAreOfTheirContainersStory(t *testing.T) {
	at := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	made := func(rule, workload, actor string, when time.Time) *threat.Threat {
		x := &threat.Threat{
			Version: 1, Rule: rule, Title: "Something", Severity: finding.High, Tactic: threat.CredentialAccess, Summary: rule + " happened", Count: 1, First: when, Last: when,
			WorkloadID: workload, Evidence: []threat.Evidence{{Boot: rule, Time: when}},
		}
		if actor != "" {
			x.Call = &threat.Call{ID: rule, Name: "s3:ListBuckets", Account: "123456789012", Actor: actor}
		}
		x.Print = threat.PrintOf(rule, "", workload, event.Key{}, actor)
		return x
	}
	b := story.NewBook()
	now := at.Add(12 * time.Hour)
	inside := b.Take(made("credentials-metadata-tool", "w1", "", at), now)
	used := b.Take(made("trail-session-elsewhere", "w1", "arn:session", at.Add(5*time.Hour)), now)
	if inside.Whole() != used.Whole() {
		t.Error("credentials that were used five hours later are a story of their own")
	}
	if late := b.Take(made("trail-denied-burst", "w1", "arn:third", at.Add(11*time.Hour+time.Minute)), now); late.Whole() == used.Whole() {
		t.Error("six hours after the last of it, it is the same story")
	}
	other := b.Take(made("trail-port-open", "", "arn:other", at.Add(5*time.Hour)), now)
	if other.Whole() == used.Whole() {
		t.Error("another session is of the same story")
	}
	if again := b.Take(made("trail-key-created", "", "arn:other", at.Add(5*time.Hour+50*time.Minute)), now); again.Whole() != other.Whole() {
		t.Error("what a session does within the hour is another story")
	}
	i := other.Whole().Incident(now)
	if !strings.HasPrefix(i.Story, "In account 123456789012, ") || len(i.Calls) != 1 || !strings.Contains(i.Title, "in account 123456789012") {
		t.Errorf("title %q, story %q, calls %v", i.Title, i.Story, i.Calls)
	}
}
