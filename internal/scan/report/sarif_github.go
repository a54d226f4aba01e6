package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// What GitHub's code scanning takes of one file; what is beyond is left out there
// without a word, or makes it refuse the whole file.
const (
	githubRuns      = 20    // refused beyond
	githubResults   = 5_000 // left out beyond, by an order of its own
	githubLocations = 100   // of one result: left out beyond
	githubTags      = 20    // of one rule: refused beyond
)

// writeSARIFGitHub writes SARIF as GitHub's code scanning can use it. GitHub shows
// what is suppressed as if it were not, so that is left out.
func writeSARIFGitHub(w io.Writer, reports []Report, o Options) error {
	log := sarifLogOf(reports, o)
	if len(log.Runs) > githubRuns {
		return fmt.Errorf("%d subjects: GitHub takes at most %d in one file; scan some of them apart", len(log.Runs), githubRuns)
	}
	for i := range log.Runs {
		log.Runs[i].forGitHub()
	}
	return encode(w, log)
}

func (run *sarifRun) forGitHub() {
	run.Results = slices.DeleteFunc(run.Results, func(r sarifResult) bool { return len(r.Suppressions) > 0 })
	if len(run.Results) > githubResults {
		slices.SortStableFunc(run.Results, func(a, b sarifResult) int { return cmp.Compare(b.severity, a.severity) })
		left := len(run.Results) - githubResults
		run.Results = run.Results[:githubResults]
		if len(run.Invocations) == 0 {
			run.Invocations = []sarifInvocation{{Successful: true}}
		}
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications,
			sarifNotification{Level: "warning", Message: sarifText{fmt.Sprintf("the %d gravest are here, %d more in the other forms", githubResults, left)}})
	}
	for i := range run.Results {
		r := &run.Results[i]
		r.Locations = r.Locations[:min(len(r.Locations), githubLocations)]
		// By this alone GitHub knows a result again; it cannot make it of files that
		// are in no repository.
		own := r.Fingerprints["castellan/v1"]
		r.Fingerprints = map[string]string{"castellan/v1": own, "primaryLocationLineHash": firstOf(r.lasting, own)}
	}
	for _, rule := range run.Tool.Driver.Rules {
		if tags, ok := rule.Properties["tags"].([]string); ok {
			rule.Properties["tags"] = tags[:min(len(tags), githubTags)]
		}
	}
}

// locate gives each result a place: GitHub refuses a file in which one has none.
// What stands in no file is of the subject as a whole.
func (run *sarifRun) locate(r *Report) {
	subject := sarifPhysical{sarifArtifact{uriPath(firstOf(r.repository(), r.title(), "image"))}, sarifRegion{StartLine: 1}}
	for i := range run.Results {
		if res := &run.Results[i]; len(res.Locations) == 0 {
			res.Locations = []sarifLocation{{Physical: subject, Message: &sarifText{"of " + r.title() + " as a whole"}}}
		}
	}
}
