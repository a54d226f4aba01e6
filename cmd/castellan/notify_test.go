package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/castellan-security/castellan/internal/notice"
)

// startReceiver starts a receiver of webhooks for a script: receiver NAME puts
// its address into a variable, and the newest request it got into the file NAME.
// It refuses those to /full.
func startReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: receiver NAME")
	}
	file := filepath.Join(ts.Getenv("WORK"), args[0])
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/full" {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(file, []byte(r.Header.Get("Castellan-Signature")+"\n"+string(b)+"\n"), 0o600)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// TestSchemaOfNotifications holds the schema in the documentation against what
// is sent: each property is there, and no other.
func TestSchemaOfNotifications(t *testing.T) {
	doc, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```json schema\n")
	text, _, ended := strings.Cut(rest, "```")
	if !ok || !ended {
		t.Fatal("docs/notifications.md has no schema")
	}
	var schema node
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		t.Fatalf("read the schema: %v", err)
	}
	full := notice.Notification{LeftOut: 1, Text: "t", Notices: []notice.Notice{{
		ID: "i", Subject: "s", Resolved: true, Detail: "d", Rule: "r", Count: 2, Owner: "o", Techniques: []notice.Technique{{ID: "T1", Name: "n", Tactic: "t"}},
		Workload: &notice.Workload{ID: "i", Group: "g", Groups: []string{"h"}, Account: "a", Region: "r", Cluster: "c", Task: "t", Container: "c", Host: "h", Image: "i"},
		Remedy:   "r", LeftOut: 1, Image: &notice.Image{References: []string{"a"}, Digest: "d", Groups: []string{"g"}},
		Findings: []notice.Finding{{Fixed: "2", Exploited: true, InUse: true, Remedy: "r"}},
		Outside:  []notice.Outside{{Sentence: "s"}},
	}}}
	holdOpen(t, "notification", &schema, full, true)
	holdOpen(t, "notification", &schema, notice.Notification{Notices: []notice.Notice{{}}}, false)
}

// node is the part of JSON Schema that the documentation uses.
type node struct {
	Properties map[string]*node `json:"properties"`
	Required   []string         `json:"required"`
	Items      *node            `json:"items"`
}

// holdOpen reports what v has and the schema does not, and what it lacks: of all
// properties, or of those that are required.
func holdOpen(t *testing.T, at string, s *node, v any, all bool) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var x any
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	s.holdOpen(t, at, x, all)
}

func (s *node) holdOpen(t *testing.T, at string, x any, all bool) {
	t.Helper()
	switch x := x.(type) {
	case []any:
		if s.Items == nil {
			t.Errorf("%s: the schema has no items", at)
			return
		}
		for _, e := range x {
			s.Items.holdOpen(t, at+"[]", e, all)
		}
	case map[string]any:
		for name, e := range x {
			p := s.Properties[name]
			if p == nil {
				t.Errorf("%s.%s is not in the schema", at, name)
				continue
			}
			p.holdOpen(t, at+"."+name, e, all)
		}
		need := s.Required
		if all {
			need = nil
			for name := range s.Properties {
				need = append(need, name)
			}
		}
		for _, name := range need {
			if _, ok := x[name]; !ok {
				t.Errorf("%s.%s is in the schema and never sent", at, name)
			}
		}
	}
}
