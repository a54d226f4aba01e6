package server

import (
	"net/http"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

// maxDetectBody bounds a body with a document in it, which may be all escapes.
const maxDetectBody = 6*store.MaxDetectionDocument + 4<<10

type detectRuleQuery struct {
	Theme string `query:"theme" maxLength:"64" doc:"What they stand under: escape, shell, miner, …"`
}

type detectRuleList struct {
	Rules []detections.Rule `json:"rules" nullable:"false" doc:"Those that hold, by theme as they are written"`
}

// DetectRuleName names a rule. It is exported because huma looks only at exported fields.
type DetectRuleName struct {
	ID string `path:"id" maxLength:"64"`
}

// DetectDocumentName names a document of rules.
type DetectDocumentName struct {
	Name string `path:"name" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._-]*$" doc:"Small letters, digits, dots and hyphens"`
}

type detectDocumentQuery struct {
	DetectDocumentName
	Version int64 `query:"version" minimum:"0" doc:"The newest unless given"`
}

type detectDocumentForm struct {
	DetectDocumentName
	Body struct {
		Text    string `json:"text" maxLength:"262144" doc:"Rules, lists, changes and silences, in YAML"`
		Comment string `json:"comment,omitempty" maxLength:"500" doc:"Why it is changed"`
		After   int64  `json:"after" minimum:"0" doc:"The version that was changed, 0 for none: it must be the newest still"`
	}
}

type detectRemoval struct {
	DetectDocumentName
	After   int64  `query:"after" minimum:"1" required:"true" doc:"The version that is removed: it must be the newest still"`
	Comment string `query:"comment" maxLength:"500" doc:"Why"`
}

type detectVersionQuery struct {
	DetectDocumentName
	Before int64 `query:"before" minimum:"0" doc:"Continue behind this version"`
	Limit  int   `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type detectDocumentList struct {
	Documents []detections.Document `json:"documents" nullable:"false" doc:"Without their texts, by name"`
}

type detectVersionList struct {
	Versions []store.DetectionDocument `json:"versions" nullable:"false" doc:"Without their texts, the newest first"`
}

type detectCheckForm struct {
	Body struct {
		Name string `json:"name" maxLength:"64" doc:"Of the document that it is to be, or to replace"`
		Text string `json:"text" maxLength:"262144"`
	}
}

// detectProblem is what is wrong with a document at one place.
type detectProblem struct {
	File   string `json:"file" doc:"Name of the document"`
	Line   int    `json:"line" doc:"From 1; 0 if it is about the whole"`
	Column int    `json:"column" doc:"From 1"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

type detectProblems struct {
	Problems []detectProblem `json:"problems" nullable:"false" doc:"What is wrong, in this document or for its sake in others; empty: it would be taken"`
}

type detectSilenceForm struct {
	Body struct {
		Rule   string    `json:"rule" minLength:"1" maxLength:"512" doc:"Id of a rule, or a pattern with *"`
		Groups []string  `json:"groups,omitempty" maxItems:"100" doc:"Patterns of groups; none is all of them"`
		About  string    `json:"about,omitempty" maxLength:"512" doc:"Only threats in whose summary, files, program or peers that text occurs"`
		Reason string    `json:"reason" minLength:"1" maxLength:"500"`
		Until  time.Time `json:"until" doc:"From then on it is heard again, within a year"`
	}
}

type detectSilenceQuery struct {
	All bool `query:"all" doc:"Also those that are over"`
}

type detectSilenceList struct {
	Silences []store.DetectionSilence `json:"silences" nullable:"false" doc:"Those beside documents, the newest first"`
}

// DetectSilenceNumber names a silence.
type DetectSilenceNumber struct {
	ID int64 `path:"id" minimum:"1"`
}

func (a *api) detectRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/detect/rules", id: "list-detection-rules", tag: "detect", scope: access.ReadDetect,
		summary: "Rules of detection that hold, and how they fare on all hosts",
	}, func(q ask[detectRuleQuery]) (*body[detectRuleList], error) {
		all, err := a.detections.Rules(q.ctx, q.who)
		out := []detections.Rule{}
		for _, r := range all {
			if q.input.Theme == "" || r.Theme == q.input.Theme {
				out = append(out, r)
			}
		}
		return &body[detectRuleList]{detectRuleList{out}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/detect/rules/{id}", id: "get-detection-rule", tag: "detect", scope: access.ReadDetect,
		summary: "One rule of detection",
	}, func(q ask[DetectRuleName]) (*body[detections.Rule], error) {
		r, err := a.detections.Rule(q.ctx, q.who, q.input.ID)
		return &body[detections.Rule]{r}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/detect/check", id: "check-detection-document", tag: "detect", scope: access.ReadDetect, most: maxDetectBody,
		summary: "What is wrong with a text as a document of rules, beside those that hold",
	}, func(q ask[detectCheckForm]) (*body[detectProblems], error) {
		problems, err := a.detections.Check(q.ctx, q.who, q.input.Body.Name, q.input.Body.Text)
		told := make([]detectProblem, 0, len(problems))
		for _, p := range problems {
			told = append(told, detectProblem{p.File, p.Line, p.Column, p.Text, p.Remedy})
		}
		return &body[detectProblems]{detectProblems{told}}, err
	})
	a.detectDocumentRoutes()
	a.detectSilenceRoutes()
}

func (a *api) detectDocumentRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/detect/documents", id: "list-detection-documents", tag: "detect", scope: access.ReadDetect,
		summary: "Documents of rules that people wrote, and how many agents have them",
	}, func(q ask[struct{}]) (*body[detectDocumentList], error) {
		all, err := a.detections.Documents(q.ctx, q.who)
		return &body[detectDocumentList]{detectDocumentList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/detect/documents/{name}", id: "get-detection-document", tag: "detect", scope: access.ReadDetect,
		summary: "A document of rules, or a version of it",
	}, func(q ask[detectDocumentQuery]) (*body[store.DetectionDocument], error) {
		d, err := a.detections.Document(q.ctx, q.who, q.input.Name, q.input.Version)
		return &body[store.DetectionDocument]{d}, err
	})
	handle(a, route{
		method: http.MethodPut, path: "/detect/documents/{name}", id: "set-detection-document", tag: "detect", scope: access.WriteDetect, most: maxDetectBody,
		summary: "Write a document of rules", about: "Agents are told, and hold what happens from then on against it.",
	}, func(q ask[detectDocumentForm]) (*body[store.DetectionDocument], error) {
		b := &q.input.Body
		d, err := a.detections.Set(q.ctx, q.who, q.input.Name, b.Text, b.Comment, b.After)
		return &body[store.DetectionDocument]{d}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/detect/documents/{name}", id: "remove-detection-document", tag: "detect", scope: access.WriteDetect,
		summary: "Remove a document of rules", about: "Its history is kept.",
	}, func(q ask[detectRemoval]) (*body[store.DetectionDocument], error) {
		d, err := a.detections.Remove(q.ctx, q.who, q.input.Name, q.input.Comment, q.input.After)
		return &body[store.DetectionDocument]{d}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/detect/documents/{name}/versions", id: "list-detection-versions", tag: "detect", scope: access.ReadDetect,
		summary: "The history of a document of rules",
	}, func(q ask[detectVersionQuery]) (*body[detectVersionList], error) {
		all, err := a.detections.Versions(q.ctx, q.who, q.input.Name, q.input.Before, q.input.Limit)
		return &body[detectVersionList]{detectVersionList{list(all)}}, err
	})
}

func (a *api) detectSilenceRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/detect/silences", id: "list-detection-silences", tag: "detect", scope: access.ReadDetect,
		summary: "Where rules of detection are not heard", about: "Silences in documents are not among them.",
	}, func(q ask[detectSilenceQuery]) (*body[detectSilenceList], error) {
		all, err := a.detections.Silences(q.ctx, q.who, q.input.All)
		return &body[detectSilenceList]{detectSilenceList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/detect/silences", id: "silence-detection-rule", tag: "detect", scope: access.WriteDetect, status: http.StatusCreated,
		summary: "Have a rule not be heard in some groups for a while",
	}, func(q ask[detectSilenceForm]) (*body[store.DetectionSilence], error) {
		b := &q.input.Body
		s, err := a.detections.Silence(q.ctx, q.who, threat.Silence{Rule: b.Rule, Groups: b.Groups, About: b.About, Reason: b.Reason, Until: b.Until})
		return &body[store.DetectionSilence]{s}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/detect/silences/{id}", id: "end-detection-silence", tag: "detect", scope: access.WriteDetect,
		summary: "End a silence",
	}, func(q ask[DetectSilenceNumber]) (*body[store.DetectionSilence], error) {
		s, err := a.detections.Unsilence(q.ctx, q.who, q.input.ID)
		return &body[store.DetectionSilence]{s}, err
	})
}
